import { execFileSync } from 'node:child_process';
import type { AgentProcess } from './agent.js';
import { foreignPart } from './foreign.js';
import type { GdbOptions, GdbServer } from './gdb.js';
import { Guest } from './guest.js';
import { GuestError } from './guest-error.js';
import type { Interruption } from './interruption.js';
import type { Machine } from './machine.js';
import type { BootOptions } from './options.js';
import { areOneFile, forward } from './outputs.js';
import type { TerminalSize } from './protocol.js';
import { signalNumber } from './signals.js';
import { taPanicText } from './symbols.js';

/** Exit statuses that are not the command's own. */
const TIMED_OUT = 124;
const GUEST_FAILED = 125;
const OUTPUT_LOST = 125;
const NOT_EXECUTABLE = 126;
const NOT_FOUND = 127;
const SIGNALLED = 128;

export interface RunnerOptions extends Pick<
  BootOptions,
  'share' | 'tas' | 'storage' | 'env' | 'user' | 'nodeModules'
> {
  readonly machine: Machine;
  /** Empty: a shell, which reads standard input where that is no terminal. */
  readonly command: readonly string[];
  /** Milliseconds for the command, the boot not included. */
  readonly timeout?: number | undefined;
  /** A server for gdb; where it is goes to standard error. */
  readonly gdb?: Pick<GdbOptions, 'port' | 'wait'> | undefined;
  /** Both logs live on standard error. */
  readonly verbose?: boolean | undefined;
  /** Ends the guest, whatever it is at. */
  readonly interruption: Interruption;
}

/**
 * Boots a guest, runs one command in it with this process's standard streams, and ends the guest.
 * @returns the exit status for this process: the command's own, or one of those above
 * @throws TypeError for options that cannot be used; where it was interrupted, whatever that led to
 */
export async function runCommand(options: RunnerOptions): Promise<number> {
  const { machine, share, tas, storage, env, user, nodeModules, verbose, interruption } = options;
  const gdb = options.gdb && {
    ...options.gdb,
    onListening: (server: GdbServer) => sayWhereGdb(server, options.gdb),
  };
  // Whoever reads the logs may go before the guest has come up.
  process.stderr.on('error', () => {});
  let guest: Guest | undefined;
  try {
    const { signal } = interruption;
    const log = verbose ? process.stderr : undefined;
    guest = await Guest.boot({
      machine,
      share,
      tas,
      storage,
      env,
      user,
      nodeModules,
      gdb,
      verbose: log,
      signal,
    });
    guest.on('ta-panic', (panic) => say(taPanicText(panic)));
    return await runIn(guest, options);
  } catch (error) {
    if (interruption.status !== undefined || !(error instanceof GuestError)) throw error;
    return report(error, options);
  } finally {
    await guest?.close();
  }
}

async function runIn(guest: Guest, { command, timeout, share = '/' }: RunnerOptions): Promise<number> {
  const isShell = command.length === 0;
  const isTerminal = process.stdin.isTTY === true;
  const terminal = isShell && isTerminal ? terminalSize() : undefined;
  const argv = isShell ? (terminal ? ['sh', '-l'] : ['sh']) : command;
  // Two streams keep no order between them: where our outputs are one file, so are the command's.
  const merged = areOneFile(1, 2);
  const started = guest.spawn(argv, { terminal, stdin: !isTerminal, merged });
  const input = terminal ? connectTerminal(started) : isTerminal ? undefined : connectInput(started);
  const errors = new Tail();
  (merged ? started.stdout : started.stderr).on('data', (chunk: Buffer) => errors.push(chunk));
  const outputs = Promise.all([
    forward(started.stdout, process.stdout),
    forward(started.stderr, process.stderr),
  ]);
  try {
    // Its outputs take part: a command whose output is not read has not ended in time, either.
    const exit = started.exit.catch(async (error: unknown) => {
      // It has run to its end, so all that it wrote comes first. Otherwise nobody waits for a reader of it.
      if (error instanceof GuestError && error.code === 'ERR_GUEST_SHARE') await outputs;
      throw error;
    });
    const ended = await within(timeout, Promise.all([exit, outputs]));
    if (ended === undefined) {
      process.stderr.write(`node-optee qemu: ${argv[0]} did not end within ${(timeout ?? 0) / 1000} s\n`);
      return TIMED_OUT;
    }
    const [{ status, signal }, failures] = ended;
    const lost = failures.find((failure) => failure !== undefined);
    if (lost) {
      process.stderr.write(`node-optee qemu: what ${argv[0]} wrote is lost: ${lost.message}\n`);
      return OUTPUT_LOST;
    }
    if (status !== 0) say(foreignPart(errors.text, share));
    return signal === null ? (status ?? GUEST_FAILED) : SIGNALLED + (signalNumber(signal) ?? 0);
  } finally {
    input?.();
  }
}

/** Resolves with undefined when the time is over. */
async function within<T>(timeout: number | undefined, work: Promise<T>): Promise<T | undefined> {
  if (timeout === undefined) return work;
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), timeout);
  });
  return Promise.race([work, over]).finally(() => clearTimeout(timer));
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

/** Whether our terminal does no work of its own now. */
let isRaw = false;

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
  isRaw = true;
  return () => {
    if (!restored) stty(before);
    restored = true;
    isRaw = false;
  };
}

function terminalSize(): TerminalSize {
  const { rows, columns } = process.stdout;
  return { rows: rows || 24, columns: columns || 80 };
}

function sayWhereGdb({ host, port, commands }: GdbServer, gdb: RunnerOptions['gdb']): void {
  say(
    `gdb's server listens at ${host}:${port}${gdb?.wait ? ', and the guest waits for it' : ''}: gdb-multiarch -x ${commands}`,
  );
}

/** Says on standard error why there is no status of a command. */
function report(error: GuestError, { verbose, command, share = '/' }: RunnerOptions): number {
  const { code, stage, errno, logs } = error;
  say(error.message);
  if (code === 'ERR_GUEST_EXEC') {
    if (errno === 'ENOEXEC') say(foreignPart(command[0] ?? '', share));
    if (stage !== 'exec') return GUEST_FAILED;
    return errno === 'ENOENT' ? NOT_FOUND : NOT_EXECUTABLE;
  }
  if (code === 'ERR_GUEST_SHARE') return OUTPUT_LOST;
  if (logs && !verbose) {
    const lines = ['--- the log of Linux ---', logs.kernel.trimEnd()];
    lines.push('--- the log of OP-TEE ---', logs.secure.trimEnd(), '---');
    process.stderr.write(`${lines.join('\n')}\n`);
  }
  return GUEST_FAILED;
}

function say(text: string | undefined): void {
  if (text === undefined) return;
  const lines = `node-optee qemu: ${text}\n`;
  // A terminal of ours that does no work of its own starts a new line only where it is told to.
  process.stderr.write(process.stderr.isTTY && isRaw ? lines.replaceAll('\n', '\r\n') : lines);
}

/** The end of what a stream had. */
class Tail {
  #bytes = Buffer.alloc(0);

  push(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk]).subarray(-16384);
  }

  get text(): string {
    return this.#bytes.toString();
  }
}
