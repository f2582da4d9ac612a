import { spawn, type SpawnOptions } from 'node:child_process';
import { createWriteStream, type WriteStream } from 'node:fs';
import { once } from 'node:events';

/** A step of the build that failed; the message has the log's last lines and where the whole log is. */
export class BuildError extends Error {
  override readonly name = 'BuildError';
  readonly code = 'ERR_QEMU_BUILD';
}

export interface CommandOptions {
  cwd?: string;
  env?: Record<string, string | undefined>;
  /** Gets stdout and stderr; stdout is then not returned. */
  log?: BuildLog;
  signal?: AbortSignal | undefined;
}

const TAIL_LINES = 25;

/** The whole log of a step in a file, its last lines in memory. */
export class BuildLog {
  readonly path: string;
  readonly #file: WriteStream;
  #tail = '';

  constructor(path: string) {
    this.path = path;
    this.#file = createWriteStream(path);
  }

  write(chunk: string | Buffer): void {
    this.#file.write(chunk);
    this.#tail = (this.#tail + chunk.toString()).slice(-16384);
  }

  tail(): string {
    return this.#tail.trimEnd().split('\n').slice(-TAIL_LINES).join('\n');
  }

  async close(): Promise<void> {
    this.#file.end();
    await once(this.#file, 'close');
  }
}

/** Runs a program and returns its stdout. Throws a BuildError unless it exits with 0. */
export async function command(
  program: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  const { log } = options;
  options.signal?.throwIfAborted();
  log?.write(`$ ${[program, ...args].join(' ')}\n`);
  const spawnOptions: SpawnOptions = {
    cwd: options.cwd,
    env: { ...process.env, LC_ALL: 'C.UTF-8', ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  };
  const child = spawn(program, args, spawnOptions);
  const abort = (): void => void child.kill('SIGTERM');
  options.signal?.addEventListener('abort', abort, { once: true });
  const stdout: Buffer[] = [];
  let errors = '';
  child.stdout?.on('data', (chunk: Buffer) => (log ? log.write(chunk) : stdout.push(chunk)));
  child.stderr?.on('data', (chunk: Buffer) => {
    if (log) log.write(chunk);
    else errors = (errors + chunk.toString()).slice(-4096);
  });
  try {
    const [status, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
    options.signal?.throwIfAborted();
    if (status === 0) return Buffer.concat(stdout).toString();
    const how = signal === null ? `exited with ${status}` : `was ended by ${signal}`;
    const words = log ? `${log.tail()}\nThe whole log: ${log.path}` : errors.trimEnd();
    throw new BuildError(`${program} ${how}:\n${words}`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' && (error as { path?: string }).path === program) {
      throw new BuildError(`${program} is not installed on this host`, { cause: error });
    }
    throw error;
  } finally {
    options.signal?.removeEventListener('abort', abort);
  }
}
