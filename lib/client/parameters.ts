/**
 * The parameters of a call. A call takes at most four; each is a pair of 32-bit values or a piece of memory, goes
 * in, out or both, and brings back what its type says.
 */
import {
  invalidArgType,
  invalidArgValue,
  noMemory,
  notSupported,
  outOfRange,
  wrongContext,
  closedError,
} from './errors.js';
import type { FailedOutput } from './errors.js';
import { Packet, Param, ParamKind } from './native.js';
import type { Native, Outputs as NativeOutputs } from './native.js';
import type { SharedMemory } from './shared-memory.js';
import { checkBytes, checkInteger, checkU32, U32_MAX } from './validate.js';

/** OP-TEE takes no more, whatever the kernel's own limit is. */
export const MAX_PARAMETERS = 4;

/** A pair of unsigned 32-bit numbers. */
export interface Value {
  a: number;
  b: number;
}

/** Which way a parameter goes, seen from the client: `in` to the TA, `out` from it. */
export type Direction = 'in' | 'out' | 'inout';

declare const output: unique symbol;

/**
 * A parameter, made by `value`, `buffer` or a {@link SharedMemory}. Never changes, so it can be used again.
 * @typeParam Output what it brings back
 */
export class Parameter<Output> {
  declare readonly [output]: Output;
  /** @internal */
  readonly kind: ParamKind;
  /** @internal value a; shared memory: the offset */
  readonly a: number;
  /** @internal value b; memory: the size */
  readonly b: number;
  /** @internal what a temporary buffer takes in, and where its output goes if that is no new array */
  readonly bytes: Uint8Array | undefined;
  /** @internal */
  readonly memory: SharedMemory | undefined;

  private constructor(kind: ParamKind, a: number, b: number, bytes?: Uint8Array, memory?: SharedMemory) {
    this.kind = kind;
    this.a = a;
    this.b = b;
    this.bytes = bytes;
    this.memory = memory;
  }

  /** @internal */
  static make<Output>(
    kind: ParamKind,
    a: number,
    b: number,
    bytes?: Uint8Array,
    memory?: SharedMemory,
  ): Parameter<Output> {
    return new Parameter<Output>(kind, a, b, bytes, memory);
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

/**
 * Temporary buffers: memory that the TA sees for the one call only. What goes in is copied before `invoke` or
 * `openSession` returns, so the array is free again then and never changes. An empty buffer is not a NULL one: the
 * TA gets an address with a size of 0.
 */
export const buffer = {
  /** Bytes for the TA. Brings back nothing. */
  in(bytes: Uint8Array): Parameter<undefined> {
    checkBytes(bytes, 'bytes');
    return Parameter.make(ParamKind.temporaryIn, 0, bytes.byteLength, bytes);
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
    checkBytes(bytes, 'bytes');
    return Parameter.make(ParamKind.temporaryInout, 0, bytes.byteLength, bytes);
  },
  /**
   * Bytes from the TA, into memory of the caller's: `out` without a new array for each call. It is written when the call
   * has succeeded, as far as the size that the TA left reaches; what lies behind that, and all of it where the call fails,
   * stays as it is. Brings back `bytes` itself, or a Uint8Array over that part of it.
   * @throws (the call) ERR_INVALID_ARG_VALUE where the memory was transferred, closed or made smaller in the meantime; the
   *   TA has succeeded then, and other outputs of the same call may have been written
   */
  into(bytes: Uint8Array): Parameter<Uint8Array> {
    checkBytes(bytes, 'bytes');
    return Parameter.make(ParamKind.intoOut, 0, bytes.byteLength, bytes);
  },
  /**
   * Bytes that the TA may change, changed where they are: `inout` without a new array for each call. They are copied
   * before `invoke` or `openSession` returns, and written as those of `into` are. Brings back the same.
   * @throws as `into`
   */
  inPlace(bytes: Uint8Array): Parameter<Uint8Array> {
    checkBytes(bytes, 'bytes');
    return Parameter.make(ParamKind.inPlace, 0, bytes.byteLength, bytes);
  },
  /**
   * The NULL buffer: no address at all, which by custom asks a TA how much it would need (a
   * TEE_ERROR_SHORT_BUFFER then has the size in its `outputs`). Needs the capability `nullMemref`.
   */
  null(direction: Direction): Parameter<undefined> {
    if (!Object.hasOwn(NULL_KINDS, direction)) {
      throw invalidArgValue('direction', direction, "must be 'in', 'out' or 'inout'");
    }
    return Parameter.make(NULL_KINDS[direction], 0, 0);
  },
};

/** No parameters. */
export const NO_PARAMS: Params = Object.freeze([]);

/**
 * The parameters of a call in an array of its own: the caller's may be another's by the time that the call ends.
 */
export function copyParams(params: Params): Params {
  if (params === NO_PARAMS) return params;
  const given = params;
  if (!Array.isArray(params)) throw invalidArgType('params', 'an array', params);
  const count = params.length;
  if (!(count >= 0 && count <= MAX_PARAMETERS)) {
    throw outOfRange('params.length', `at most ${MAX_PARAMETERS}`, count);
  }
  // Literals: the store of an array that grows has room for many more.
  switch (count) {
    case 0:
      return NO_PARAMS;
    case 1:
      return [given[0]];
    case 2:
      return [given[0], given[1]];
    case 3:
      return [given[0], given[1], given[2]];
    default:
      return [given[0], given[1], given[2], given[3]];
  }
}

/**
 * Checks the parameters of a call and puts them into the packet. None of the caller's code may run between this and
 * the native function.
 * @param params of {@link copyParams}
 * @param context of the session, which the shared memory must be of
 * @param nullMemref does the TEE take NULL buffers
 * @returns is there a buffer whose bytes are arguments of the native function
 */
export function pack(n: Native, params: Params, context: object, nullMemref: boolean): boolean {
  n.packet[Packet.count] = params.length;
  // Apart from the work, this is short enough for V8 to have it in its callers.
  return params.length !== 0 && packEach(n, params, context, nullMemref);
}

function packEach(n: Native, params: Params, context: object, nullMemref: boolean): boolean {
  const packet = n.packet;
  const count = params.length;
  let bytes = false;
  let at = Packet.params as number;
  for (let i = 0; i < count; i++, at += Param.stride) {
    const param = params[i];
    if (param === undefined) {
      packet[at + Param.kind] = ParamKind.none;
      continue;
    }
    if (!(param instanceof Parameter)) {
      throw invalidArgType(`params[${i}]`, 'made by value, buffer or shared memory, or undefined', param);
    }
    const kind = param.kind;
    packet[at + Param.kind] = kind;
    packet[at + Param.a] = param.a;
    packet[at + Param.b] = param.b;
    if (kind <= ParamKind.valueInout) continue;
    if (kind <= ParamKind.inPlace) {
      if (param.bytes !== undefined) {
        bytes = true;
        if (param.bytes.byteLength !== param.b) throw changed(i, param);
      }
    } else if (kind >= ParamKind.sharedIn) {
      const memory = param.memory as SharedMemory;
      if (memory.closed) throw closedError(`params[${i}], ${memory.description},`);
      if (memory.context !== context) throw wrongContext(`params[${i}]`);
      packet[at + Param.memory] = memory.handle;
    } else if (!nullMemref) {
      throw notSupported(
        `params[${i}] is a NULL buffer, which this TEE or its driver does not take (capability nullMemref): ` +
          'pass an empty one, buffer.in(new Uint8Array(0)) or buffer.out(0), if the TA is content with that',
      );
    }
  }
  return bytes;
}

function changed(i: number, param: Parameter<unknown>): Error {
  return invalidArgValue(
    `params[${i}]`,
    undefined,
    `has ${param.bytes?.byteLength ?? 0} bytes now, but had ${param.b} when the parameter was made: ` +
      'its memory was transferred or resized since',
  );
}

/**
 * What a call that succeeded brought back.
 * @param n whose bytes have the small outputs
 * @param numbers the packet, or the records
 * @param at where the record begins
 * @param params of {@link copyParams}: what they bring back takes their places
 * @param first the index of the first parameter in `outputs`
 */
export function unpack(
  n: Native,
  numbers: Float64Array,
  at: number,
  params: Params,
  outputs: NativeOutputs | undefined,
  first: number,
): unknown[] {
  return params.length === 0 ? [] : unpackEach(n, numbers, at, params, outputs, first);
}

function unpackEach(
  n: Native,
  numbers: Float64Array,
  at: number,
  params: Params,
  outputs: NativeOutputs | undefined,
  first: number,
): unknown[] {
  const count = params.length;
  const found = params as unknown[]; // the call's own, which nothing reads any more; an array less is garbage less
  for (let i = 0, p = at + Packet.params; i < count; i++, p += Param.stride) {
    const param = params[i];
    switch (param?.kind) {
      case ParamKind.valueOut:
      case ParamKind.valueInout:
        // As integers, which V8 keeps without memory of their own where they are small.
        found[i] = { a: (numbers[p + Param.a] as number) >>> 0, b: (numbers[p + Param.b] as number) >>> 0 };
        break;
      case ParamKind.temporaryOut:
      case ParamKind.temporaryInout:
        found[i] = outputBytes(n, numbers, p, param, outputs?.[first + i]);
        if (found[i] === undefined) throw noMemory(`an output of ${param.b} bytes of a call that succeeded`);
        break;
      case ParamKind.intoOut:
      case ParamKind.inPlace:
        found[i] = ownBytes(n, numbers, at, i, param);
        if (found[i] === undefined) throw lost(i, param);
        break;
      case ParamKind.sharedOut:
      case ParamKind.sharedInout:
        // A TA can claim more than it was given room for.
        found[i] = Math.min(numbers[p + Param.b] as number, param.b);
        break;
      default:
        found[i] = undefined;
    }
  }
  return found;
}

/** The bytes of a temporary output, if there are any: of small ones a copy, of large ones the array that came. */
function outputBytes(
  n: Native,
  numbers: Float64Array,
  p: number,
  param: Parameter<unknown>,
  large: Uint8Array | undefined,
): Uint8Array | undefined {
  const from = (numbers[p + Param.memory] as number) | 0;
  if (from < 0) return large;
  // A TA can claim more than it was given room for. (Small integers all, for the sake of speed.)
  const size = numbers[p + Param.b] as number;
  return n.bytes.slice(from, (from + (size < param.b ? size : param.b)) | 0);
}

/** The caller's own bytes, with the output in them, as far as there is one; undefined where they have no room for it. */
function ownBytes(
  n: Native,
  numbers: Float64Array,
  at: number,
  i: number,
  param: Parameter<unknown>,
): Uint8Array | undefined {
  const bytes = param.bytes as Uint8Array;
  // A blocking call has written it already.
  if (numbers === n.records && !n.takeOutput(at / Packet.length, i, bytes)) return undefined;
  // A TA can claim more than it was given room for, and the memory can have grown.
  const wrote = Math.min(numbers[at + Packet.params + i * Param.stride + Param.b] as number, param.b);
  // Not subarray(), which can be code of somebody's own.
  return wrote < bytes.byteLength ? new Uint8Array(bytes.buffer, bytes.byteOffset, wrote) : bytes;
}

function lost(i: number, param: Parameter<unknown>): Error {
  return invalidArgValue(
    `params[${i}]`,
    undefined,
    `has no room any more for the ${param.b} bytes that it was given for: its memory was transferred, closed or made ` +
      'smaller during the call, which itself has succeeded',
  );
}

/**
 * What a call that failed brought back: sizes as the TA left them. Arguments as for {@link unpack}; `params` stay as they
 * are.
 */
export function unpackFailed(
  n: Native,
  numbers: Float64Array,
  at: number,
  params: Params,
  outputs: NativeOutputs | undefined,
  first: number,
): FailedOutput[] {
  return params.map((param, i) => {
    const p = at + Packet.params + i * Param.stride;
    const size = numbers[p + Param.b] as number;
    switch (param?.kind) {
      case ParamKind.valueOut:
      case ParamKind.valueInout:
        return { a: numbers[p + Param.a] as number, b: size };
      case ParamKind.temporaryOut:
      case ParamKind.temporaryInout: {
        const data = outputBytes(n, numbers, p, param, outputs?.[first + i]);
        return data === undefined ? { size } : { size, data };
      }
      // The caller's own bytes are as they were.
      case ParamKind.intoOut:
      case ParamKind.inPlace:
      case ParamKind.nullOut:
      case ParamKind.nullInout:
      case ParamKind.sharedOut:
      case ParamKind.sharedInout:
        return { size };
      default:
        return undefined;
    }
  });
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

/** Is it memory, NULL included? */
export function isMemory(param: Parameter<unknown> | undefined): param is Parameter<unknown> {
  return param !== undefined && param.kind > ParamKind.valueInout;
}

/** A parameter in a message: its kind and size, never its content, which can be a secret. */
export function describeParam(param: Parameter<unknown> | undefined): string {
  if (param === undefined) return 'none';
  const name = NAMES[param.kind];
  if (param.kind <= ParamKind.valueInout) return name;
  if (param.kind <= ParamKind.inPlace) return `${name} of ${param.b} bytes`;
  if (param.kind >= ParamKind.sharedIn) return `${name} of ${param.b} bytes at ${param.a}`;
  return name;
}
