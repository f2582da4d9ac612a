/** The errors of the client: their classes, and functions that make Node's usual argument errors. */
import { constants } from 'node:buffer';
import { getSystemErrorMap, inspect, types } from 'node:util';
import { hex32, originName, resultName, type TeeOrigin } from './results.js';

/** What a parameter brought back from a call that failed; undefined if it is no output. */
export type FailedOutput = { a: number; b: number } | { size: number; data?: Uint8Array } | undefined;

/** What {@link TeeError} is made of. */
export interface TeeErrorInit {
  /** u32 */
  result: number;
  /** The result's name, where it is the TA's own. */
  code?: string | undefined;
  /** u32; 1 to 4 have names, see `originName` */
  originCode: number;
  uuid: string;
  command?: number;
  outputs?: FailedOutput[];
  staleCancel?: boolean;
  /** What was asked, for the message. */
  asked: string;
  /** What to do about it, for the message. */
  hint?: string | undefined;
}

const ORIGINS: Record<TeeOrigin, string> = {
  api: 'the client API',
  comms: 'the communication with the TEE',
  tee: 'the TEE',
  'trusted-app': 'the TA',
  unknown: 'an unknown origin',
};

/** The TEE or the TA answered with a result other than TEE_SUCCESS. */
export class TeeError extends Error {
  /**
   * The result's name, like `TEE_ERROR_SHORT_BUFFER`; of a described TA's own result that of the description, like
   * `NOTARY_LOCKED`; `TEE_0x12345678` if it has none.
   */
  readonly code: string;
  /** The result, u32, exactly as the TEE or the TA gave it. */
  readonly result: number;
  /** Which part answered. */
  readonly origin: TeeOrigin;
  /** `origin` as a number, u32. */
  readonly originCode: number;
  /** The TA's UUID. */
  readonly uuid: string;
  /** The command, u32; undefined if a session was being opened. */
  declare readonly command?: number;
  /** Of a described TA: its name, like `notary`. */
  declare readonly taName?: string;
  /** Of a described TA's command: its name, like `hash`. */
  declare readonly commandName?: string;
  /**
   * One entry per parameter: `{ a, b }` for a value output, `{ size, data? }` for a memory output, undefined for the
   * others. `size` is what the TA asked for, in bytes; with TEE_ERROR_SHORT_BUFFER it is more than the TA was given. `data`
   * is the content of a temporary buffer; it is not enumerable, so an error that is logged does not show it.
   */
  readonly outputs: FailedOutput[];
  /**
   * True if this call ended with TEE_ERROR_CANCEL although nobody aborted it. The TEE's cancel flag belongs to the session;
   * most likely the abort of an earlier call left it set.
   */
  declare readonly staleCancel?: boolean;

  constructor(init: TeeErrorInit) {
    const code = init.code ?? resultName(init.result);
    const origin = originName(init.originCode);
    const name = code.startsWith('TEE_0x')
      ? `result ${hex32(init.result)}`
      : `${code} (${hex32(init.result)})`;
    super(
      `${name} from ${ORIGINS[origin]} for ${init.asked}` + (init.hint === undefined ? '' : `: ${init.hint}`),
    );
    this.code = code;
    this.result = init.result;
    this.origin = origin;
    this.originCode = init.originCode;
    this.uuid = init.uuid;
    if (init.command !== undefined) this.command = init.command;
    this.outputs = init.outputs ?? [];
    if (init.staleCancel === true) this.staleCancel = true;
  }
}

/** What {@link TeeSystemError} is made of. */
export interface TeeSystemErrorInit {
  /** Positive, as in C. */
  errno: number;
  syscall: string;
  operation: string;
  path?: string | undefined;
  /** What was asked, for the message. */
  asked?: string | undefined;
  /** What to do about it, for the message. */
  hint?: string | undefined;
}

/** The operating system refused a call. The form is that of Node's own system errors. */
export class TeeSystemError extends Error {
  /** The errno's name, like `EACCES`. */
  readonly code: string;
  /** Negative, as in Node's own errors. */
  readonly errno: number;
  /** The system call: `open`, `ioctl`, `mmap`, … */
  readonly syscall: string;
  /**
   * What the system call was for: `TEE_IOC_INVOKE`, `DMA_HEAP_IOCTL_ALLOC`, `open`, …; or which bound it met:
   * `MemAvailable`, `memory cgroup`.
   */
  readonly operation: string;
  /** The file of the device or of the dma-heap. */
  declare readonly path?: string;
  /** Of a described TA: its name, like `notary`. */
  declare readonly taName?: string;
  /** Of a described TA's command: its name, like `hash`. */
  declare readonly commandName?: string;

  constructor(init: TeeSystemErrorInit) {
    const { code, text } = describeErrno(init.errno);
    const what = init.syscall === init.operation ? init.syscall : `${init.syscall} ${init.operation}`;
    super(
      `${code}: ${text}, ${what}` +
        (init.path === undefined ? '' : ` '${init.path}'`) +
        (init.asked === undefined ? '' : ` for ${init.asked}`) +
        (init.hint === undefined ? '' : `: ${init.hint}`),
    );
    this.code = code;
    this.errno = -init.errno;
    this.syscall = init.syscall;
    this.operation = init.operation;
    if (init.path !== undefined) this.path = init.path;
  }
}

for (const [type, name] of [
  [TeeError, 'TeeError'],
  [TeeSystemError, 'TeeSystemError'],
] as const) {
  Object.defineProperty(type.prototype, 'name', { value: name, configurable: true, writable: true });
}

/**
 * Name and text of an errno.
 * @param errno positive
 */
export function describeErrno(errno: number): { code: string; text: string } {
  const known = getSystemErrorMap().get(-errno);
  return known === undefined
    ? { code: `E${errno}`, text: `error ${errno}` }
    : { code: known[0], text: known[1] };
}

/** An AbortSignal aborted the call. The form is that of Node's own AbortError. */
export class AbortError extends Error {
  readonly code = 'ABORT_ERR';
  /** How the call ended in the TEE; undefined if nothing was sent, or if the opening of a session was abandoned. */
  declare readonly teeError?: TeeError | TeeSystemError;
  /** Of a described TA: its name, like `notary`. */
  declare readonly taName?: string;
  /** Of a described TA's command: its name, like `hash`. */
  declare readonly commandName?: string;

  /**
   * @param reason the reason of the signal; it becomes `cause`
   * @param asked what was asked, for the message
   * @param teeError how the call ended
   * @param outcome what became of the call, in words
   */
  constructor(
    reason: unknown,
    asked: string,
    teeError?: TeeError | TeeSystemError,
    outcome = teeError === undefined ? 'did not take place' : `ended with ${teeError.code}`,
  ) {
    super(`The operation was aborted: ${asked} ${outcome}`, { cause: reason });
    if (teeError !== undefined) this.teeError = teeError;
  }
}
Object.defineProperty(AbortError.prototype, 'name', {
  value: 'AbortError',
  configurable: true,
  writable: true,
});

function withCode<E extends Error>(error: E, code: string): E & { code: string } {
  return Object.assign(error, { code });
}

const SHORT = {
  depth: 0,
  breakLength: Infinity,
  maxArrayLength: 4,
  maxStringLength: 80,
  customInspect: false,
};

/** A value in a message. What its own code throws is caught. */
export function show(value: unknown): string {
  if (value === undefined) return 'undefined';
  try {
    const text = inspect(value, SHORT);
    return typeof value === 'object' || typeof value === 'function' ? text : `${typeof value} ${text}`;
  } catch {
    return typeof value; // a getter of its own threw
  }
}

/** Of what could be a secret, a PIN say, only the type. */
function showType(value: unknown): string {
  if (typeof value !== 'object') return typeof value;
  if (types.isProxy(value)) return 'Proxy';
  try {
    return Object.prototype.toString.call(value).slice(8, -1);
  } catch {
    return 'object';
  }
}

/**
 * @param expected what it must be: 'a number'
 * @param secret true: the message does not repeat it
 */
export function invalidArgType(
  name: string,
  expected: string,
  actual: unknown,
  secret = false,
): TypeError & { code: string } {
  const given = secret ? showType(actual) : show(actual);
  return withCode(new TypeError(`${name} must be ${expected}, not ${given}`), 'ERR_INVALID_ARG_TYPE');
}

/** @param problem what is wrong: 'must have 16 bytes, not 3' */
export function invalidArgValue(
  name: string,
  actual: unknown,
  problem: string,
): TypeError & { code: string } {
  const given = typeof actual === 'string' ? `; got ${show(actual)}` : '';
  return withCode(new TypeError(`${name} ${problem}${given}`), 'ERR_INVALID_ARG_VALUE');
}

/** @param range what it must be: 'a whole number from 0 to 4' */
export function outOfRange(name: string, range: string, actual: unknown): RangeError & { code: string } {
  return withCode(new RangeError(`${name} must be ${range}, not ${inspect(actual)}`), 'ERR_OUT_OF_RANGE');
}

/** @param what is closed: 'the session with TA …', 'params[1], …,' */
export function closedError(what: string): Error & { code: string } {
  return withCode(new Error(`${what} is closed`), 'ERR_TEE_CLOSED');
}

export function wrongContext(name: string): Error & { code: string } {
  return withCode(
    new Error(
      `${name} is shared memory of another TeeContext. Only the context that made it can use it: ` +
        'allocate or register it with the context of the session',
    ),
    'ERR_TEE_WRONG_CONTEXT',
  );
}

/** @param what needed the memory */
export function noMemory(what: string): Error & { code: string } {
  return withCode(new Error(`There is no memory for ${what}`), 'ERR_MEMORY_ALLOCATION_FAILED');
}

/** @param what is too large */
export function bufferTooLarge(what: string): RangeError & { code: string } {
  return withCode(
    new RangeError(
      `${what} is larger than an ArrayBuffer can be in this runtime (${constants.MAX_LENGTH} bytes)`,
    ),
    'ERR_BUFFER_TOO_LARGE',
  );
}

/** @param problem a whole sentence without its stop */
export function notSupported(problem: string): Error & { code: string } {
  return withCode(new Error(problem), 'ERR_TEE_NOT_SUPPORTED');
}
