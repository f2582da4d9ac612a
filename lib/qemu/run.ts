import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import type { Readable, Writable } from 'node:stream';
import type { AgentProcess, ExitStatus } from './agent.js';
import { Guest } from './guest.js';
import { GuestError } from './guest-error.js';
import type { Machine } from './machine.js';
import type { TerminalSize } from './protocol.js';

/** Exit statuses that are not the command's own. */
const TIMED_OUT = 124;
const GUEST_FAILED = 125;
const NOT_EXECUTABLE = 126;
const NOT_FOUND = 127;
const SIGNALLED = 128;

export interface RunnerOptions {
  readonly machine: Machine;
  /** Empty: a shell, which reads standard input where that is no terminal. */
  readonly command: readonly string[];
  readonly share?: string | undefined;
  readonly tas?: readonly string[] | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
  readonly user?: string | undefined;
  /** ext4 image for the share's `node_modules`. */
  readonly nodeModules?: string | undefined;
  /** Milliseconds for the command, the boot not included. */
  readonly timeout?: number | undefined;
  /** Both logs live on standard error. */
  readonly verbose?: boolean | undefined;
}

/**
 * Boots a guest, runs one command in it with this process's standard streams, and ends the guest.
 * @returns the exit status for this process: the command's own, or one of those above
 * @throws TypeError for options that cannot be used
 */
export async function runCommand(options: RunnerOptions): Promise<number> {
  const interruption = new Interruption();
  const { machine, share, tas, env, user, nodeModules, verbose } = options;
  // Whoever reads the logs may go before the guest has come up.
  process.stderr.on('error', () => {});
  let guest: Guest | undefined;
  try {
    const { signal } = interruption;
    const log = verbose ? process.stderr : undefined;
    guest = await Guest.boot({ machine, share, tas, env, user, nodeModules, verbose: log, signal });
    return await runIn(guest, options);
  } catch (error) {
    if (interruption.status !== undefined) return interruption.status;
    if (!(error instanceof GuestError)) throw error;
    return report(error, verbose ?? false);
  } finally {
    await guest?.close();
    interruption.end();
  }
}

async function runIn(guest: Guest, { command, timeout }: RunnerOptions): Promise<number> {
  const isShell = command.length === 0;
  const isTerminal = process.stdin.isTTY === true;
  const terminal = isShell && isTerminal ? terminalSize() : undefined;
  const argv = isShell ? (terminal ? ['sh', '-l'] : ['sh']) : command;
  const started = guest.spawn(argv, { terminal, stdin: !isTerminal });
  const input = terminal ? connectTerminal(started) : isTerminal ? undefined : connectInput(started);
  const outputs = [forward(started.stdout, process.stdout), forward(started.stderr, process.stderr)];
  try {
    const exit = await within(timeout, started.exit);
    if (exit === undefined) {
      process.stderr.write(`node-optee qemu: ${argv[0]} did not end within ${(timeout ?? 0) / 1000} s\n`);
      return TIMED_OUT;
    }
    await Promise.all(outputs);
    return exit.signal === null ? (exit.status ?? GUEST_FAILED) : SIGNALLED + constants.signals[exit.signal];
  } finally {
    input?.();
  }
}

/** Resolves with undefined when the time is over. */
async function within(
  timeout: number | undefined,
  exit: Promise<ExitStatus>,
): Promise<ExitStatus | undefined> {
  if (timeout === undefined) return exit;
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), timeout);
  });
  return Promise.race([exit, over]).finally(() => clearTimeout(timer));
}

/** Resolves when everything was written, or when nobody reads any more: that breaks the command's pipe, too. */
async function forward(from: Readable, to: Writable): Promise<void> {
  const closed = new Promise<void>((resolve) => {
    // For good: a late EPIPE must not end this process before its status is known.
    to.on('error', () => {
      from.destroy();
      resolve();
    });
  });
  from.pipe(to, { end: false });
  await Promise.race([once(from, 'close'), closed]);
  await Promise.race([new Promise<void>((resolve) => to.write('', () => resolve())), closed]);
}

/** @returns what lets go of standard input: one that never ends must not keep this process */
function connectInput(command: AgentProcess): () => void {
  const { stdin } = process;
  const release = (): void => {
    stdin.unpipe();
    stdin.destroy();
  };
  // The command does not read it, or it cannot be read: both are the end of it.
  command.stdin.on('error', release);
  stdin.on('error', () => command.stdin.end());
  stdin.pipe(command.stdin);
  return release;
}

/** @returns what gives the terminal back as it was */
function connectTerminal(command: AgentProcess): () => void {
  const { stdin, stdout } = process;
  const restore = rawMode();
  const resize = (): void => command.resize(terminalSize());
  command.stdin.on('error', () => stdin.unpipe());
  process.on('exit', restore);
  stdout.on('resize', resize);
  stdin.pipe(command.stdin);
  return () => {
    restore();
    process.off('exit', restore);
    stdout.off('resize', resize);
    stdin.unpipe();
    stdin.destroy();
  };
}

/**
 * The guest's terminal does all of a terminal's work, so ours does none. `setRawMode` is not enough: it leaves the
 * work on outputs on, and full-screen programs send bare line feeds.
 * @returns what gives the terminal back as it was
 */
function rawMode(): () => void {
  const stty = (...args: string[]): string =>
    execFileSync('stty', args, { stdio: ['inherit', 'pipe', 'ignore'], encoding: 'utf8' }).trim();
  const before = stty('-g');
  let restored = false;
  stty('raw', '-echo');
  return () => {
    if (!restored) stty(before);
    restored = true;
  };
}

function terminalSize(): TerminalSize {
  const { rows, columns } = process.stdout;
  return { rows: rows || 24, columns: columns || 80 };
}

/** Says on standard error why there is no status of a command. */
function report(error: GuestError, logsWereShown: boolean): number {
  const lines = [`node-optee qemu: ${error.message}`];
  if (error.code === 'ERR_GUEST_EXEC') {
    process.stderr.write(`${lines.join('\n')}\n`);
    if (error.stage !== 'exec') return GUEST_FAILED;
    return error.errno === 'ENOENT' ? NOT_FOUND : NOT_EXECUTABLE;
  }
  if (error.logs && !logsWereShown) {
    lines.push('--- the log of Linux ---', error.logs.kernel.trimEnd());
    lines.push('--- the log of OP-TEE ---', error.logs.secure.trimEnd(), '---');
  }
  process.stderr.write(`${lines.join('\n')}\n`);
  return GUEST_FAILED;
}

/** Turns the signals that end a process into the end of the guest. */
class Interruption {
  readonly #controller = new AbortController();
  readonly #handlers: (readonly [NodeJS.Signals, () => void])[];
  /** The exit status that the first signal asks for. */
  status: number | undefined;

  constructor() {
    this.#handlers = (['SIGINT', 'SIGTERM', 'SIGHUP'] as const).map((signal) => {
      const handler = (): void => {
        this.status ??= SIGNALLED + constants.signals[signal];
        this.#controller.abort();
      };
      process.on(signal, handler);
      return [signal, handler] as const;
    });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  end(): void {
    for (const [signal, handler] of this.#handlers) process.off(signal, handler);
  }
}
