/** What the opening of a session and the invocation of a command have in common: how they end. */
import {
  AbortError,
  closedError,
  outOfRange,
  TeeError,
  TeeSystemError,
  wrongContext,
  describeErrno,
} from './errors.js';
import { callHint, resultHint } from './hints.js';
import type { Login } from './login.js';
import { AnswerFlags, Cancelled, Packet, Status } from './native.js';
import type { Native, Outputs as NativeOutputs } from './native.js';
import { describeParam, isMemory, unpackFailed, type Params } from './parameters.js';
import { originName } from './results.js';

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

/** Who calls what, for messages and errors. */
export interface Caller {
  readonly uuid: string;
  readonly path: string;
  /** Does the device speak GlobalPlatform? */
  readonly globalPlatform: boolean;
  /** Only where a session is being opened. */
  readonly login?: Login;
  /** Only where a session is being opened: how many others with this TA are open. */
  readonly openSessions?: number;
}

/** What was asked, in words. */
export function asked(caller: Caller, command: number | undefined, params: Params): string {
  const what =
    command === undefined
      ? `opening a session with TA ${caller.uuid} (login ${caller.login?.name})`
      : `command ${command} of TA ${caller.uuid}`;
  return params.length === 0 ? what : `${what} with [${params.map(describeParam).join(', ')}]`;
}

/** The size of all memory that a call passes, in bytes. */
function memoryOf(params: Params): number {
  return params.reduce((sum, param) => sum + (isMemory(param) ? param.b : 0), 0);
}

/**
 * The error of a call that did not succeed.
 */
export function failure(
  n: Native,
  numbers: Float64Array,
  at: number,
  outputs: NativeOutputs | undefined,
  first: number,
  caller: Caller,
  command: number | undefined,
  params: Params,
): Error {
  const status = numbers[at + Packet.status] as number;
  const detail = numbers[at + Packet.detail] as number;
  if (status === Status.answered) {
    const result = numbers[at + Packet.result] as number;
    const originCode = numbers[at + Packet.origin] as number;
    const staleCancel = ((numbers[at + Packet.flags] as number) & AnswerFlags.staleCancel) !== 0;
    const found = unpackFailed(n, numbers, at, params, outputs, first);
    const opening = command === undefined;
    return new TeeError({
      result,
      originCode,
      uuid: caller.uuid,
      ...(opening ? {} : { command }),
      outputs: found,
      staleCancel,
      asked: asked(caller, command, params),
      hint: resultHint({
        result,
        origin: originName(originCode),
        opening,
        staleCancel,
        memory: memoryOf(params),
        short: found.flatMap((out, index) => {
          const needs = out !== undefined && 'size' in out ? out.size : 0;
          return needs > (params[index]?.b ?? 0) ? [{ index, needs }] : [];
        }),
        dmaBuf: params.some((param) => param?.memory?.isDmaBuf),
        openSessions: caller.openSessions ?? 0,
      }),
    });
  }
  if (status > 0) {
    const { operation, syscall } = n.operations[detail] ?? { operation: 'unknown', syscall: 'unknown' };
    return new TeeSystemError({
      errno: status,
      syscall,
      operation,
      path: caller.path,
      asked: asked(caller, command, params),
      hint: callHint({
        code: describeErrno(status).code,
        operation,
        globalPlatform: caller.globalPlatform,
        login: caller.login?.name,
        bytes: memoryOf(params),
      }),
    });
  }
  switch (status) {
    case Status.closed:
      return closedError(
        command === undefined ? `the TeeContext of ${caller.path}` : `the session with TA ${caller.uuid}`,
      );
    case Status.sharedMemoryClosed:
      return closedError(`params[${detail}], shared memory,`);
    case Status.otherContext:
      return wrongContext(`params[${detail}]`);
    case Status.outOfBounds:
      return outOfRange(`params[${detail}]`, 'inside its shared memory', params[detail]?.b);
    default:
      return new Error(
        `The native addon refused ${asked(caller, command, params)} (status ${status}, ${detail})`,
      );
  }
}

/** Makes the answer of a call that succeeded from its record in `Native.records`. */
export type Finish<T> = (
  n: Native,
  at: number,
  params: Params,
  outputs: NativeOutputs | undefined,
  first: number,
) => T;

/**
 * Waits for an asynchronous call that has just been started.
 * @param id the call's
 */
export function settled<T>(
  n: Native,
  id: number,
  caller: Caller,
  command: number | undefined,
  params: Params,
  signal: AbortSignal | undefined,
  finish: Finish<T>,
): Promise<T> {
  return new Promise((resolve, reject) => {
    let onAbort: (() => void) | undefined;
    let underWay = true;
    n.settle.set(id, (at, outputs, first) => {
      underWay = false;
      try {
        const numbers = n.records;
        if (numbers[at + Packet.status] === Status.answered && numbers[at + Packet.result] === 0) {
          resolve(finish(n, at, params, outputs, first));
        } else {
          const error = failure(n, numbers, at, outputs, first, caller, command, params);
          const known = error instanceof TeeError || error instanceof TeeSystemError;
          reject(signal?.aborted === true && known ? aborted(signal, caller, command, params, error) : error);
        }
      } catch (error) {
        reject(error); // there was no memory for the outputs, say
      }
      try {
        if (onAbort !== undefined) signal?.removeEventListener('abort', onAbort);
      } catch {
        // Code of somebody's own; the promise is settled.
      }
    });
    if (signal !== undefined) {
      onAbort = () => {
        // A signal that keeps its listeners may call after the end, when the id is another call's.
        if (!underWay || n.cancel(id) !== Cancelled.removed) return; // its record decides
        underWay = false;
        n.settle.take(id);
        const left =
          command === undefined ? 'was given up; a session that still arrives is closed' : undefined;
        reject(new AbortError(signal.reason, asked(caller, command, params), undefined, left));
      };
      signal.addEventListener('abort', onAbort, { once: true });
    }
  });
}

/** The error of a call whose signal was aborted. */
export function aborted(
  signal: AbortSignal,
  caller: Caller,
  command: number | undefined,
  params: Params,
  teeError?: TeeError | TeeSystemError,
): AbortError {
  return new AbortError(signal.reason, asked(caller, command, params), teeError);
}
