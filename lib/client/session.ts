import { tracingChannel } from 'node:diagnostics_channel';
import { debuglog } from 'node:util';
import { aborted, failure, settled, type CallOptions, type Caller, type Finish } from './call.js';
import type { TeeContext } from './context.js';
import { closedError, invalidArgValue, TeeSystemError } from './errors.js';
import { watch } from './lost-handles.js';
import { Packet, RequestFlags, Status } from './native.js';
import type { Native, SessionHandle } from './native.js';
import { copyParams, NO_PARAMS, pack, unpack, type Outputs, type Params } from './parameters.js';
import { checkBoolean, checkOptions, checkSignal, checkU32 } from './validate.js';

const debug = debuglog('node-optee');
// NODE_DEBUG is read once; its getter is not for each call.
const debugging = debug.enabled;
const channel = tracingChannel('node-optee:invoke');

/** What subscribers of the tracing channel `node-optee:invoke` are told of a call. */
export interface InvokeTrace {
  readonly uuid: string;
  readonly command: number;
  readonly params: Params;
  readonly session: Session;
}

const NO_OPTIONS: CallOptions = {};

/**
 * A session with a Trusted Application. Its calls run one after the other, in the order in which they were made,
 * blocking ones included; those of different sessions run at the same time. Made by `TeeContext.openSession`.
 * @typeParam P the parameters that it was opened with
 */
export class Session<P extends Params = Params> {
  /** The TA's UUID, lower case. */
  readonly uuid: string;
  /** What the parameters of the opening brought back, as `invoke` would return it. */
  readonly outputs: Outputs<P>;

  readonly #n: Native;
  readonly #context: TeeContext;
  readonly #caller: Caller;
  readonly #nullMemref: boolean;
  #handle: SessionHandle | 0;
  #closing: Promise<void> | undefined;

  private constructor(
    n: Native,
    context: TeeContext,
    handle: SessionHandle,
    caller: Caller,
    outputs: unknown[],
  ) {
    this.uuid = caller.uuid;
    this.outputs = outputs as Outputs<P>;
    this.#n = n;
    this.#context = context;
    this.#caller = { uuid: caller.uuid, path: caller.path, globalPlatform: caller.globalPlatform };
    this.#nullMemref = context.version.capabilities.nullMemref;
    this.#handle = handle;
    watch(
      this,
      () => `A Session with TA ${caller.uuid}`,
      () => n.closeSession(handle) !== 0,
    );
  }

  /** @internal */
  static make<P extends Params>(
    n: Native,
    context: TeeContext,
    handle: SessionHandle,
    caller: Caller,
    outputs: unknown[],
  ): Session<P> {
    return new Session<P>(n, context, handle, caller, outputs);
  }

  /** Was it, or its context, closed? */
  get closed(): boolean {
    return this.#handle === 0 || this.#context.closed;
  }

  /** The context that it was opened with. */
  get context(): TeeContext {
    return this.#context;
  }

  /**
   * Invokes a command of the TA. It runs when the session's earlier calls have ended, on a thread of the addon.
   *
   * With `signal`: aborted before it began, nothing is sent. In the TEE, the session's cancel flag is set; the TA
   * decides whether and when it looks at it, and a call that succeeds nevertheless resolves.
   *
   * @param command u32, the TA's own
   * @param params up to four parameters; inputs are copied before this returns
   * @returns one entry per parameter: `{ a, b }`; a Uint8Array cut to what the TA wrote; of shared memory how many
   *   bytes it wrote; undefined for what only goes in and for none
   * @throws (rejects with) TeeError, TeeSystemError, AbortError; TypeError or RangeError for a bad argument;
   *   ERR_TEE_CLOSED, ERR_TEE_WRONG_CONTEXT, ERR_TEE_NOT_SUPPORTED
   */
  invoke<const Q extends Params = []>(
    command: number,
    params?: Q,
    options?: CallOptions,
  ): Promise<Outputs<Q>>;
  invoke(command: number, params: Params = NO_PARAMS, options: CallOptions = NO_OPTIONS): Promise<unknown[]> {
    if (!channel.hasSubscribers) return this.#start(command, params, options);
    const trace: InvokeTrace = { uuid: this.uuid, command, params, session: this };
    return channel.tracePromise(() => this.#start(command, params, options), trace);
  }

  /**
   * The same, blocking this thread until the TA has answered, behind the calls that are already under way in this
   * session. Cannot be aborted.
   * @throws as `invoke` rejects
   */
  invokeSync<const Q extends Params = []>(
    command: number,
    params?: Q,
    options?: Pick<CallOptions, 'wipe'>,
  ): Outputs<Q>;
  invokeSync(
    command: number,
    params: Params = NO_PARAMS,
    options: Pick<CallOptions, 'wipe'> = NO_OPTIONS,
  ): unknown[] {
    if (!channel.hasSubscribers) return this.#startSync(command, params, options);
    const trace: InvokeTrace = { uuid: this.uuid, command, params, session: this };
    return channel.traceSync(() => this.#startSync(command, params, options), trace);
  }

  #start(command: number, params: Params, options: CallOptions): Promise<unknown[]> {
    try {
      return this.#begin(command, params, options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #begin(command: number, given: Params, options: CallOptions): Promise<unknown[]> {
    const n = this.#n;
    const signal = options === NO_OPTIONS ? undefined : checkCallOptions(options);
    const wipe = options.wipe === true;
    const params = copyParams(given);
    const early = signal?.aborted === true; // last of what can be code of somebody's own
    const bytes = this.#pack(n, command, params, wipe);
    if (early) throw aborted(signal, this.#caller, command, params);
    const id = bytes
      ? n.invoke(params[0]?.bytes, params[1]?.bytes, params[2]?.bytes, params[3]?.bytes)
      : n.invoke();
    if (id === 0) throw failure(n, n.packet, 0, undefined, 0, this.#caller, command, params);
    if (debugging) debug('invoke %d: command %d of TA %s', id, command, this.uuid);
    return settled(n, id, this.#caller, command, params, signal, values);
  }

  #startSync(command: number, given: Params, options: Pick<CallOptions, 'wipe'>): unknown[] {
    const n = this.#n;
    if (options !== NO_OPTIONS) checkSyncOptions(options);
    const wipe = options.wipe === true;
    const params = copyParams(given);
    if (debugging) debug('invokeSync: command %d of TA %s', command, this.uuid);
    const bytes = this.#pack(n, command, params, wipe);
    const outputs = bytes
      ? n.invokeSync(params[0]?.bytes, params[1]?.bytes, params[2]?.bytes, params[3]?.bytes)
      : n.invokeSync();
    const packet = n.packet;
    if (packet[Packet.status] !== Status.answered || packet[Packet.result] !== 0) {
      throw failure(n, packet, 0, outputs, 0, this.#caller, command, params);
    }
    return unpack(n, packet, 0, params, outputs, 0);
  }

  #pack(n: Native, command: number, params: Params, wipe: boolean): boolean {
    if (this.#handle === 0) throw closedError(`the session with TA ${this.uuid}`);
    checkU32(command, 'command');
    const bytes = pack(n, params, this.#context, this.#nullMemref);
    n.packet[Packet.handle] = this.#handle;
    n.packet[Packet.number] = command;
    n.packet[Packet.flags] = wipe ? RequestFlags.wipe : RequestFlags.none;
    return bytes;
  }

  /**
   * Closes the session. It cannot be used any more at once; calls that were made before run to their end, then the
   * TEE closes it.
   * @returns resolves when the TEE has; the same promise each time
   */
  close(): Promise<void> {
    if (this.#closing === undefined) {
      const id = this.#handle === 0 ? 0 : this.#n.closeSession(this.#handle);
      this.#handle = 0;
      if (id === 0) this.#closing = this.#context.closed ? this.#context.close() : Promise.resolve();
      else this.#closing = ended(this.#n, id, this.#caller.path, `closing the session with TA ${this.uuid}`);
    }
    return this.#closing;
  }

  /** Starts to close it and does not wait. */
  [Symbol.dispose](): void {
    this.close().catch((error: unknown) => debug('close of a session: %s', error));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

const values: Finish<unknown[]> = (n, at, params, outputs, first) =>
  unpack(n, n.records, at, params, outputs, first);

/** Checks the options of an asynchronous call and returns its signal. */
export function checkCallOptions(options: CallOptions): AbortSignal | undefined {
  checkOptions(options, 'options');
  checkWipe(options);
  return options.signal === undefined ? undefined : checkSignal(options.signal, 'options.signal');
}

/** Checks the options of a blocking call, which nothing can abort. */
export function checkSyncOptions(options: CallOptions): void {
  checkOptions(options, 'options');
  checkWipe(options);
  if (options.signal !== undefined) {
    throw invalidArgValue(
      'options.signal',
      undefined,
      'cannot abort a blocking call; use the asynchronous one',
    );
  }
}

function checkWipe(options: CallOptions): void {
  if (options.wipe !== undefined) checkBoolean(options.wipe, 'options.wipe');
}

/**
 * Waits for a close.
 * @param id the call's
 * @param path the device's
 * @param asked what is being closed: 'closing the session with TA …'
 */
export function ended(n: Native, id: number, path: string, asked: string): Promise<void> {
  return new Promise((resolve, reject) => {
    n.settle.set(id, (at) => {
      const status = n.records[at + Packet.status] as number;
      if (status <= 0) {
        resolve();
      } else {
        const failed = n.operations[n.records[at + Packet.detail] as number];
        reject(
          new TeeSystemError({
            errno: status,
            syscall: failed?.syscall ?? 'ioctl',
            operation: failed?.operation ?? 'TEE_IOC_CLOSE_SESSION',
            path,
            asked,
          }),
        );
      }
    });
  });
}
