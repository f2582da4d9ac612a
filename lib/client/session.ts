import { tracingChannel } from 'node:diagnostics_channel';
import { debuglog } from 'node:util';
import {
  readOptions,
  runCall,
  startCall,
  type Callee,
  type CallOptions,
  type Request,
  type SessionCondition,
} from './call.js';
import { callName } from './described.js';
import { Handle } from './handle.js';
import { closed } from './jobs.js';
import type { Native, SessionHandle, Ticket } from './native.js';
import { NO_PARAMS, readParams, type Outputs, type Params } from './parameters.js';
import { checkU32 } from './validate.js';

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
  /** Of a command of a described TA: 'notary.hash'. */
  readonly name?: string;
}

/** How many sessions of this thread are open, by their context and TA. */
const openIn = new Map<Handle, Map<string, number>>();

/** How many sessions with a TA are open in this thread. */
export function openSessions(uuid: string): number {
  let all = 0;
  for (const [context, sessions] of openIn) {
    if (context.closed) openIn.delete(context);
    else all += sessions.get(uuid) ?? 0;
  }
  return all;
}

function countSession(context: Handle, uuid: string, more: 1 | -1): void {
  let sessions = openIn.get(context);
  if (sessions === undefined) openIn.set(context, (sessions = new Map<string, number>()));
  sessions.set(uuid, (sessions.get(uuid) ?? 0) + more);
}

const outputsOf = (_: SessionHandle, outputs: unknown[]): unknown[] => outputs;

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
  readonly #callee: Callee;
  readonly #nullMemref: boolean;
  readonly #handle: Handle<SessionHandle, Ticket>;
  readonly #contextClosed: () => Promise<void>;
  readonly #condition: SessionCondition = { dead: false, cancelPending: false };
  #closing: Promise<void> | undefined;

  private constructor(made: MadeSession) {
    const { n, callee, number, outputs, context, contextClosed } = made;
    this.uuid = callee.uuid;
    this.outputs = outputs as Outputs<P>;
    this.#n = n;
    this.#callee = callee;
    this.#nullMemref = made.nullMemref;
    this.#contextClosed = contextClosed;
    const { uuid } = callee;
    const close = (session: SessionHandle): Ticket => {
      countSession(context, uuid, -1);
      return n.closeSession(session);
    };
    this.#handle = new Handle(this, `Session with TA ${uuid}`, number, close, context);
    countSession(context, uuid, 1);
  }

  /** @internal */
  static make(made: MadeSession): Session {
    return new Session(made);
  }

  /** @internal */
  static conditionOf(session: Session): Readonly<SessionCondition> {
    return session.#condition;
  }

  /** Was it, or its context, closed? */
  get closed(): boolean {
    return this.#handle.closed;
  }

  /**
   * Invokes a command of the TA. It runs when the session's earlier calls have ended, on a thread of the addon.
   *
   * With `signal`: aborted before it began, nothing is sent. In the TEE, the session's cancel flag is set; the TA
   * decides whether and when it looks at it, and a call that succeeds nevertheless resolves.
   *
   * @param command u32, the TA's own
   * @param params up to four parameters; inputs are copied before this returns
   * @returns one entry per parameter: `{ a, b }`; a Uint8Array cut to what the TA wrote; of shared memory and NULL buffers
   *   the size that the TA reported; undefined for what only goes in and for none
   * @throws (rejects with) TeeError, TeeSystemError, AbortError; TypeError or RangeError for a bad argument;
   *   ERR_TEE_CLOSED, ERR_TEE_WRONG_CONTEXT, ERR_TEE_NOT_SUPPORTED
   */
  invoke<const Q extends Params = []>(
    command: number,
    params?: Q,
    options?: CallOptions,
  ): Promise<Outputs<Q>>;
  invoke(command: number, params: Params = NO_PARAMS, options?: CallOptions): Promise<unknown[]> {
    try {
      if (!channel.hasSubscribers) return this.#start(command, params, options);
      const trace = this.#trace(command, params);
      return channel.tracePromise(() => this.#start(command, params, options), trace);
    } catch (error) {
      return Promise.reject(error); // this is no session, say
    }
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
  invokeSync(command: number, params: Params = NO_PARAMS, options?: CallOptions): unknown[] {
    if (!channel.hasSubscribers) return this.#run(command, params, options);
    return channel.traceSync(() => this.#run(command, params, options), this.#trace(command, params));
  }

  #trace(command: number, params: Params): InvokeTrace {
    const trace = { uuid: this.uuid, command, params, session: this };
    const { names } = this.#callee;
    const known = names?.commands.get(command);
    return names === undefined || known === undefined ? trace : { ...trace, name: callName(names, known) };
  }

  #start(command: number, params: Params, options: CallOptions | undefined): Promise<unknown[]> {
    try {
      const read = readOptions(options, false);
      const request = this.#request(command, params, read.wipe);
      if (debugging) debug('invoke: command %d of TA %s', command, this.uuid);
      return startCall(this.#n, request, read.signal, outputsOf);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #run(command: number, params: Params, options: CallOptions | undefined): unknown[] {
    const { wipe } = readOptions(options, true);
    const request = this.#request(command, params, wipe);
    if (debugging) debug('invokeSync: command %d of TA %s', command, this.uuid);
    return runCall(this.#n, request, outputsOf);
  }

  #request(command: number, params: Params, wipe: boolean): Request {
    const read = readParams(params, this.#nullMemref);
    checkU32(command, 'command');
    const invoke = { session: this.#handle.use(), command, condition: this.#condition };
    return { callee: this.#callee, params: read, wipe, invoke, open: undefined };
  }

  /**
   * Closes the session. It cannot be used any more at once; calls that were made before run to their end, then the
   * TEE closes it.
   * @returns resolves when the TEE has; the same promise each time
   */
  close(): Promise<void> {
    try {
      return (this.#closing ??= this.#close());
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #close(): Promise<void> {
    const { path, uuid } = this.#callee;
    const contextClosed = this.#handle.closed;
    const ticket = this.#handle.close() ?? 0;
    if (contextClosed) return this.#contextClosed();
    return closed(this.#n, ticket, path, `closing the session with TA ${uuid}`);
  }

  /** Starts to close it and does not wait. */
  [Symbol.dispose](): void {
    this.close().catch((error: unknown) => debug('close of a session: %s', error));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** What a session is made of. */
export interface MadeSession {
  readonly n: Native;
  readonly callee: Callee;
  readonly number: SessionHandle;
  readonly outputs: unknown[];
  readonly nullMemref: boolean;
  /** Its context's, which it closes with. */
  readonly context: Handle;
  /** Closes the context, or waits until it is closed. */
  readonly contextClosed: () => Promise<void>;
}
