/** One open or invoke: from what was read of its caller's to its answer or error. */
import { onAbort } from './abort.js';
import { commandInWords, taInWords, type CommandNames, type TaNames } from './described.js';
import {
  AbortError,
  closedError,
  describeErrno,
  invalidArgValue,
  outOfRange,
  TeeError,
  TeeSystemError,
  wrongContext,
  type FailedOutput,
} from './errors.js';
import { callHint, resultHint } from './hints.js';
import { Aborted, AnswerFlags, failureOf, Place, RequestFlags, RequestPlace, Status } from './native.js';
import type { Answer, ContextHandle, Native, SessionHandle, Tell, Ticket } from './native.js';
import { describeParam, memoryOf, readFailedOutputs, readOutputs, type Spec } from './parameters.js';
import { originName, TEE_RESULTS } from './results.js';
import { checkBoolean, checkOptions, checkSignal } from './validate.js';

declare global {
  // Without the DOM's and Node's types there is none; with them this adds nothing.
  // eslint-disable-next-line @typescript-eslint/no-empty-object-type
  interface AbortSignal {}
}

/** What a call takes besides its parameters. */
export interface CallOptions {
  /** Aborts the call. */
  signal?: AbortSignal | undefined;
  /**
   * Zero the memory of this call's temporary buffers as soon as their outputs were copied (the default is to do so
   * before another session gets that memory).
   */
  wipe?: boolean | undefined;
}

/** Whom a call asks, for messages and errors. */
export interface Callee {
  readonly uuid: string;
  readonly path: string;
  /** Does the device speak GlobalPlatform? */
  readonly globalPlatform: boolean;
  /** Of a described TA. */
  readonly names?: TaNames | undefined;
}

/** What the answers of a session say of it. */
export interface SessionCondition {
  /** Its TA has panicked: it answers TEE_ERROR_TARGET_DEAD until it is closed. */
  dead: boolean;
  /** The cancel of its last call may have come too late, and hit the next one. */
  cancelPending: boolean;
}

/** A call, all of it read from its caller: nothing in here is code of a user's. */
export interface Request {
  readonly callee: Callee;
  readonly params: readonly Spec[];
  readonly wipe: boolean;
  /** Only an invocation's. */
  readonly invoke:
    | {
        readonly session: SessionHandle | 0;
        readonly command: number;
        /** Of the session; changed by the answer. */
        readonly condition: SessionCondition;
      }
    | undefined;
  /** Only an opening's. */
  readonly open:
    | {
        readonly context: ContextHandle;
        readonly uuid: Uint8Array;
        readonly login: { readonly method: number; readonly client: Uint8Array; readonly name: string };
        /** How many sessions with this TA were open. */
        readonly openSessions: number;
      }
    | undefined;
}

/** The options of a call, read once. */
export interface ReadOptions {
  readonly wipe: boolean;
  readonly signal: AbortSignal | undefined;
}

const NO_OPTIONS: ReadOptions = { wipe: false, signal: undefined };

/**
 * Reads the options of a call, which can run code of the caller's.
 * @param sync is it a blocking call, which nothing can abort
 */
export function readOptions(options: CallOptions | undefined, sync: boolean): ReadOptions {
  if (options === undefined) return NO_OPTIONS;
  checkOptions(options, 'options');
  const { wipe = false, signal } = options;
  checkBoolean(wipe, 'options.wipe');
  if (signal === undefined) return { wipe, signal };
  if (sync) {
    throw invalidArgValue(
      'options.signal',
      undefined,
      'cannot abort a blocking call; use the asynchronous one',
    );
  }
  return { wipe, signal: checkSignal(signal, 'options.signal') };
}

/** The names of what was asked, where the TA is described and has such a command. */
function namesOf({ callee: { names }, invoke }: Request): CommandNames | undefined {
  return invoke === undefined ? names?.open : names?.commands.get(invoke.command);
}

/** What was asked, in words. */
function asked(request: Request): string {
  const { callee, params, invoke, open } = request;
  const { uuid, names } = callee;
  const what =
    invoke === undefined
      ? `opening a session with ${taInWords(uuid, names)} (login ${open?.login.name})`
      : commandInWords(uuid, names, invoke.command);
  return params.length === 0 ? what : `${what} with [${params.map(describeParam).join(', ')}]`;
}

/** What a call that failed brought back, read from its answer. */
export interface Failed {
  readonly status: number;
  readonly detail: number;
  readonly result: number;
  readonly originCode: number;
  readonly staleCancel: boolean;
  readonly outputs: FailedOutput[];
}

export function readFailed(params: readonly Spec[], answer: Answer): Failed {
  const status = answer.number(Place.status);
  return {
    status,
    detail: answer.number(Place.detail),
    result: answer.number(Place.result),
    originCode: answer.number(Place.origin),
    staleCancel: (answer.number(Place.flags) & AnswerFlags.staleCancel) !== 0,
    outputs: status === Status.answered ? readFailedOutputs(params, answer) : [],
  };
}

/** A parameter in a message. */
function paramName(request: Request, index: number): string {
  return namesOf(request)?.params[index] ?? `params[${index}]`;
}

/** An error with the names of what was asked. */
function named<E extends Named>(error: E, request: Request): E {
  const { names } = request.callee;
  if (names === undefined) return error;
  error.taName = names.name;
  const command = namesOf(request)?.name;
  if (command !== undefined) error.commandName = command;
  return error;
}
type Named = { -readonly [K in 'taName' | 'commandName']?: TeeError[K] };

/**
 * Notes what an answer says of its session.
 * @returns did the call succeed
 */
function noteAnswer({ invoke }: Request, answer: Answer): boolean {
  const answered = answer.number(Place.status) === Status.answered;
  const result = answer.number(Place.result);
  if (invoke !== undefined) {
    const { condition } = invoke;
    if (answered && result === TEE_RESULTS.TEE_ERROR_TARGET_DEAD) condition.dead = true;
    const cancelPending = (answer.number(Place.flags) & AnswerFlags.cancelPending) !== 0;
    // A call that was never in the TEE changes nothing.
    if (answered || cancelPending) condition.cancelPending = cancelPending;
  }
  return answered && result === 0;
}

/** The error of a call that did not succeed. */
export function callError(request: Request, failed: Failed): Error {
  const { status, detail } = failed;
  const { callee, params, invoke, open } = request;
  if (status === Status.answered) return answeredError(request, failed);
  if (status > 0) {
    const failure = failureOf(status, detail);
    const error = new TeeSystemError({
      ...failure,
      path: callee.path,
      asked: asked(request),
      hint: callHint({
        code: describeErrno(status).code,
        operation: failure.operation,
        globalPlatform: callee.globalPlatform,
        login: open?.login.name,
        bytes: memoryOf(params),
      }),
    });
    return named(error, request);
  }
  const name = paramName(request, detail);
  switch (status) {
    case Status.closed:
      return closedError(
        invoke === undefined ? `the TeeContext of ${callee.path}` : `the Session with TA ${callee.uuid}`,
      );
    case Status.sharedMemoryClosed:
      return closedError(`${name}, a SharedMemory,`);
    case Status.otherContext:
      return wrongContext(name);
    case Status.outOfBounds:
      return outOfRange(name, 'inside its shared memory', params[detail]?.b);
    case Status.bytesChanged:
      return invalidArgValue(
        name,
        undefined,
        `has not the ${params[detail]?.b} bytes any more that it had when the parameter was made: ` +
          'its memory was transferred or resized since',
      );
    default:
      return new Error(`The native addon refused ${asked(request)} (status ${status}, ${detail})`);
  }
}

function answeredError(request: Request, failed: Failed): TeeError {
  const { callee, params, invoke, open } = request;
  const { result, originCode, outputs, staleCancel } = failed;
  const error = new TeeError({
    result,
    code: callee.names?.results.get(result),
    originCode,
    uuid: callee.uuid,
    ...(invoke === undefined ? {} : { command: invoke.command }),
    outputs,
    staleCancel,
    asked: asked(request),
    hint: resultHint({
      result,
      origin: originName(originCode),
      opening: invoke === undefined,
      staleCancel,
      memory: memoryOf(params),
      short: outputs.flatMap((out, index) => {
        const needs = out !== undefined && 'size' in out ? out.size : 0;
        return needs > (params[index]?.b ?? 0) ? [{ name: paramName(request, index), needs }] : [];
      }),
      dmaBuf: params.some(({ shared }) => shared?.isDmaBuf === true),
      openSessions: open?.openSessions ?? 0,
    }),
  });
  return named(error, request);
}

/**
 * Hands a call to the addon's function; the only place that does. From its first line on no code of a user's runs.
 * @returns what the function returns
 */
function send<R>(
  { request }: Native,
  call: (...bytes: Parameters<Native['openSession']>) => R,
  handle: number,
  number: number,
  { params, wipe, open }: Request,
): R {
  const { length } = params;
  request[RequestPlace.handle] = handle;
  request[RequestPlace.number] = number;
  request[RequestPlace.flags] = wipe ? RequestFlags.wipe : 0;
  request[RequestPlace.count] = length;
  for (let i = 0; i < length; i++) {
    const { kind, a, b, shared } = params[i] as Spec;
    const at = i * (RequestPlace.next - RequestPlace.kind);
    request[at + RequestPlace.kind] = kind;
    request[at + RequestPlace.a] = a;
    request[at + RequestPlace.b] = b;
    request[at + RequestPlace.memory] = shared === undefined ? 0 : shared.handle.number;
  }
  return call(
    length > 0 ? (params[0] as Spec).bytes : undefined,
    length > 1 ? (params[1] as Spec).bytes : undefined,
    length > 2 ? (params[2] as Spec).bytes : undefined,
    length > 3 ? (params[3] as Spec).bytes : undefined,
    open?.uuid,
    open?.login.client,
  );
}

/**
 * What a call that succeeded brings its caller.
 * @param session that an opening has brought
 */
export type Finish<T> = (session: SessionHandle, outputs: unknown[]) => T;

/**
 * Runs a blocking call.
 * @throws the call's error
 */
export function runCall<T>(n: Native, request: Request, finish: Finish<T>): T {
  const { invoke, open } = request;
  if (invoke !== undefined) send(n, n.invokeSync, invoke.session, invoke.command, request);
  else if (open !== undefined) send(n, n.openSessionSync, open.context, open.login.method, request);
  if (!noteAnswer(request, n.answer)) throw callError(request, readFailed(request.params, n.answer));
  return finished(n, request, n.answer, finish);
}

/** @throws where its outputs cannot be had */
function finished<T>(n: Native, { params, open }: Request, answer: Answer, finish: Finish<T>): T {
  const session = answer.number(Place.made) as SessionHandle;
  try {
    return finish(session, readOutputs(params, answer));
  } catch (error) {
    // Nobody has the session that has arrived.
    if (open !== undefined) n.closeSession(session);
    throw error;
  }
}

/**
 * Starts an asynchronous call. What goes in is copied before it returns.
 * @throws (or rejects with) the call's error; what a signal of the caller's own making throws
 */
export function startCall<T>(
  n: Native,
  request: Request,
  signal: AbortSignal | undefined,
  finish: Finish<T>,
): Promise<T> {
  const call: { aborted: boolean; abort?: (() => void) | undefined } = { aborted: false };
  // A signal can run code of the caller's, so all that is asked of it comes before the call is sent.
  const stopListening =
    signal &&
    onAbort(signal, () => {
      call.aborted = true;
      call.abort?.();
    });
  try {
    if (signal !== undefined && (signal.aborted || call.aborted)) {
      throw named(new AbortError(signal.reason, asked(request)), request);
    }
    const ticket = sendStart(n, request);
    return new Promise((resolve) => {
      const tellError =
        (make: () => Error): Tell =>
        (known) => {
          stopListening?.();
          resolve(rejected(make, known));
          return true;
        };
      n.settle.set(ticket, (answer) => {
        call.abort = undefined; // the ticket can be another call's after this
        if (!noteAnswer(request, answer)) {
          const failed = readFailed(request.params, answer);
          return tellError(() => endError(request, failed, signal));
        }
        try {
          const result = finished(n, request, answer, finish);
          return () => {
            stopListening?.();
            resolve(result);
          };
        } catch (error) {
          return tellError(() => restacked(error as Error)); // there was no memory for the outputs, say
        }
      });
      if (signal === undefined) return;
      call.abort = () => {
        if (n.abort(ticket) !== Aborted.removed) return; // its answer decides
        call.abort = undefined;
        n.settle.delete(ticket);
        const outcome =
          request.invoke === undefined ? 'was given up; a session that still arrives is closed' : undefined;
        resolve(
          rejected(() => named(new AbortError(signal.reason, asked(request), undefined, outcome), request)),
        );
      };
    });
  } catch (error) {
    stopListening?.();
    throw error;
  }
}

/**
 * @returns the call's ticket
 * @throws the call's error where it was refused
 */
function sendStart(n: Native, request: Request): Ticket {
  const { invoke, open } = request;
  let ticket: Ticket = 0;
  if (invoke !== undefined) ticket = send(n, n.invoke, invoke.session, invoke.command, request);
  else if (open !== undefined) ticket = send(n, n.openSession, open.context, open.login.method, request);
  if (ticket === 0) throw callError(request, readFailed([], n.answer));
  return ticket;
}

/** The error of a call that failed, which an abort may have caused. */
function endError(request: Request, failed: Failed, signal: AbortSignal | undefined): Error {
  const error = callError(request, failed);
  const ended = error instanceof TeeError || error instanceof TeeSystemError;
  if (signal === undefined || !ended || !signal.aborted) return error;
  return named(new AbortError(signal.reason, asked(request), error), request);
}

/**
 * A promise that is rejected, with an error whose stack names the async functions that wait for it: V8 finds them if the
 * error is made in a reaction of a promise that they wait for already, which takes a turn of the microtasks, and if that
 * promise has no other reaction.
 * @param known called when those that wait know it
 */
export function rejected(make: () => Error, known?: () => void): Promise<never> {
  return Promise.resolve()
    .then(() => undefined)
    .then(() => {
      // The promise is rejected in the next turn, and that of its caller in the one after. (Test runners replace
      // queueMicrotask.)
      if (known !== undefined) {
        void Promise.resolve()
          .then(() => undefined)
          .then(known);
      }
      throw make();
    });
}

/** An error that was made elsewhere, with the stack of here. */
export function restacked(error: Error): Error {
  Error.captureStackTrace(error, restacked);
  return error;
}
