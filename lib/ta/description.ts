/**
 * What a described TA is, as plain data that was checked: what clients are built from, and the C of the TA is generated
 * from. It has no functions and no cycles.
 *
 * Names are what JavaScript uses (camelCase or snake_case, `[a-z][A-Za-z0-9_]*`), cNames the same in snake_case. Both are
 * unique where they stand. No cName of an argument or a field is a keyword or a type of C; that of a command or a struct may
 * be. Generated C puts the TA's name before all that is global (`notary_hash`, `NOTARY_CMD_HASH`, `struct notary_config`),
 * but for results, which are named in full.
 */
import type { Direction } from '../client/parameters.js';
import type { ScalarType, StructLayout } from './layout.js';

/** A described TA. */
export interface Description {
  /** `[a-z][a-z0-9_]*`, also its C name and the prefix of all that is generated. */
  readonly name: string;
  /** Lower case: 8aaaf200-2450-11e4-abe2-0002a5d5c51b. */
  readonly uuid: string;
  /** The TA's own results, unique names and values; none is GlobalPlatform's. */
  readonly results: readonly ResultDescription[];
  /** The parameters of the opening, at most four. */
  readonly open: readonly SlotDescription[];
  /** In the order in which they were written; unique names, cNames and ids. */
  readonly commands: readonly CommandDescription[];
  /** All structs of its slots, nested ones included; each stands behind those that it contains. */
  readonly structs: readonly StructLayout[];
}

/** A result of the TA's own. */
export interface ResultDescription {
  /** `[A-Z][A-Z0-9_]*`, the macro and `error.code`. */
  readonly name: string;
  /** u32, not 0 */
  readonly value: number;
}

/** A command. */
export interface CommandDescription {
  readonly name: string;
  readonly cName: string;
  /** u32 */
  readonly id: number;
  /** At most four. Slot i is parameter i; those behind the last are TEE_PARAM_TYPE_NONE. */
  readonly slots: readonly SlotDescription[];
  /** The client answers a SHORT_BUFFER with a second call. Nothing for the TA to do. */
  readonly repeatable: boolean;
}

/** One parameter of a command. */
export type SlotDescription = ValueSlot | BytesSlot | StructSlot | TextSlot | MemorySlot;

/** TEE_PARAM_TYPE_VALUE_*: one or two numbers. What no field uses is 0 going in, and ignored coming out. */
export interface ValueSlot {
  readonly kind: 'value';
  readonly direction: Direction;
  /** One or two. A u64 is alone. */
  readonly fields: readonly ValueField[];
}

/** A number in a value. */
export interface ValueField {
  readonly name: string;
  readonly cName: string;
  readonly type: ScalarType;
  /** 'ab': a u64, its upper half in a, its lower half in b, as OP-TEE's reg_pair_to_64 takes them. */
  readonly place: 'a' | 'b' | 'ab';
  /** What the client sends where none is given (in and inout only): a number, a bigint (u64), a boolean or a member's name. */
  readonly default?: number | bigint | boolean | string | undefined;
}

/** TEE_PARAM_TYPE_MEMREF_*: bytes of any content, in memory of the one call. */
export interface BytesSlot {
  readonly kind: 'bytes';
  readonly direction: Direction;
  readonly name: string;
  readonly cName: string;
  /**
   * The fewest bytes that can be passed, going in (in and inout). Of an output 0, unless it has a fixed size: there
   * min and max are both that size, the client always gives room for all of it, and as much comes back (of an inout, too).
   */
  readonly min: number;
  /** The most bytes, in and out. An inout has as much room as went in. */
  readonly max: number;
  /** Of an output (out): how much room the client gives at first unless told otherwise, in bytes, at most max. */
  readonly initial: number;
  /** Only of an input (in): it can be left out, and is a NULL memref then, with a size of 0. */
  readonly optional: boolean;
}

/** TEE_PARAM_TYPE_MEMREF_*: exactly one struct, in memory of the one call. */
export interface StructSlot {
  readonly kind: 'struct';
  readonly direction: Direction;
  readonly name: string;
  readonly cName: string;
  readonly struct: StructLayout;
}

/**
 * TEE_PARAM_TYPE_MEMREF_*: UTF-8 without a NUL, in memory of the one call. There is no terminator in that memory: going in,
 * the memref has the text's size; an output has room for max bytes, and is cut to the text's size. An inout has always max
 * bytes: going in the text, then zeros up to the end; coming out as an output.
 */
export interface TextSlot {
  readonly kind: 'text';
  readonly direction: Direction;
  readonly name: string;
  readonly cName: string;
  /** In bytes of UTF-8, at least 1. A `char[max + 1]` has room for all of it and a terminator. */
  readonly max: number;
  /** Only of an input (in): it can be left out, and is a NULL memref then, with a size of 0. */
  readonly optional: boolean;
}

/** TEE_PARAM_TYPE_MEMREF_*: memory that stays shared over many calls, or a part of it. */
export interface MemorySlot {
  readonly kind: 'memory';
  readonly direction: Direction;
  readonly name: string;
  readonly cName: string;
  /** The fewest bytes that can be passed; 0 unless told otherwise. */
  readonly min: number;
  /** The most bytes that can be passed; 2^32 - 1 unless told otherwise. */
  readonly max: number;
  /** It can be left out, and is a NULL memref then, with a size of 0. */
  readonly optional: boolean;
}

/** The names of what a slot has: of a value one or two. */
export const namesOf = (slot: SlotDescription): string[] =>
  slot.kind === 'value' ? slot.fields.map(({ name }) => name) : [slot.name];

/** The names of a slot's arguments in C. What has no fixed size has another one for it. */
export function cNamesOf(slot: SlotDescription): string[] {
  if (slot.kind === 'value') return slot.fields.map(({ cName }) => cName);
  return hasSize(slot) ? [slot.cName, `${slot.cName}_size`] : [slot.cName];
}

/** Is its size told with each call? */
export const hasSize = (slot: SlotDescription): boolean =>
  slot.kind === 'memory' || (slot.kind === 'bytes' && slot.min !== slot.max);

const DESCRIPTION: unique symbol = Symbol.for('node-optee:description') as never;

/** Marks what `defineTrustedApplication` made. Two copies of the package, a project's and that of a command, know each other's. */
export interface Described {
  readonly [DESCRIPTION]: Description;
}

/** @internal */
export function describe<T extends object>(target: T, description: Description): T & Described {
  return Object.defineProperty(target, DESCRIPTION, { value: description }) as T & Described;
}

/** The description of what `defineTrustedApplication` returned; undefined of anything else. */
export function descriptionOf(value: unknown): Description | undefined {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null) return undefined;
  return (value as Partial<Described>)[DESCRIPTION];
}
