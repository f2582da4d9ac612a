import { constants } from 'node:os';
import { Duplex, Readable, Writable } from 'node:stream';
import { describeErrno, invalidArgValue } from '../client/errors.js';
import { checkString } from '../client/validate.js';
import { GuestError } from './guest-error.js';
import type { ExitStatus } from './guest-error.js';
import { visible } from './log.js';
import {
  EXEC_STAGES,
  exec,
  FrameDecoder,
  FrameType,
  header,
  MAX_DATA,
  MAX_EXEC,
  numbers,
  PROTOCOL_VERSION,
  WINDOW,
  windowSize,
} from './protocol.js';
import type { ExecRequest, Frame, TerminalSize } from './protocol.js';
import { signalName, signalNumber } from './signals.js';

/** The host's end of the port to the guest's agent: starts commands and carries their streams. */
export class Agent {
  /** Resolves when the agent has said hello. Rejects when the connection ended before. */
  readonly ready: Promise<void>;
  private readonly isReady: Settle<void>;
  private readonly decoder = new FrameDecoder();
  private readonly processes = new Map<number, AgentProcess>();
  private nextCommand = 1;
  private failure: Error | undefined;
  private isLost = false;

  /**
   * @param socket the port; the agent owns it from now on
   * @param onLost called once if the connection ends or breaks, unless `fail` was called first. The error of one that
   *   ended knows only that; that of one that `isBroken` says why, in the agent's own words maybe. `fail` is yet to be
   *   called
   */
  constructor(
    private readonly socket: Duplex,
    private readonly onLost: (error: Error, isBroken: boolean) => void = (error) => this.fail(error),
  ) {
    this.isReady = settle<void>();
    this.ready = this.isReady.promise;
    socket.on('data', (chunk: Buffer) => {
      try {
        for (const frame of this.decoder.push(chunk)) this.handle(frame);
      } catch (error) {
        this.lost((error as Error).message, true);
      }
    });
    socket.on('error', (error) => this.lost(`The connection to the guest failed: ${error.message}`, false));
    socket.on('close', () => this.lost('The connection to the guest ended', false));
  }

  /**
   * Starts a command.
   * @throws TypeError for strings that no command can have
   */
  exec(request: ExecRequest): AgentProcess {
    if (this.failure) throw this.failure;
    checkRequest(request);
    const command = this.nextCommand++;
    const frame = exec(command, request);
    if (frame.length > MAX_EXEC)
      throw new RangeError(`The command's arguments and environment take ${frame.length} bytes: too long`);
    const process = new AgentProcess(command, request, (bytes) => this.send(bytes));
    this.processes.set(command, process);
    this.send(frame);
    return process;
  }

  /** Orders the guest to switch itself off. The connection ends when it has. */
  powerOff(): void {
    this.send(header(FrameType.poweroff, 0, 0, 0));
  }

  /** Ends the connection; commands that have not ended reject with this error. */
  fail(error: Error): void {
    if (this.failure) return;
    this.failure = error;
    this.socket.destroy();
    this.isReady.reject(error);
    for (const process of this.processes.values()) process.fail(error);
    this.processes.clear();
  }

  private lost(why: string, isBroken: boolean): void {
    if (this.failure || this.isLost) return;
    this.isLost = true;
    this.socket.destroy();
    this.onLost(new GuestError('ERR_GUEST_GONE', why), isBroken);
  }

  private send(bytes: Buffer): void {
    if (!this.failure && !this.isLost) this.socket.write(bytes);
  }

  private handle(frame: Frame): void {
    if (frame.type === FrameType.hello) {
      const version = frame.payload.readUInt32LE(0);
      if (version !== PROTOCOL_VERSION)
        throw new Error(`The guest's agent speaks protocol ${version}, not ${PROTOCOL_VERSION}`);
      // The guest's kernel starts in 1970.
      const now = Date.now();
      this.send(numbers(FrameType.clock, 0, 0, Math.floor(now / 1000), (now % 1000) * 1_000_000));
      this.isReady.resolve();
    } else if (frame.type === FrameType.error) {
      throw new Error(`The guest's agent gave up: ${visible(frame.payload.toString())}`);
    } else if (this.processes.get(frame.command)?.handle(frame)) {
      this.processes.delete(frame.command);
    }
  }
}

/** A command in the guest. */
export class AgentProcess {
  /** What is written goes to the command's standard input; destroyed when the command is not to have any. */
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** Empty where the command has a terminal, or merged outputs. */
  readonly stderr: Readable;
  /** Resolves when the command runs. Rejects with ERR_GUEST_EXEC if it cannot be started. */
  readonly started: Promise<void>;
  /**
   * Resolves when the command has ended and all that it wrote has been received; so both outputs must be read. What it
   * wrote to the share is on the host then. Rejects if it could not be started, with ERR_GUEST_SHARE if the host could
   * not take all that it wrote to the share, or if the guest failed.
   */
  readonly exit: Promise<ExitStatus>;

  private readonly isStarted = settle<void>();
  private readonly isEnded = settle<ExitStatus>();
  private readonly input: InputStream;
  private readonly outputs: readonly [OutputStream, OutputStream];
  private ended = false;

  /** @internal */
  constructor(
    private readonly command: number,
    private readonly request: ExecRequest,
    private readonly send: (bytes: Buffer) => void,
  ) {
    const sendLive = (bytes: Buffer) => {
      if (!this.ended) send(bytes);
    };
    this.stdin = this.input = new InputStream(
      command,
      sendLive,
      request.stdin || request.terminal !== undefined,
    );
    this.outputs = [new OutputStream(command, 1, sendLive), new OutputStream(command, 2, sendLive)];
    [this.stdout, this.stderr] = this.outputs;
    this.started = this.isStarted.promise;
    this.exit = this.isEnded.promise;
  }

  /** Sends a signal to the command's process group. Does nothing when the command has ended. */
  kill(signal: NodeJS.Signals = 'SIGTERM'): void {
    const number = signalNumber(signal);
    if (number === undefined) throw invalidArgValue('signal', signal, 'must be the name of a signal');
    if (!this.ended) this.send(numbers(FrameType.signal, 0, this.command, number));
  }

  /** Tells the command's terminal its new size. */
  resize(size: TerminalSize): void {
    if (!this.ended) this.send(windowSize(this.command, size));
  }

  /** @internal @returns whether this was the command's last frame */
  handle({ type, stream, payload }: Frame): boolean {
    const output = this.outputs[stream === 2 ? 1 : 0];
    switch (type) {
      case FrameType.data:
        output.receive(payload);
        return false;
      case FrameType.eof:
        output.finish();
        return false;
      case FrameType.credit:
        this.input.give(payload.readUInt32LE(0));
        return false;
      case FrameType.close:
        this.input.refuse();
        return false;
      case FrameType.started:
        this.isStarted.resolve();
        return false;
      case FrameType.exit: {
        const exit = exitStatus(payload.readUInt32LE(0));
        const lost = payload.readUInt32LE(4);
        this.end();
        if (lost === 0) this.isEnded.resolve(exit);
        else this.reject(shareError(this.request, exit, lost));
        return true;
      }
      case FrameType.execFailed:
        this.end();
        this.reject(execError(this.request, payload.readUInt32LE(0), payload.readUInt32LE(4)));
        return true;
      default:
        throw new Error(`The guest's agent sent a frame of unknown type ${type}`);
    }
  }

  /** @internal The guest failed: the outputs end here, and `exit` says why. */
  fail(error: Error): void {
    this.end();
    this.reject(error);
  }

  private reject(error: Error): void {
    this.isStarted.reject(error);
    this.isEnded.reject(error);
  }

  private end(): void {
    this.ended = true;
    this.input.destroy();
    for (const output of this.outputs) output.finish();
  }
}

/** Spends credit; a write is done when all of it is sent. */
class InputStream extends Writable {
  private credit = WINDOW;
  private rest: Buffer = Buffer.alloc(0);
  private done: ((error?: Error | null) => void) | undefined;

  constructor(
    private readonly command: number,
    private readonly send: (bytes: Buffer) => void,
    private open: boolean,
  ) {
    super({ highWaterMark: MAX_DATA });
    if (!open) this.destroy();
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.rest = chunk;
    this.done = done;
    this.flush();
  }

  override _final(done: () => void): void {
    this.finish();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.finish();
    done(error);
  }

  give(credit: number): void {
    if (credit > WINDOW - this.credit) throw new Error("The guest's agent gave credit beyond the window");
    this.credit += credit;
    this.flush();
  }

  /** The command has closed its input: as with a pipe, whoever writes learns of it, and nobody else. */
  refuse(): void {
    this.open = false;
    this.flush();
  }

  private finish(): void {
    if (this.open) this.send(header(FrameType.eof, 0, this.command, 0));
    this.open = false;
  }

  private flush(): void {
    while (this.open && this.rest.length > 0 && this.credit > 0) {
      const bytes = this.rest.subarray(0, Math.min(this.credit, MAX_DATA));
      this.rest = this.rest.subarray(bytes.length);
      this.credit -= bytes.length;
      this.send(header(FrameType.data, 0, this.command, bytes.length));
      this.send(bytes);
    }
    if (this.open && this.rest.length > 0) return;
    const done = this.done;
    this.done = undefined;
    done?.(this.open ? null : brokenPipe());
  }
}

function brokenPipe(): Error {
  return Object.assign(new Error('write EPIPE: the command in the guest has closed its input'), {
    code: 'EPIPE',
    errno: -constants.errno.EPIPE,
    syscall: 'write',
  });
}

/** Gives credit back as its reader takes what came. Who sends without credit has lost its mind: the connection ends. */
class OutputStream extends Readable {
  private credit = WINDOW;
  private owed = 0;
  private full = false;
  private finished = false;

  constructor(
    private readonly command: number,
    private readonly stream: 1 | 2,
    private readonly send: (bytes: Buffer) => void,
  ) {
    super({ highWaterMark: MAX_DATA });
  }

  receive(bytes: Buffer): void {
    if (bytes.length > this.credit) throw new Error("The guest's agent sent more than the window");
    this.credit -= bytes.length;
    if (this.destroyed || this.finished) return;
    this.owed += bytes.length;
    this.full = !this.push(bytes);
    this.repay();
  }

  finish(): void {
    if (this.finished) return;
    this.finished = true;
    if (!this.destroyed) this.push(null);
  }

  override _read(): void {
    this.full = false;
    this.repay();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (!this.finished) this.send(header(FrameType.close, this.stream, this.command, 0));
    done(error);
  }

  private repay(): void {
    if (this.full || this.finished || this.owed < WINDOW / 4) return;
    this.send(numbers(FrameType.credit, this.stream, this.command, this.owed));
    this.credit += this.owed;
    this.owed = 0;
  }
}

interface Settle<T> {
  readonly promise: Promise<T>;
  resolve(value: T): void;
  reject(error: Error): void;
}

/** A promise that may be rejected without anybody looking. */
function settle<T>(): Settle<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  promise.catch(() => {});
  return { promise, resolve, reject };
}

function checkRequest({ argv, env, cwd }: ExecRequest): void {
  if (argv.length === 0) throw invalidArgValue('argv', argv, 'must have at least the name of a command');
  const check = (name: string, text: unknown) => {
    if (checkString(text, name).includes('\0'))
      throw invalidArgValue(name, text, 'must have no NUL character');
  };
  argv.forEach((text, index) => check(`argv[${index}]`, text));
  check('cwd', cwd);
  for (const [name, value] of Object.entries(env)) {
    check(`env.${name}`, value);
    if (name === '' || name.includes('=') || name.includes('\0'))
      throw invalidArgValue('env', name, 'must have names of variables');
  }
}

/** From the status that wait(2) gives. */
function exitStatus(status: number): ExitStatus {
  const number = status & 0x7f;
  if (number === 0) return { status: (status >> 8) & 0xff, signal: null };
  return { status: null, signal: signalName(number) };
}

function shareError(request: ExecRequest, exit: ExitStatus, errno: number): GuestError {
  const { code, text } = describeErrno(errno);
  return new GuestError(
    'ERR_GUEST_SHARE',
    `Not all that ${request.argv[0]} wrote to ${request.share} could be written there: ${text} (${code})`,
    { errno: code, exit },
  );
}

function execError(request: ExecRequest, errno: number, stage: number): GuestError {
  const { code: name, text } = describeErrno(errno);
  const what = EXEC_STAGES[stage] ?? 'prepare';
  const subject = {
    prepare: '',
    user: `uid ${request.uid}: `,
    cwd: `${request.cwd}: `,
    exec: `${request.argv[0]}: `,
  };
  return new GuestError(
    'ERR_GUEST_EXEC',
    `The command could not be started: ${subject[what]}${text} (${name})`,
    {
      errno: name,
      stage: what,
    },
  );
}
