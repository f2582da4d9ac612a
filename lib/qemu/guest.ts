import { EventEmitter } from 'node:events';
import { existsSync, rmdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Readable } from 'node:stream';
import type { Writable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { invalidArgType, invalidArgValue } from '../client/errors.js';
import { Agent } from './agent.js';
import type { AgentProcess } from './agent.js';
import { prepareMachine, streamProgress } from './build/index.js';
import { GuestError } from './guest-error.js';
import type { GuestErrorCode, GuestErrorDetails, GuestLogs } from './guest-error.js';
import { GDB_PORT, GdbCommands, taElfs } from './gdb.js';
import type { GdbServer } from './gdb.js';
import { visible } from './log.js';
import type { Machine } from './machine.js';
import { shareMount, storageMount } from './mounts.js';
import type { Mount, TaMounts } from './mounts.js';
import { ownerOf, shareOwner, writtenFolders } from './owner.js';
import type { Owner } from './owner.js';
import { ROOT, checkBootOptions, checkRunOptions, checkSpawnOptions } from './options.js';
import type { BootOptions, BootPlan, RunOptions, SpawnOptions, User } from './options.js';
import { isPowerOff, panicOfLine } from './panic.js';
import type { LogName, Panic } from './panic.js';
import { IN_USE, Qemu } from './qemu.js';
import type { QemuEnd } from './qemu.js';
import { Symbols } from './symbols.js';
import type { TaPanic } from './symbols.js';
import { TaPanicReader } from './ta-panic.js';
import type { LoggedPanic } from './ta-panic.js';

/** The last resort; every other way of not coming up is seen when it happens. */
const BOOT_WATCHDOG = 120_000;
/** How long a guest may take to switch itself off before QEMU is killed. */
const POWER_OFF_DEADLINE = 5_000;
/** How long to wait for the rest of a log after the line that tells of a panic. Linux ends QEMU itself. */
const PANIC_GRACE = { kernel: 2_000, optee: 300, firmware: 500 } as const;
/** How long a world that has not panicked may take to prove it. */
const PROOF_DEADLINE = 2_000;
/** Between SIGTERM, SIGKILL and giving up on a command whose time is over. */
const KILL_DELAY = 1_000;

/** Our own program in the guest. */
const AGENT = '/usr/lib/node-optee/agent';

/** What a guest tells of itself: each event's listeners get this. */
export interface GuestEvents {
  /** A TA ended by a panic or a fault. The guest goes on; the TA's caller gets TEE_ERROR_TARGET_DEAD. */
  'ta-panic': TaPanic;
}

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
export interface CommandResult {
  /** 0 to 255, or null if a signal ended the command. */
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
}

/**
 * A running guest. It ends with `close()`, and with this process, which it does not keep alive unless a command runs in
 * it.
 */
export class Guest {
  /** What was booted. */
  readonly machine: Machine;
  /** Resolves when the guest has ended, however. */
  readonly closed: Promise<void>;
  readonly #qemu: Qemu;
  readonly #agent: Agent;
  readonly #env: Readonly<Record<string, string>>;
  readonly #share: string | undefined;
  readonly #storage: string | undefined;
  readonly #user: User;
  readonly #events = new EventEmitter();
  readonly #symbols: Symbols;
  readonly #taFolders: readonly string[];
  readonly #taPanics = new TaPanicReader((panic) => this.#tell(panic));
  /** What is still to be told. */
  #telling: Promise<void> = Promise.resolve();
  #isUp = false;
  #gdb: GdbServer | undefined;
  #gdbCommands: GdbCommands | undefined;
  /** What needs this process to stay: the boot, commands, the end. */
  #holds = 0;
  #isOff = false;
  #isSilent = false;
  #panic: Panic | undefined;
  #failure: Error | undefined;
  #closing: Promise<void> | undefined;

  /**
   * Builds the machine if it has to be built, boots it and puts the share, the TAs and the user in place.
   * @returns the guest, which is the caller's to close
   * @throws GuestError ERR_GUEST_BOOT, ERR_GUEST_PANIC or ERR_GUEST_SETUP; what a build throws; TypeError and RangeError,
   *   which name the option, before anything is done
   */
  static async boot(given: BootOptions = {}): Promise<Guest> {
    const plan = checkBootOptions(given);
    // A build can take long, and the caller's object is the caller's.
    const options = { ...given, env: { ...given.env }, tas: [...(given.tas ?? [])] };
    const { target, tas } = plan;
    options.signal?.throwIfAborted();
    const machine = await machineOf(options);
    options.signal?.throwIfAborted();
    const storage =
      options.storage === undefined ? undefined : storageMount(options.storage, shareOwner(target));
    const share = target === undefined ? undefined : shareMount(target);
    const mounts = [share, storage, ...tas.mounts].filter((mount) => mount !== undefined);
    const guest = new Guest(machine, options, plan, mounts);
    const release = guest.#hold();
    try {
      await guest.#comeUp(options, tas);
      return guest;
    } catch (error) {
      guest.#qemu.kill();
      await guest.closed;
      throw error;
    } finally {
      release();
    }
  }

  private constructor(
    machine: Machine,
    options: BootOptions & { readonly env: Readonly<Record<string, string>> },
    { target: share, tas, user }: BootPlan,
    mounts: readonly Mount[],
  ) {
    const { verbose, nodeModules, signal, monitor, gdb, instructions = false } = options;
    const owner = qemuOwner(machine, mounts, share, tas, options);
    const storage = mounts.find(({ tag }) => tag === 'storage')?.path;
    const exclusive = storage === undefined ? {} : { exclusive: storage };
    const mountPoint = nodeModules === undefined ? undefined : newMountPoint(`${share}/node_modules`);
    this.machine = machine;
    this.#env = options.env;
    this.#share = share;
    this.#storage = options.storage;
    this.#user = user;
    // Beside the TAs themselves, and where links to them lie.
    this.#taFolders = [
      ...tas.mounts.map(({ path }) => path),
      ...(options.tas ?? []).map((path) => resolve(path)),
    ];
    this.#symbols = new Symbols(this.#taFolders);
    this.#qemu = new Qemu({
      machine,
      name: share ?? 'node-optee',
      mounts,
      ...exclusive,
      ...(nodeModules === undefined ? {} : { modules: nodeModules }),
      verbose: verbose !== undefined,
      instructions,
      ...(monitor === undefined ? {} : { monitor }),
      ...(gdb === undefined ? {} : { gdb: { port: gdb.port ?? GDB_PORT, wait: gdb.wait ?? false } }),
      ...(owner === undefined ? {} : { owner }),
      onDiskError: (problem) => this.#conclude(this.#ended(problem)),
      onLine: (log, line) => this.#line(log, line, verbose),
    });
    this.#agent = new Agent(this.#qemu.agent, (error, isBroken) => this.#lost(error, isBroken));
    const abort = () => this.#conclude(abortError(signal?.reason));
    signal?.addEventListener('abort', abort, { once: true });
    this.closed = this.#qemu.ended.then(async (end) => {
      signal?.removeEventListener('abort', abort);
      mountPoint?.remove();
      this.#gdbCommands?.remove();
      this.#over(end);
      this.#taPanics.end();
      await this.#telling;
    });
  }

  /** What Linux and OP-TEE have said until now. */
  get logs(): GuestLogs {
    return { kernel: this.#qemu.kernelLog.text, secure: this.#qemu.secureLog.text };
  }

  /**
   * Calls a listener each time that a TA ends by a panic or a fault, some tenths of a second after it. Those of the guest's
   * last moments are told before `closed` resolves.
   * @throws TypeError for an event that there is not
   */
  on<E extends keyof GuestEvents>(event: E, listener: (what: GuestEvents[E]) => void): this {
    checkListener(event, listener);
    this.#events.on(event, listener);
    return this;
  }

  /** The same, for the first time only. */
  once<E extends keyof GuestEvents>(event: E, listener: (what: GuestEvents[E]) => void): this {
    checkListener(event, listener);
    this.#events.once(event, listener);
    return this;
  }

  /** Calls the listener no more. */
  off<E extends keyof GuestEvents>(event: E, listener: (what: GuestEvents[E]) => void): this {
    checkListener(event, listener);
    this.#events.off(event, listener);
    return this;
  }

  /** QEMU's gdb server, where `gdb` was given to `Guest.boot`. */
  get gdb(): GdbServer | undefined {
    return this.#gdb;
  }

  /** QEMU's process id. */
  get pid(): number | undefined {
    return this.#qemu.pid;
  }

  /**
   * Starts a command; several can run at once. Children that it leaves behind run on until the guest ends.
   * @param argv the program, found in PATH, and its arguments
   * @returns the command; its outputs have to be read, `exit` says how it ended
   * @throws GuestError if the guest has ended; TypeError for what no command can have
   */
  spawn(argv: readonly string[], options: SpawnOptions = {}): AgentProcess {
    if (this.#failure) throw this.#failure;
    if (this.#closing) throw this.#error('ERR_GUEST_CLOSED', 'The guest is closed');
    checkSpawnOptions(argv, options);
    const { terminal } = options;
    const user = this.#userNamed(options.user);
    const command = this.#agent.exec({
      argv,
      env: { ...defaultEnv(user, terminal !== undefined), ...this.#env, ...options.env },
      cwd: options.cwd ?? this.#share ?? user.home,
      uid: user.uid,
      gid: user.gid,
      groups: user.groups,
      stdin: options.stdin ?? true,
      merged: options.merged ?? false,
      ...(this.#share === undefined || !this.#isUp ? {} : { share: this.#share }),
      ...(terminal === undefined ? {} : { terminal }),
    });
    const release = this.#hold();
    command.exit.then(release, release);
    return command;
  }

  /**
   * Runs a command to its end. A status other than 0 is no error.
   * @param argv the program, found in PATH, and its arguments
   * @throws GuestError ERR_GUEST_EXEC, ERR_GUEST_TIMEOUT, ERR_GUEST_SHARE, or why the guest ended; AbortError
   */
  async run(argv: readonly string[], options: RunOptions = {}): Promise<CommandResult> {
    checkRunOptions(argv, options);
    const { stdin, timeout, signal, ...rest } = options;
    signal?.throwIfAborted();
    const command = this.spawn(argv, { ...rest, stdin: stdin !== undefined });
    const stdout = collect(command.stdout);
    const stderr = collect(command.stderr);
    const over = new AbortController();
    let timedOut = false;
    const ends: Promise<unknown>[] = [command.exit, feed(command, stdin), aborted(signal, over.signal)];
    if (timeout !== undefined) ends.push(limit(command, timeout, over.signal, () => (timedOut = true)));
    try {
      await Promise.race(ends);
      if (timedOut)
        throw new GuestError('ERR_GUEST_TIMEOUT', `${argv[0]} did not end within ${timeout} ms`, {
          stdout: stdout.bytes(),
          stderr: stderr.bytes(),
        });
      const exit = await command.exit;
      await Promise.all([stdout.ended, stderr.ended]);
      return { ...exit, stdout: stdout.bytes(), stderr: stderr.bytes() };
    } catch (error) {
      command.kill('SIGKILL');
      if (!(error instanceof GuestError) || error.code !== 'ERR_GUEST_SHARE') throw error;
      await Promise.all([stdout.ended, stderr.ended]);
      const { code, message, errno, exit } = error;
      const outputs = { stdout: stdout.bytes(), stderr: stderr.bytes() };
      throw new GuestError(code, message, { ...(errno && { errno }), ...(exit && { exit }), ...outputs });
    } finally {
      over.abort();
    }
  }

  /**
   * Switches the guest off, or ends QEMU where that takes too long. Commands that still run reject with
   * ERR_GUEST_CLOSED. May be called more than once.
   */
  close(): Promise<void> {
    return (this.#closing ??= this.#close());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    const release = this.#hold();
    if (!this.#failure) {
      this.#agent.powerOff();
      const over = new AbortController();
      const deadline = delay(POWER_OFF_DEADLINE, undefined, { signal: over.signal });
      await Promise.race([this.closed, deadline.catch(() => {})]);
      over.abort();
    }
    this.#qemu.kill();
    await this.closed;
    release();
  }

  /** Keeps this process alive until the function that it returns is called. */
  #hold(): () => void {
    if (this.#holds++ === 0) this.#qemu.keepAlive(true);
    return () => {
      if (--this.#holds === 0) this.#qemu.keepAlive(false);
    };
  }

  /** Tells where gdb finds the guest, as soon as QEMU is there. */
  async #listenToGdb({ gdb }: BootOptions, tas: TaMounts): Promise<void> {
    if (gdb === undefined) return;
    const port = await Promise.race([this.#qemu.gdbPort(), this.closed]);
    if (port === undefined || this.#failure) return;
    this.#gdbCommands = new GdbCommands(port, this.machine.symbols, taElfs(tas, this.#taFolders));
    this.#gdb = { host: '127.0.0.1', port, commands: this.#gdbCommands.path };
    gdb.onListening?.(this.#gdb);
  }

  async #comeUp(options: BootOptions, tas: TaMounts): Promise<void> {
    await this.#listenToGdb(options, tas);
    if (options.gdb) return this.#finishBoot(options, tas);
    const watchdog = setTimeout(() => {
      const seconds = BOOT_WATCHDOG / 1000;
      this.#conclude(this.#error('ERR_GUEST_BOOT', `The guest did not come up within ${seconds} s`));
    }, BOOT_WATCHDOG);
    try {
      await this.#finishBoot(options, tas);
    } finally {
      clearTimeout(watchdog);
    }
  }

  async #finishBoot(options: BootOptions, tas: TaMounts): Promise<void> {
    await this.#agent.ready;
    const words = setupWords(this.#share, options, tas, this.#user);
    if (words.length > 0) await this.#setUp(words);
    this.#isUp = true;
  }

  async #setUp(words: readonly string[]): Promise<void> {
    const setup = [AGENT, 'setup', ...words];
    const { status, stderr } = await this.run(setup, { user: 'root', cwd: '/' });
    if (status !== 0)
      throw this.#error(
        'ERR_GUEST_SETUP',
        `The guest could not be set up: ${visible(stderr.toString().trim())}`,
      );
  }

  #userNamed(name: string | undefined): User {
    if (name === undefined || name === this.#user.name) return this.#user;
    if (name === ROOT.name) return ROOT;
    const others = this.#user === ROOT ? '' : `, or the guest's user, ${this.#user.name}`;
    throw invalidArgValue('user', name, `must be root${others}: Guest.boot({ user }) sets the guest's user`);
  }

  /** @returns whether the line is worth keeping */
  #line(log: LogName, line: string, verbose: Writable | undefined): boolean {
    if (isPowerOff(log, line)) this.#isOff = true;
    // The firmware's PANIC at some normal power-offs, and its registers after it.
    if (this.#isOff && panicOfLine(log, line)?.world === 'firmware') this.#isSilent = true;
    if (this.#isSilent && log === 'secure') return false;
    verbose?.write(`[${log}] ${line}\n`);
    this.#watch(log, line);
    if (log === 'secure') this.#taPanics.push(line);
    return true;
  }

  /** One after the other, in the order of the log. */
  #tell(panic: LoggedPanic): void {
    if (this.#events.listenerCount('ta-panic') === 0) return;
    this.#telling = this.#telling.then(async () => {
      const resolved = await this.#symbols.resolve(panic);
      try {
        this.#events.emit('ta-panic', resolved);
      } catch (error) {
        // As with any event, whose listeners' errors nobody catches.
        process.nextTick(() => {
          throw error;
        });
      }
    });
  }

  /** Looks at each line of the logs for the end of a world. */
  #watch(log: LogName, line: string): void {
    const panic = this.#closing ? undefined : panicOfLine(log, line);
    // The firmware's can be a consequence of another one, and be read before it.
    if (!panic || (this.#panic && this.#panic.world !== 'firmware')) return;
    this.#panic = panic;
    // Whoever debugs it wants to look at it, and may have stopped it.
    if (this.#gdb) return;
    // The rest of what it has to say, then the end: Linux ends QEMU itself, the others hang.
    const timer = setTimeout(() => void this.#judge(panic), PANIC_GRACE[panic.world]).unref();
    void this.closed.then(() => clearTimeout(timer));
  }

  /** Whoever may write to a log can print such a line, a TA for instance. The world that it speaks of is asked. */
  async #judge(panic: Panic): Promise<void> {
    if (await this.#isAlive(panic)) this.#panic = undefined;
    else this.#conclude(this.#panicError());
  }

  /** A Linux that panicked starts nothing. An OP-TEE or a firmware that did never gives back the processor that it was on. */
  async #isAlive({ world }: Panic): Promise<boolean> {
    if (this.#failure || !this.#isUp) return false;
    const argv = world === 'kernel' ? ['true'] : [AGENT, 'processors'];
    const { started, exit } = this.#agent.exec({
      argv,
      env: {},
      cwd: '/',
      uid: 0,
      gid: 0,
      groups: [],
      stdin: false,
    });
    // Of Linux only the agent's answer matters, whatever it is.
    const answer = world === 'kernel' ? started.then(yes, yes) : exit.then(({ status }) => status === 0, no);
    return Promise.race([answer, delay(PROOF_DEADLINE, false)]);
  }

  /** The port is closed or broken. */
  #lost(error: Error, isBroken: boolean): void {
    if (isBroken) return this.#conclude(this.#ended(error.message));
    // QEMU's own end, and with it the logs, comes a moment later and says more.
    const timer = setTimeout(() => this.#conclude(this.#ended(error.message)), PANIC_GRACE.kernel).unref();
    void this.closed.then(() => clearTimeout(timer));
  }

  /** QEMU has ended. */
  #over(end: QemuEnd): void {
    // The firmware says PANIC at some normal power-offs.
    if (this.#panic && this.#panic.world !== 'firmware') return this.#conclude(this.#panicError());
    if (end.status === IN_USE)
      return this.#conclude(this.#ended(`Another guest uses the storage ${this.#storage}`));
    const how =
      end.signal !== null
        ? `ended by ${end.signal}`
        : end.status !== null
          ? `ended with status ${end.status}`
          : 'did not start';
    this.#conclude(this.#ended(`QEMU ${how}${end.message && `: ${end.message}`}`));
  }

  #ended(why: string): GuestError {
    if (this.#closing) return this.#error('ERR_GUEST_CLOSED', 'The guest was closed');
    if (this.#isUp) return this.#error('ERR_GUEST_GONE', `The guest ended. ${why}`);
    return this.#error('ERR_GUEST_BOOT', `The guest did not come up. ${why}`);
  }

  #panicError(): GuestError {
    const panic = this.#panic as Panic;
    const world = { kernel: 'Linux', optee: 'OP-TEE', firmware: 'The firmware' }[panic.world];
    return this.#error('ERR_GUEST_PANIC', `${world} in the guest panicked: ${panic.text}`, { panic });
  }

  /** The one end of a guest: everything under way rejects with this error. */
  #conclude(error: Error): void {
    if (this.#failure) return;
    this.#failure = error;
    this.#agent.fail(error);
    this.#qemu.kill();
  }

  #error(code: GuestErrorCode, message: string, details: GuestErrorDetails = {}): GuestError {
    return new GuestError(code, message, { ...details, logs: this.logs });
  }
}

/** A folder that the guest makes on the host, to mount something there. */
function newMountPoint(path: string): { remove(): void } | undefined {
  if (existsSync(path)) return undefined;
  return {
    remove() {
      try {
        rmdirSync(path);
      } catch {
        // The guest did not come so far, or there is something in it.
      }
    },
  };
}

/** What was said of QEMU's user, once in each process. */
const said = new Set<string>();

/** Who QEMU runs as, where we are root; that it has to be root is said. */
function qemuOwner(
  { firmware, kernel, rootfs, node, deviceTree }: Machine,
  mounts: readonly Mount[],
  share: string | undefined,
  tas: TaMounts,
  { nodeModules, monitor, progress }: BootOptions,
): Owner | undefined {
  const files = [firmware, kernel, rootfs, node, deviceTree, nodeModules].filter(
    (path) => path !== undefined,
  );
  const built = tas.links.map(({ mount, file }) => join(tas.mounts[mount]?.path ?? '', file));
  const reads = [...files, ...mounts.map(({ path }) => path), ...built];
  const writes = mounts.filter(({ tag }) => tag === 'storage').map(({ path }) => path);
  const owner = ownerOf(share, reads, [...writes, ...writtenFolders(monitor)]);
  if (typeof owner !== 'string') return owner;
  if (!said.has(owner)) (progress ?? streamProgress()).note(`QEMU runs as root: ${owner}`);
  said.add(owner);
  return undefined;
}

function checkListener(event: string, listener: unknown): void {
  if (event !== 'ta-panic') throw invalidArgValue('event', event, "must be 'ta-panic'");
  if (typeof listener !== 'function') throw invalidArgType('listener', 'a function', listener);
}

const yes = (): boolean => true;
const no = (): boolean => false;

async function machineOf(options: BootOptions): Promise<Machine> {
  const { machine, node, memory, cpus, progress, signal } = options;
  if (typeof machine === 'object') return machine;
  return prepareMachine({ machine, node, memory, cpus, progress, signal });
}

/** What the guest's setup script is told. */
function setupWords(
  share: string | undefined,
  { nodeModules, storage }: BootOptions,
  tas: TaMounts,
  user: User,
): string[] {
  const words = tas.mounts.map((_, index) => `ta=${index}`);
  for (const { name, mount, file } of tas.links) words.push(`link=${name}/${mount}/${file}`);
  if (user !== ROOT) words.push(`user=${user.name}:${user.uid}:${user.gid}`);
  if (share !== undefined) words.push(`share=${share}`);
  if (storage !== undefined) words.push('storage=');
  if (nodeModules !== undefined) words.push(`modules=${share}/node_modules`);
  return words;
}

function defaultEnv(user: User, terminal: boolean): Record<string, string> {
  return {
    PATH,
    HOME: user.home,
    USER: user.name,
    LOGNAME: user.name,
    SHELL: '/bin/sh',
    LANG: 'C.UTF-8',
    // For hints in messages: what helps here is not what helps on a board.
    NODE_OPTEE_GUEST: '1',
    ...(terminal ? { TERM: process.env.TERM ?? 'dumb' } : {}),
  };
}

/** Rejects if the input's source fails, and otherwise never settles. */
async function feed(command: AgentProcess, stdin: RunOptions['stdin']): Promise<void> {
  if (stdin !== undefined) {
    const source = stdin instanceof Readable ? stdin : Readable.from([Buffer.from(stdin)]);
    try {
      await pipeline(source, command.stdin);
    } catch (error) {
      // That a command does not read all of its input is its own affair.
      const { code } = error as NodeJS.ErrnoException;
      const fine = ['EPIPE', 'ERR_STREAM_PREMATURE_CLOSE', 'ERR_STREAM_DESTROYED'];
      if (code === undefined || !fine.includes(code)) throw error;
    }
  }
  await new Promise(() => {});
}

interface Collected {
  /** What has come until now. */
  bytes(): Buffer;
  readonly ended: Promise<void>;
}

function collect(stream: Readable): Collected {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  return { bytes: () => Buffer.concat(chunks), ended: finished(stream) };
}

/** Rejects when the signal aborts, unless all is over before. */
function aborted(signal: AbortSignal | undefined, over: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal?.addEventListener('abort', () => reject(abortError(signal.reason)), { once: true, signal: over });
  });
}

function abortError(reason: unknown): Error {
  const error = new Error('The operation was aborted', { cause: reason });
  return Object.assign(error, { name: 'AbortError', code: 'ABORT_ERR' });
}

/** Ends the command when its time is over, and settles when it has ended or when even SIGKILL did not end it. */
async function limit(
  command: AgentProcess,
  time: number,
  over: AbortSignal,
  onTime: () => void,
): Promise<void> {
  const wait = (ms: number) => delay(ms, undefined, { signal: over });
  await wait(time);
  onTime();
  command.kill('SIGTERM');
  await Promise.race([command.exit, wait(KILL_DELAY)]);
  command.kill('SIGKILL');
  await Promise.race([command.exit, wait(KILL_DELAY)]);
}
