import { debuglog } from 'node:util';
import { readOptions, restacked, type CallOptions } from './call.js';
import { AbortError, closedError, invalidArgType, invalidArgValue, outOfRange, TeeError } from './errors.js';
import { commandInWords, NAMES, taInWords, type TaNames } from './described.js';
import { Handle } from './handle.js';
import { Login } from './login.js';
import { ParamKind } from './native.js';
import {
  eraseKept,
  keepInputs,
  NO_PARAMS,
  parametersOf,
  readParams,
  restoreInPlace,
  type Outputs,
  type Params,
  type Spec,
} from './parameters.js';
import { PooledSessions, type SessionPoolStatistics } from './pooled-sessions.js';
import { TEE_RESULTS } from './results.js';
import { Session } from './session.js';
import { checkBoolean, checkInteger, checkKnown, checkSignal, checkU32, U32_MAX } from './validate.js';

export type { SessionPoolStatistics } from './pooled-sessions.js';

const debug = debuglog('node-optee');

/** How a pool opens, keeps and closes its sessions. */
export interface SessionPoolOptions<P extends Params = Params> {
  /** How many sessions at most, 1 to 2^32 - 1; 4 unless told otherwise. More than the TEE can run at once only wait there. */
  max?: number | undefined;
  /**
   * After how many milliseconds a session that nobody uses is closed, 0 to 2^31 - 1, or Infinity for never; 30,000 unless
   * told otherwise. Idle sessions do not keep the process alive.
   */
  idle?: number | undefined;
  /** Who the client is to the TA; `Login.public` unless told otherwise. */
  login?: Login | undefined;
  /**
   * Up to four parameters for each opening; their outputs are the `outputs` of the session. What goes in is copied before
   * `pool` returns. Shared memory is passed to each opening as it is then, and must stay open as long as sessions are
   * opened. `buffer.into` and `buffer.inPlace` are refused: openings can take place at the same time.
   */
  params?: P | undefined;
  /** Zero the memory of an opening's temporary buffers at once; see `CallOptions`. */
  wipe?: boolean | undefined;
  /**
   * Replace a session also when the cancel of its last call may have come too late, and could hit the next one: that call
   * was aborted in the TEE and did not end with TEE_ERROR_CANCEL. Each such abort then costs an opening. False unless told
   * otherwise: the call that is hit fails with TEE_ERROR_CANCEL and `staleCancel`.
   */
  replaceAfterCancel?: boolean | undefined;
  /** @internal What the TA and its commands are called. */
  [NAMES]?: TaNames | undefined;
}

const OPTIONS = ['max', 'idle', 'login', 'params', 'wipe', 'replaceAfterCancel'];
const DEFAULT_MAX = 4;
const DEFAULT_IDLE = 30_000;
/** Node's timers take no more. */
const MAX_IDLE = 2 ** 31 - 1;

/** The options of a pool, read once. */
export interface ReadPoolOptions {
  readonly max: number;
  readonly idle: number;
  readonly login: Login;
  readonly params: readonly Spec[];
  readonly wipe: boolean;
  readonly replaceAfterCancel: boolean;
  readonly names: TaNames | undefined;
}

/**
 * Reads the options of a pool, which can run code of the caller's.
 * @param nullMemref does the TEE take NULL buffers
 */
export function readPoolOptions(options: SessionPoolOptions, nullMemref: boolean): ReadPoolOptions {
  checkKnown(options, 'options', OPTIONS);
  const {
    max = DEFAULT_MAX,
    idle = DEFAULT_IDLE,
    login = Login.public,
    params = NO_PARAMS,
    wipe = false,
    replaceAfterCancel = false,
    [NAMES]: names,
  } = options;
  checkInteger(max, 'options.max', 1, U32_MAX);
  if (typeof idle !== 'number') throw invalidArgType('options.idle', 'a number', idle);
  if (idle !== Infinity && !(Number.isInteger(idle) && idle >= 0 && idle <= MAX_IDLE)) {
    throw outOfRange('options.idle', `a whole number from 0 to ${MAX_IDLE}, or Infinity`, idle);
  }
  checkBoolean(wipe, 'options.wipe');
  checkBoolean(replaceAfterCancel, 'options.replaceAfterCancel');
  const specs = readParams(params, nullMemref);
  specs.forEach(({ kind }, i) => {
    if (kind !== ParamKind.intoOut && kind !== ParamKind.inPlace) return;
    const problem = 'cannot be written by several openings; use buffer.out or buffer.inout';
    throw invalidArgValue(`params[${i}]`, undefined, problem);
  });
  return { max, idle, login, params: keepInputs(specs), wipe, replaceAfterCancel, names };
}

/** @internal What a pool is made of. */
export interface MadePool {
  readonly uuid: string;
  readonly options: ReadPoolOptions;
  readonly nullMemref: boolean;
  /** Opens a session. Never throws. */
  readonly open: () => Promise<Session>;
  /** The context's, which it closes with. */
  readonly context: Handle;
  /** Pools that the context closes. */
  readonly pools: Set<ClosedWithContext>;
}

/** @internal Of a pool, what its context knows: not the pool itself, which can be lost. */
export type ClosedWithContext = Pick<PooledSessions<Session>, 'close'>;

/**
 * Sessions with one Trusted Application for whoever needs one: opened on demand, kept while they are used, replaced when
 * their TA has panicked. Made by `TeeContext.pool`.
 *
 * A request gets the idle session that was used last, else a new one, else it waits; who waits longest is next. Where the
 * TEE has no room for one session more (TEE_ERROR_BUSY of a TA that takes one session at a time, TEE_ERROR_OUT_OF_MEMORY),
 * the request waits for a session that the pool has; it fails only where the pool has none.
 * @typeParam P the parameters that its sessions are opened with
 */
export class SessionPool<P extends Params = Params> {
  /** The TA's UUID, lower case. */
  readonly uuid: string;

  readonly #names: TaNames | undefined;
  readonly #nullMemref: boolean;
  readonly #sessions: PooledSessions<Session>;
  readonly #handle: Handle<number, Promise<Error | undefined>>;
  #closing: Promise<void> | undefined;

  private constructor({ uuid, options, nullMemref, open, context, pools }: MadePool) {
    this.uuid = uuid;
    this.#names = options.names;
    this.#nullMemref = nullMemref;
    const what = `SessionPool with TA ${uuid}`;
    const { max, idle, replaceAfterCancel } = options;
    const sessions = new PooledSessions({
      max,
      idle,
      open,
      isSpent: (session: Session) => {
        const { dead, cancelPending } = Session.conditionOf(session);
        return dead || (replaceAfterCancel && cancelPending);
      },
      isFull,
      closedError: () => closedError(`the ${what}`),
    });
    this.#sessions = sessions;
    pools.add(sessions);
    const close = (): Promise<Error | undefined> => {
      pools.delete(sessions);
      return sessions.close();
    };
    // It has no number in the addon.
    this.#handle = new Handle<number, Promise<Error | undefined>>(this, what, 1, close, context);
  }

  /** @internal */
  static make(made: MadePool): SessionPool {
    return new SessionPool(made);
  }

  /** Was it, or its context, closed? */
  get closed(): boolean {
    return this.#handle.closed;
  }

  /**
   * Invokes a command on one of the sessions. A call that failed is never repeated, also where its session is replaced.
   *
   * With `signal`: aborted while it waits for a session, it rejects at once; after that, as `Session.invoke`.
   *
   * @param command u32, the TA's own
   * @param params up to four parameters; inputs are copied before this returns
   * @returns as `Session.invoke`
   * @throws (rejects with) as `Session.invoke`; the error of an opening; ERR_TEE_CLOSED where the pool was closed
   */
  invoke<const Q extends Params = []>(
    command: number,
    params?: Q,
    options?: CallOptions,
  ): Promise<Outputs<Q>>;
  async invoke(command: number, params: Params = NO_PARAMS, options?: CallOptions): Promise<unknown[]> {
    const { signal, wipe } = readOptions(options, false);
    checkU32(command, 'command');
    const given = readParams(params, this.#nullMemref);
    const asked = commandInWords(this.uuid, this.#names, command);
    let session = this.#take(signal, asked);
    const sent = session === undefined ? keepInputs(given) : given;
    try {
      session ??= await this.#wait(signal, asked);
      const call = session.invoke(command, parametersOf(sent), { signal, wipe });
      if (wipe) eraseKept(given, sent); // the call has copies of its own
      const outputs: unknown[] = await call;
      if (sent !== given) restoreInPlace(given, outputs);
      return outputs;
    } finally {
      if (wipe) eraseKept(given, sent);
      if (session !== undefined) this.#sessions.giveBack(session);
    }
  }

  /**
   * Runs a function with one of the sessions, which nobody else uses meanwhile: for several calls that belong together.
   *
   * The session is the function's until what it returns is settled; then it goes back, also where the function failed. Calls
   * that it did not wait for run before those of whoever gets the session next. The function may close the session; then
   * another takes its place. It must not wait for this pool's `close`, which waits for it.
   *
   * @param work gets the session
   * @param options `signal`: aborted while this waits for a session, it rejects at once and `work` is not called. What
   *   `work` does is its own matter: pass the signal on to its calls
   * @returns what `work` returns
   * @throws (rejects with) what `work` throws; the error of an opening; AbortError; ERR_TEE_CLOSED where the pool was closed;
   *   TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
   */
  async use<T>(
    work: (session: Session<P>) => T | PromiseLike<T>,
    options: Pick<CallOptions, 'signal'> = {},
  ): Promise<T> {
    if (typeof work !== 'function') throw invalidArgType('work', 'a function', work);
    checkKnown(options, 'options', ['signal']);
    const { signal } = options;
    if (signal !== undefined) checkSignal(signal, 'options.signal');
    const asked = `the use of a session with ${taInWords(this.uuid, this.#names)}`;
    const session = this.#take(signal, asked) ?? (await this.#wait(signal, asked));
    try {
      if (signal?.aborted === true) throw new AbortError(signal.reason, asked);
      return await work(session as unknown as Session<P>);
    } finally {
      this.#sessions.giveBack(session);
    }
  }

  #take(signal: AbortSignal | undefined, asked: string): Session | undefined {
    if (signal?.aborted === true) throw new AbortError(signal.reason, asked);
    this.#handle.use();
    return this.#sessions.take();
  }

  #wait(signal: AbortSignal | undefined, asked: string): Promise<Session> {
    const outcome = 'did not take place: it waited for a session of its pool';
    return this.#sessions.wait(signal, () => new AbortError(signal?.reason, asked, undefined, outcome));
  }

  /** How the pool is doing, at this moment and since it was made; also when it is closed. */
  statistics(): SessionPoolStatistics {
    return this.#sessions.statistics();
  }

  /**
   * Closes the pool. Requests that come, or still wait for a session, are rejected with ERR_TEE_CLOSED. Those that have a
   * session run to their end; then all sessions are closed, those included that were still being opened.
   * @returns resolves when all are closed; the same promise each time
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const failure = await (this.#handle.close() ?? this.#sessions.close());
    if (failure !== undefined) throw restacked(failure);
  }

  /** Starts to close it and does not wait. */
  [Symbol.dispose](): void {
    this.close().catch((error: unknown) => debug('close of a pool: %s', error));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Does an opening fail since the TA, or the TEE, has no room for one session more? */
function isFull(error: unknown): boolean {
  if (!(error instanceof TeeError)) return false;
  switch (error.result) {
    case TEE_RESULTS.TEE_ERROR_BUSY:
    case TEE_RESULTS.TEE_ERROR_OUT_OF_MEMORY:
      return true;
    case TEE_RESULTS.TEE_ERROR_SECURITY:
      // OP-TEE says so, too, where it has no memory left to check the TA's signature.
      return error.origin === 'tee';
    default:
      return false;
  }
}
