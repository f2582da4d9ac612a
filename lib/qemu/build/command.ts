import { spawn } from 'node:child_process';
import { closeSync, constants, fstatSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { access } from 'node:fs/promises';
import { once } from 'node:events';
import { delimiter, join } from 'node:path';
import { stopWithUs } from '../suspension.js';

/** A step of the build that failed; the message has the log's last lines and where the whole log is. */
export class BuildError extends Error {
  override readonly name = 'BuildError';
  readonly code = 'ERR_QEMU_BUILD';
}

/** A program that did not exit with 0. */
export class CommandError extends BuildError {
  /** Null where a signal ended it. */
  readonly status: number | null;

  constructor(message: string, status: number | null) {
    super(message);
    this.status = status;
  }
}

export interface CommandOptions {
  cwd?: string;
  /** Variables beside those of `base`. */
  env?: Record<string, string | undefined>;
  /** What the program inherits; this process's whole environment unless told otherwise. */
  base?: NodeJS.ProcessEnv;
  /** Gets stdout and stderr; stdout is then not returned. */
  log?: BuildLog;
  signal?: AbortSignal | undefined;
}

const TAIL_LINES = 25;
const TAIL_BYTES = 16384;

/** How long a program may take to end when it was told to. */
const KILL_DELAY = 5_000;

/**
 * Becomes the program, and leaves a guard in its process group that ends the group once this process is gone, however
 * it went: then standard input, a pipe from here, is at its end. Not a child of the program, which could wait for it.
 * SIGINT, as from a terminal: make removes half-made files, fakeroot ends its daemon.
 */
const GUARDED = `
  exec 3<&0 </dev/null
  (( trap '' HUP INT TERM; read -r line; kill -INT 0; sleep ${KILL_DELAY / 1000}; kill -KILL 0 ) <&3 >/dev/null 2>&1 &)
  exec "$@" 3<&-`;

/** The whole log of a step in a file. Programs write to it themselves: what they say outlives this process. */
export class BuildLog {
  readonly path: string;
  readonly descriptor: number;
  #isOpen = true;

  constructor(path: string) {
    this.path = path;
    this.descriptor = this.#orFail(() => {
      rmSync(path, { force: true });
      // For appending: a program's lines and ours do not overwrite each other.
      return openSync(path, 'a+');
    });
  }

  /** Throws a BuildError where the log cannot be written: on a full disk nothing else can, either. */
  write(text: string): void {
    this.#orFail(() => writeSync(this.descriptor, text));
  }

  get size(): number {
    return fstatSync(this.descriptor).size;
  }

  /**
   * The last lines.
   * @param from what was written before is left out, in bytes
   */
  tail(from = 0): string {
    const { size } = this;
    const bytes = Buffer.alloc(Math.min(Math.max(size - from, 0), TAIL_BYTES));
    readSync(this.descriptor, bytes, 0, bytes.length, size - bytes.length);
    return bytes.toString().trimEnd().split('\n').slice(-TAIL_LINES).join('\n');
  }

  close(): void {
    if (this.#isOpen) closeSync(this.descriptor);
    this.#isOpen = false;
  }

  #orFail<T>(work: () => T): T {
    try {
      return work();
    } catch (cause) {
      throw new BuildError(`${this.path} could not be written: ${(cause as Error).message}`, { cause });
    }
  }
}

/** Runs a program and returns its stdout. Throws a BuildError unless it exits with 0. */
export async function command(
  program: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  const { log, signal, cwd } = options;
  signal?.throwIfAborted();
  const from = log?.size;
  log?.write(`$ ${[program, ...args].join(' ')}\n`);
  const child = spawn('/bin/sh', ['-c', GUARDED, 'sh', program, ...args], {
    cwd,
    env: { ...(options.base ?? process.env), LC_ALL: 'C.UTF-8', ...options.env },
    stdio: ['pipe', log?.descriptor ?? 'pipe', log?.descriptor ?? 'pipe'],
    // A process group of its own, so that an abort reaches what the program started, too.
    detached: true,
  });
  const forget = stopWithUs(child.pid && -child.pid);
  // The guard, and whatever the program left running: it could hold our ends of the pipes.
  child.once('exit', () => {
    killGroup(child.pid, 'SIGKILL');
    child.stdin?.destroy();
  });
  let timer: NodeJS.Timeout | undefined;
  const abort = (): void => {
    killGroup(child.pid, 'SIGINT');
    timer = setTimeout(() => killGroup(child.pid, 'SIGKILL'), KILL_DELAY);
  };
  signal?.addEventListener('abort', abort, { once: true });
  const stdout: Buffer[] = [];
  let errors = '';
  child.stdout?.on('data', (chunk: Buffer) => stdout.push(chunk));
  child.stderr?.on('data', (chunk: Buffer) => {
    errors = (errors + chunk.toString()).slice(-4096);
  });
  try {
    const [status, ended] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
    signal?.throwIfAborted();
    if (status === 0) return Buffer.concat(stdout).toString();
    if (status === 127 && !(await isInstalled(program))) {
      throw new BuildError(`${program} is not installed on this host`);
    }
    const how = ended === null ? `exited with ${status}` : `was ended by ${ended}`;
    const words = log ? `${log.tail(from)}\nThe whole log: ${log.path}` : errors.trimEnd();
    throw new CommandError(`${program} ${how}:\n${words}`, status);
  } finally {
    forget();
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
}

function killGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // It has ended.
  }
}

/** Whether a program can be started, by its path or from PATH. */
export async function isInstalled(program: string): Promise<boolean> {
  const folders = program.includes('/') ? [''] : (process.env['PATH'] ?? '').split(delimiter);
  for (const folder of folders) {
    const found = await access(join(folder, program), constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return true;
  }
  return false;
}
