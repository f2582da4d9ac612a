/**
 * The parameters of a call. A call takes at most four; each is a pair of 32-bit values or a piece of memory, goes in,
 * out or both, and brings back what its type says.
 */
import {
  byteLengthOf,
  checkBytes,
  checkInteger,
  checkOneOf,
  checkU32,
  intrinsic,
  partOf,
  U32_MAX,
} from './validate.js';
import {
  closedError,
  invalidArgType,
  invalidArgValue,
  noMemory,
  notSupported,
  outOfRange,
} from './errors.js';
import type { FailedOutput } from './errors.js';
import type { Handle } from './handle.js';
import { ParamKind } from './native.js';
import type { Answer, SharedMemoryHandle } from './native.js';

/** OP-TEE takes no more, whatever the kernel's own limit is. */
export const MAX_PARAMETERS = 4;

/** A pair of unsigned 32-bit numbers. */
export interface Value {
  a: number;
  b: number;
}

/** Which way a parameter goes, seen from the client: `in` to the TA, `out` from it. */
export type Direction = 'in' | 'out' | 'inout';

/** Shared memory, as a call sees it. Users never have this object. */
export interface Shared {
  readonly handle: Handle<SharedMemoryHandle>;
  readonly isDmaBuf: boolean;
  /** The SharedMemory, which lives as long as its parameters. */
  readonly owner: object;
}

/**
 * What a parameter is made of. Users never have this object, and it has all of its properties itself, so no code of theirs
 * runs when it is read.
 */
export interface Spec {
  readonly kind: ParamKind;
  /** A value's a; of shared memory the offset. */
  readonly a: number;
  /** A value's b; of memory the size. */
  readonly b: number;
  /** What a temporary buffer takes in, and where its output goes if that is no new array. */
  readonly bytes: Uint8Array | undefined;
  readonly shared: Shared | undefined;
}

/** No parameter. */
export const NONE: Spec = { kind: ParamKind.none, a: 0, b: 0, bytes: undefined, shared: undefined };

declare const output: unique symbol;

/**
 * A parameter, made by `value`, `buffer` or a {@link SharedMemory}. Never changes, so it can be used again.
 * @typeParam Output what it brings back
 */
export class Parameter<Output> {
  declare readonly [output]: Output;
  readonly #spec: Spec;

  private constructor(spec: Spec) {
    this.#spec = spec;
  }

  /** @internal */
  static make<Output>(
    kind: ParamKind,
    a: number,
    b: number,
    bytes?: Uint8Array,
    shared?: Shared,
  ): Parameter<Output> {
    return new Parameter<Output>({ kind, a, b, bytes, shared });
  }

  /** @internal Undefined if it is none: an object that only looks like one, say. */
  static specOf(param: unknown): Spec | undefined {
    return typeof param === 'object' && param !== null && #spec in param ? param.#spec : undefined;
  }
}

/** What `params` can be: up to four parameters; undefined is none. */
export type Params = readonly (Parameter<unknown> | undefined)[];

/** What one parameter brings back. */
export type Output<P> = P extends Parameter<infer O> ? O : undefined;

/** What a call brings back: one entry per parameter, typed by the tuple that went in. */
export type Outputs<P extends Params> = { -readonly [I in keyof P]: Output<P[I]> };

/** Pairs of unsigned 32-bit numbers. */
export const value = {
  /** Numbers for the TA. Brings back nothing. */
  in(a: number, b = 0): Parameter<undefined> {
    return Parameter.make(ParamKind.valueIn, checkU32(a, 'a'), checkU32(b, 'b'));
  },
  /** Numbers from the TA. Brings back `{ a, b }`. */
  out(): Parameter<Value> {
    return Parameter.make(ParamKind.valueOut, 0, 0);
  },
  /** Numbers that the TA may change. Brings back `{ a, b }`. */
  inout(a: number, b = 0): Parameter<Value> {
    return Parameter.make(ParamKind.valueInout, checkU32(a, 'a'), checkU32(b, 'b'));
  },
};

const NULL_KINDS = {
  in: ParamKind.nullIn,
  out: ParamKind.nullOut,
  inout: ParamKind.nullInout,
} as const;

function nullBuffer(direction: 'in'): Parameter<undefined>;
function nullBuffer(direction: 'out' | 'inout'): Parameter<number>;
function nullBuffer(direction: Direction): Parameter<number | undefined>;
function nullBuffer(direction: Direction): Parameter<number | undefined> {
  return Parameter.make(checkOneOf(direction, 'direction', NULL_KINDS), 0, 0);
}

function withBytes<O>(kind: ParamKind, given: Uint8Array): Parameter<O> {
  const bytes = checkBytes(given, 'bytes');
  return Parameter.make<O>(kind, 0, byteLengthOf(bytes), bytes);
}

/**
 * Temporary buffers: memory that the TA sees for the one call only. What goes in is copied before `invoke` or
 * `openSession` returns, so the array is free again then and never changes. An empty buffer is not a NULL one: the TA
 * gets an address with a size of 0.
 */
export const buffer = {
  /** Bytes for the TA. Brings back nothing. */
  in(bytes: Uint8Array): Parameter<undefined> {
    return withBytes(ParamKind.temporaryIn, bytes);
  },
  /**
   * Bytes from the TA. Brings back a new Uint8Array, cut to what the TA wrote.
   * @param size how many bytes there is room for, 0 to 2^32 - 1
   */
  out(size: number): Parameter<Uint8Array> {
    return Parameter.make(ParamKind.temporaryOut, 0, checkInteger(size, 'size', 0, U32_MAX));
  },
  /** Bytes that the TA may change. Brings back a new Uint8Array, cut to the size that the TA left. */
  inout(bytes: Uint8Array): Parameter<Uint8Array> {
    return withBytes(ParamKind.temporaryInout, bytes);
  },
  /**
   * Bytes from the TA, into memory of the caller's: `out` without a new array for each call. It is written when the call
   * has succeeded, as far as the size that the TA left reaches; what lies behind that, and all of it where the call fails,
   * stays as it is. Brings back `bytes` itself, or that part of it, of the same class.
   * @throws (the call) ERR_INVALID_ARG_VALUE where the memory was transferred, closed or made smaller in the meantime; the
   *   TA has succeeded then, and other outputs of the same call may have been written
   */
  into<T extends Uint8Array>(bytes: T): Parameter<T> {
    return withBytes(ParamKind.intoOut, bytes);
  },
  /**
   * Bytes that the TA may change, changed where they are: `inout` without a new array for each call. They are copied
   * before `invoke` or `openSession` returns, and written as those of `into` are. Brings back the same.
   * @throws as `into`
   */
  inPlace<T extends Uint8Array>(bytes: T): Parameter<T> {
    return withBytes(ParamKind.inPlace, bytes);
  },
  /**
   * The NULL buffer: no address at all, which by custom asks a TA how much it would need. `out` and `inout` bring back the
   * size that the TA reported (where it fails with TEE_ERROR_SHORT_BUFFER, it is in the error's `outputs`). Needs the
   * capability `nullMemref`.
   */
  null: nullBuffer,
};

/** No parameters. */
export const NO_PARAMS: Params = Object.freeze([]);
const NO_SPECS: readonly Spec[] = Object.freeze([]);

/**
 * Reads what a caller gives as parameters. This can run code of the caller's; nothing that is done with the specs can.
 * @param nullMemref does the TEE take NULL buffers
 */
export function readParams(params: unknown, nullMemref: boolean): readonly Spec[] {
  if (params === NO_PARAMS) return NO_SPECS;
  if (!Array.isArray(params)) throw invalidArgType('params', 'an array', params);
  const count = params.length;
  if (!(count >= 0 && count <= MAX_PARAMETERS)) {
    throw outOfRange('params.length', `at most ${MAX_PARAMETERS}`, count);
  }
  if (count === 0) return NO_SPECS;
  const specs = places<Spec>(count, NONE);
  for (let i = 0; i < count; i++) specs[i] = readParam(i, (params as readonly unknown[])[i], nullMemref);
  return specs;
}

/**
 * An array of so many places, each with something in it: where nothing was, and in `push` and `map`, a setter of
 * Array.prototype's could get between.
 */
function places<T>(count: number, something: T): T[] {
  switch (count) {
    case 0:
      return [];
    case 1:
      return [something];
    case 2:
      return [something, something];
    case 3:
      return [something, something, something];
    default:
      return [something, something, something, something];
  }
}

function readParam(i: number, param: unknown, nullMemref: boolean): Spec {
  if (param === undefined) return NONE;
  const spec = Parameter.specOf(param);
  if (spec === undefined) {
    throw invalidArgType(`params[${i}]`, 'made by value, buffer or shared memory, or undefined', param);
  }
  if (isNull(spec) && !nullMemref) {
    throw notSupported(
      `params[${i}] is a NULL buffer, which this TEE or its driver does not take (capability nullMemref): ` +
        'pass an empty one, buffer.in(new Uint8Array(0)) or buffer.out(0), if the TA is content with that',
    );
  }
  // Where its context is closed, so is the session, which is looked at next; of another context's the addon finds out.
  if (spec.shared?.handle.number === 0) throw closedError(`params[${i}], a ${spec.shared.handle.what},`);
  return spec;
}

const isNull = ({ kind }: Spec): boolean => kind >= ParamKind.nullIn && kind <= ParamKind.nullInout;

/** Sizes that the TEE reported beyond the room of an output, by what the call brought back. */
const reported = new WeakMap<Uint8Array, number>();
const setReported = intrinsic(WeakMap.prototype, 'set') as (
  map: typeof reported,
  ...entry: [Uint8Array, number]
) => void;
const deleteReported = intrinsic(WeakMap.prototype, 'delete') as (
  map: typeof reported,
  bytes: Uint8Array,
) => void;
let anyReported = false;

/**
 * How many bytes the TEE reported for an output of bytes. A TA can report more than there was room for and succeed
 * nevertheless; the output itself is cut to the room.
 * @param bytes what a call brought back for `buffer.out`, `inout`, `into` or `inPlace`
 * @returns in bytes; their own length unless the TEE reported more
 * @throws TypeError ERR_INVALID_ARG_TYPE
 */
export function reportedSize(bytes: Uint8Array): number {
  checkBytes(bytes, 'bytes');
  return reported.get(bytes) ?? byteLengthOf(bytes);
}

function report(bytes: Uint8Array, size: number, room: number): Uint8Array {
  if (size > room) {
    setReported(reported, bytes, size);
    anyReported = true;
  } else if (anyReported) {
    deleteReported(reported, bytes);
  }
  return bytes;
}

/**
 * What a call that succeeded brought back.
 * @throws ERR_MEMORY_ALLOCATION_FAILED; ERR_INVALID_ARG_VALUE where the caller's own bytes have no room any more
 */
export function readOutputs(specs: readonly Spec[], answer: Answer): unknown[] {
  const outputs = places<unknown>(specs.length, undefined);
  for (let i = 0; i < specs.length; i++) outputs[i] = readOutput(i, specs[i] as Spec, answer);
  return outputs;
}

function readOutput(i: number, spec: Spec, answer: Answer): unknown {
  switch (spec.kind) {
    case ParamKind.valueOut:
    case ParamKind.valueInout:
      // As integers, which V8 keeps without memory of their own where they are small.
      return { a: answer.a(i) >>> 0, b: answer.b(i) >>> 0 };
    case ParamKind.temporaryOut:
    case ParamKind.temporaryInout: {
      const bytes = answer.takeBytes(i);
      if (bytes === undefined) throw noMemory(`an output of ${spec.b} bytes of a call that succeeded`);
      return report(bytes, answer.b(i), spec.b);
    }
    case ParamKind.intoOut:
    case ParamKind.inPlace: {
      if (answer.a(i) !== 1) throw lost(i, spec);
      const size = answer.b(i);
      return report(partOf(spec.bytes as Uint8Array, size < spec.b ? size : spec.b), size, spec.b);
    }
    case ParamKind.nullOut:
    case ParamKind.nullInout:
    case ParamKind.sharedOut:
    case ParamKind.sharedInout:
      return answer.b(i);
    default:
      return undefined;
  }
}

function lost(i: number, spec: Spec): Error {
  return invalidArgValue(
    `params[${i}]`,
    undefined,
    `has no room any more for the ${spec.b} bytes that it was given for: its memory was transferred, closed or made ` +
      'smaller during the call, which itself has succeeded',
  );
}

/** What a call that failed brought back: values, and sizes as the TA left them. */
export function readFailedOutputs(specs: readonly Spec[], answer: Answer): FailedOutput[] {
  const outputs = places<FailedOutput>(specs.length, undefined);
  for (let i = 0; i < specs.length; i++) outputs[i] = readFailedOutput(i, specs[i] as Spec, answer);
  return outputs;
}

function readFailedOutput(i: number, { kind }: Spec, answer: Answer): FailedOutput {
  switch (kind) {
    case ParamKind.valueOut:
    case ParamKind.valueInout:
      return { a: answer.a(i), b: answer.b(i) };
    case ParamKind.temporaryOut:
    case ParamKind.temporaryInout: {
      const output = { size: answer.b(i) };
      const value = answer.takeBytes(i);
      if (value === undefined) return output;
      // Not enumerable: errors are logged as they are, and these bytes can be secret.
      return Object.defineProperty(output, 'data', { value, configurable: true, writable: true });
    }
    // The caller's own bytes are as they were.
    case ParamKind.intoOut:
    case ParamKind.inPlace:
    case ParamKind.nullOut:
    case ParamKind.nullInout:
    case ParamKind.sharedOut:
    case ParamKind.sharedInout:
      return { size: answer.b(i) };
    default:
      return undefined;
  }
}

const NAMES: Record<ParamKind, string> = {
  [ParamKind.none]: 'none',
  [ParamKind.valueIn]: 'value.in',
  [ParamKind.valueOut]: 'value.out',
  [ParamKind.valueInout]: 'value.inout',
  [ParamKind.temporaryIn]: 'buffer.in',
  [ParamKind.temporaryOut]: 'buffer.out',
  [ParamKind.temporaryInout]: 'buffer.inout',
  [ParamKind.intoOut]: 'buffer.into',
  [ParamKind.inPlace]: 'buffer.inPlace',
  [ParamKind.nullIn]: "buffer.null('in')",
  [ParamKind.nullOut]: "buffer.null('out')",
  [ParamKind.nullInout]: "buffer.null('inout')",
  [ParamKind.sharedIn]: 'shm.in',
  [ParamKind.sharedOut]: 'shm.out',
  [ParamKind.sharedInout]: 'shm.inout',
};

/** All the memory that a call passes, in bytes. */
export function memoryOf(specs: readonly Spec[]): number {
  return specs.reduce((sum, { kind, b }) => sum + (kind > ParamKind.valueInout ? b : 0), 0);
}

/** Parameters made anew from what was read of a caller's. */
export function parametersOf(specs: readonly Spec[]): Params {
  return specs.map((spec) =>
    spec === NONE ? undefined : Parameter.make(spec.kind, spec.a, spec.b, spec.bytes, spec.shared),
  );
}

/**
 * The same for calls that are made later: what goes in is copied now, so the caller's bytes are free again.
 * `restoreInPlace` brings outputs of `inPlace` to where they belong.
 */
export function keepInputs(specs: readonly Spec[]): readonly Spec[] {
  return specs.map((spec) => {
    if (spec.bytes === undefined || spec.kind === ParamKind.intoOut) return spec;
    const bytes = new Uint8Array(byteLengthOf(spec.bytes));
    bytes.set(spec.bytes);
    return { ...spec, bytes };
  });
}

/**
 * After a call with inputs that were kept: writes outputs of `inPlace` into the caller's own bytes.
 * @param specs the caller's
 * @param outputs what the call brought back, changed here
 * @throws ERR_INVALID_ARG_VALUE where the caller's own bytes have no room any more
 */
export function restoreInPlace(specs: readonly Spec[], outputs: unknown[]): void {
  specs.forEach((spec, i) => {
    if (spec.kind !== ParamKind.inPlace) return;
    const own = spec.bytes as Uint8Array;
    const found = outputs[i] as Uint8Array;
    if (byteLengthOf(own) < spec.b) throw lost(i, spec);
    Uint8Array.prototype.set.call(own, found);
    outputs[i] = report(partOf(own, byteLengthOf(found)), reportedSize(found), spec.b);
  });
}

/**
 * Zeroes copies that `keepInputs` has made, and what came back in them.
 * @param specs the caller's, whose own bytes stay as they are
 * @param kept of these
 */
export function eraseKept(specs: readonly Spec[], kept: readonly Spec[]): void {
  kept.forEach(({ bytes }, i) => {
    if (bytes !== undefined && bytes !== specs[i]?.bytes) bytes.fill(0);
  });
}

/** A parameter in a message: its kind and size, never its content, which can be a secret. */
export function describeParam({ kind, a, b }: Spec): string {
  const name = NAMES[kind];
  if (kind >= ParamKind.sharedIn) return `${name} of ${b} bytes at ${a}`;
  return kind > ParamKind.valueInout && kind <= ParamKind.inPlace ? `${name} of ${b} bytes` : name;
}
