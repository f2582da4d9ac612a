import { spawn } from 'node:child_process';
import { createWriteStream, type WriteStream } from 'node:fs';
import { once } from 'node:events';

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

/** How long a program may take to end when it was told to. */
const KILL_DELAY = 5_000;

/** The whole log of a step in a file, its last lines in memory. */
export class BuildLog {
  readonly path: string;
  readonly #file: WriteStream;
  #tail = '';
  #failure: Error | undefined;

  constructor(path: string) {
    this.path = path;
    this.#file = createWriteStream(path);
    this.#file.on('error', (error) => (this.#failure ??= error));
  }

  write(chunk: string | Buffer): void {
    this.#file.write(chunk);
    this.#tail = (this.#tail + chunk.toString()).slice(-16384);
  }

  tail(): string {
    return this.#tail.trimEnd().split('\n').slice(-TAIL_LINES).join('\n');
  }

  /** Throws a BuildError where the log could not be written: on a full disk nothing else was, either. */
  async close(): Promise<void> {
    this.#file.end();
    if (!this.#file.closed) await once(this.#file, 'close').catch(() => {});
    if (this.#failure) {
      throw new BuildError(`${this.path} could not be written: ${this.#failure.message}`);
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
  log?.write(`$ ${[program, ...args].join(' ')}\n`);
  const child = spawn(program, args, {
    cwd,
    env: { ...(options.base ?? process.env), LC_ALL: 'C.UTF-8', ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    // A process group of its own, so that an abort reaches what the program started, too.
    detached: true,
  });
  let timer: NodeJS.Timeout | undefined;
  const abort = (): void => {
    killGroup(child.pid, 'SIGTERM');
    timer = setTimeout(() => killGroup(child.pid, 'SIGKILL'), KILL_DELAY);
  };
  signal?.addEventListener('abort', abort, { once: true });
  const stdout: Buffer[] = [];
  let errors = '';
  child.stdout.on('data', (chunk: Buffer) => (log ? log.write(chunk) : stdout.push(chunk)));
  child.stderr.on('data', (chunk: Buffer) => {
    if (log) log.write(chunk);
    else errors = (errors + chunk.toString()).slice(-4096);
  });
  try {
    const [status, ended] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
    signal?.throwIfAborted();
    if (status === 0) return Buffer.concat(stdout).toString();
    const how = ended === null ? `exited with ${status}` : `was ended by ${ended}`;
    const words = log ? `${log.tail()}\nThe whole log: ${log.path}` : errors.trimEnd();
    throw new CommandError(`${program} ${how}:\n${words}`, status);
  } catch (error) {
    const { code, path } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' && path === program) {
      throw new BuildError(`${program} is not installed on this host`, { cause: error });
    }
    throw error;
  } finally {
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
