/** The slots of a command, as a description has them: one for each of its parameters. */
import type { Direction } from '../client/parameters.js';
import type { SharedMemory } from '../client/shared-memory.js';
import type { Field, Struct } from './fields.js';

declare const io: unique symbol;

/**
 * A parameter of a command.
 * @typeParam In the arguments that it takes, by name
 * @typeParam Out what it brings back, by name
 */
export interface Slot<In extends object, Out extends object> {
  readonly [io]: { in: In; out: Out };
}

/** What a slot is made of, as it was written. `defineTrustedApplication` checks it. */
export interface SlotData {
  readonly kind: 'value' | 'bytes' | 'struct' | 'text' | 'memory';
  readonly direction: Direction;
  /** Names and fields of a value; the name of anything else. */
  readonly names: readonly unknown[];
  readonly struct?: unknown;
  readonly options?: unknown;
}

const slots = new WeakMap<object, SlotData>();

/** The data of a slot; undefined of what is none. */
export function slotOf(slot: unknown): SlotData | undefined {
  return typeof slot === 'object' && slot !== null ? slots.get(slot) : undefined;
}

function make<S>(data: SlotData): S {
  const made = Object.freeze({});
  slots.set(made, data);
  return made as S;
}

/** A field that takes one of the two numbers of a value: a name alone is a u32. */
export type NarrowField = string | Field<string, number | boolean | string, boolean>;
/** A field that may take both. */
export type WideField = NarrowField | Field<string, bigint, boolean>;

type Named<N extends string, T> = { readonly [K in N]: T };
type MaybeNamed<N extends string, T> = { readonly [K in N]?: T | undefined };
type Nothing = Record<never, never>;

/** What a field of a value takes. */
export type FieldIn<F> = F extends string
  ? Named<F, number>
  : F extends Field<infer N, infer T, infer Optional>
    ? Optional extends true
      ? MaybeNamed<N, T>
      : Named<N, T>
    : Nothing;
/** What it brings back. */
export type FieldOut<F> = F extends string
  ? { [K in F]: number }
  : F extends Field<infer N, infer T, boolean>
    ? { [K in N]: T }
    : Nothing;

/** How many bytes: exactly `size`, or from `min` (0 unless told otherwise) to `max`. */
export type Sizes =
  | { readonly size: number; readonly min?: never; readonly max?: never }
  | { readonly min?: number; readonly max: number; readonly size?: never };
/** How many bytes come from the TA: exactly `size`, or at most `max`. */
export type OutputSizes =
  | { readonly size: number; readonly max?: never; readonly initial?: never }
  | {
      readonly max: number;
      /** How much room the first call gives; all of `max` unless told otherwise. */
      readonly initial?: number;
      readonly size?: never;
    };
/** The argument can be left out; the TA gets a NULL buffer then. */
export interface Optional {
  readonly optional: true;
}
export interface Mandatory {
  readonly optional?: false;
}
export interface TextOptions {
  /** In bytes of UTF-8. */
  readonly max: number;
}
export interface MemoryOptions {
  /** In bytes. */
  readonly min?: number;
  /** In bytes. */
  readonly max?: number;
}

/** Memory that stays shared, all of it or a part. */
export type MemoryArgument =
  | SharedMemory
  | {
      readonly memory: SharedMemory;
      /** In bytes; 0 unless told otherwise. */
      readonly offset?: number | undefined;
      /** In bytes; all that follows the offset unless told otherwise. */
      readonly size?: number | undefined;
    };

const value = {
  /** Numbers for the TA. */
  in: ((...names: unknown[]) => make({ kind: 'value', direction: 'in', names })) as {
    <A extends WideField>(a: A): Slot<FieldIn<A>, Nothing>;
    <A extends NarrowField, B extends NarrowField>(a: A, b: B): Slot<FieldIn<A> & FieldIn<B>, Nothing>;
  },
  /** Numbers from the TA. */
  out: ((...names: unknown[]) => make({ kind: 'value', direction: 'out', names })) as {
    <A extends WideField>(a: A): Slot<Nothing, FieldOut<A>>;
    <A extends NarrowField, B extends NarrowField>(a: A, b: B): Slot<Nothing, FieldOut<A> & FieldOut<B>>;
  },
  /** Numbers that the TA may change. */
  inout: ((...names: unknown[]) => make({ kind: 'value', direction: 'inout', names })) as {
    <A extends WideField>(a: A): Slot<FieldIn<A>, FieldOut<A>>;
    <A extends NarrowField, B extends NarrowField>(
      a: A,
      b: B,
    ): Slot<FieldIn<A> & FieldIn<B>, FieldOut<A> & FieldOut<B>>;
  },
};

function bytesIn<N extends string>(
  name: N,
  options: Sizes & Optional,
): Slot<MaybeNamed<N, Uint8Array>, Nothing>;
function bytesIn<N extends string>(name: N, options: Sizes & Mandatory): Slot<Named<N, Uint8Array>, Nothing>;
function bytesIn(name: string, options: unknown): Slot<object, object> {
  return make({ kind: 'bytes', direction: 'in', names: [name], options });
}

function bytesOut<N extends string>(
  name: N,
  options: OutputSizes & { readonly size: number },
): Slot<MaybeNamed<N, Uint8Array>, { [K in N]: Uint8Array }>;
function bytesOut<N extends string>(
  name: N,
  options: OutputSizes,
): Slot<MaybeNamed<N, number | Uint8Array>, { [K in N]: Uint8Array }>;
function bytesOut(name: string, options: unknown): Slot<object, object> {
  return make({ kind: 'bytes', direction: 'out', names: [name], options });
}

const bytes = {
  /** Bytes for the TA, copied before the call returns. */
  in: bytesIn,
  /**
   * Bytes from the TA: a new Uint8Array, cut to what the TA wrote. The argument of the same name is how much room there is,
   * in bytes, or a Uint8Array that they are written into; it can be left out.
   */
  out: bytesOut,
  /** Bytes that the TA may change. As many as went in come back, or fewer. */
  inout<N extends string>(name: N, options: Sizes): Slot<Named<N, Uint8Array>, { [K in N]: Uint8Array }> {
    return make({ kind: 'bytes', direction: 'inout', names: [name], options });
  },
};

const structs = {
  /** A struct for the TA. */
  in<N extends string, In, Out>(name: N, struct: Struct<In, Out>): Slot<Named<N, In>, Nothing> {
    return make({ kind: 'struct', direction: 'in', names: [name], struct });
  },
  /** A struct from the TA. */
  out<N extends string, In, Out>(name: N, struct: Struct<In, Out>): Slot<Nothing, { [K in N]: Out }> {
    return make({ kind: 'struct', direction: 'out', names: [name], struct });
  },
  /** A struct that the TA may change. */
  inout<N extends string, In, Out>(name: N, struct: Struct<In, Out>): Slot<Named<N, In>, { [K in N]: Out }> {
    return make({ kind: 'struct', direction: 'inout', names: [name], struct });
  },
};

function textIn<N extends string>(
  name: N,
  options: TextOptions & Optional,
): Slot<MaybeNamed<N, string>, Nothing>;
function textIn<N extends string>(name: N, options: TextOptions & Mandatory): Slot<Named<N, string>, Nothing>;
function textIn(name: string, options: unknown): Slot<object, object> {
  return make({ kind: 'text', direction: 'in', names: [name], options });
}

/** UTF-8 without a NUL. */
const text = {
  /** Text for the TA. */
  in: textIn,
  /** Text from the TA. */
  out<N extends string>(name: N, options: TextOptions): Slot<Nothing, { [K in N]: string }> {
    return make({ kind: 'text', direction: 'out', names: [name], options });
  },
  /** Text that the TA may change; it always has room for `max` bytes. */
  inout<N extends string>(name: N, options: TextOptions): Slot<Named<N, string>, { [K in N]: string }> {
    return make({ kind: 'text', direction: 'inout', names: [name], options });
  },
};

/** Overloads of a slot of shared memory. */
interface MakeMemory<Direct extends Direction> {
  <N extends string>(
    name: N,
    options: MemoryOptions & Optional,
  ): Slot<MaybeNamed<N, MemoryArgument>, Direct extends 'in' ? Nothing : { [K in N]: number }>;
  <N extends string>(
    name: N,
    options?: MemoryOptions & Mandatory,
  ): Slot<Named<N, MemoryArgument>, Direct extends 'in' ? Nothing : { [K in N]: number }>;
}

const memory = {
  /** Shared memory that the TA reads. */
  in: ((name: string, options: unknown = {}) =>
    make({ kind: 'memory', direction: 'in', names: [name], options })) as MakeMemory<'in'>,
  /** Shared memory that the TA writes; brings back the size that it reported, in bytes. */
  out: ((name: string, options: unknown = {}) =>
    make({ kind: 'memory', direction: 'out', names: [name], options })) as MakeMemory<'out'>,
  /** Shared memory that the TA reads and writes; brings back the size that it reported, in bytes. */
  inout: ((name: string, options: unknown = {}) =>
    make({ kind: 'memory', direction: 'inout', names: [name], options })) as MakeMemory<'inout'>,
};

/** Makes the slots of commands. Seen from the client: `in` to the TA, `out` from it. */
export const slot = { value, bytes, struct: structs, text, memory };
