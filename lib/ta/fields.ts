/** The types of fields, as a description has them. */
import { U32_MAX } from '../client/validate.js';
import { layOut, type EnumerationMember, type FieldType, type ScalarType } from './layout.js';
import { cNameOf, memberProblem, structProblem, variableProblem } from './names.js';
import { checkNumber, checkRecord, refuse, refused, Seen } from './refuse.js';

/** The most bytes of a struct: a TA copies it onto its stack. */
const MAX_STRUCT_SIZE = 65536;

declare const io: unique symbol;

/**
 * The type of a struct's field.
 * @typeParam In what the client takes
 * @typeParam Out what it brings back
 */
export interface Type<In, Out = In> {
  readonly [io]: { in: In; out: Out };
}

/**
 * A type that fits into a value, too. Called with a name it makes a field of a value: `slot.value.in(u64('offset'))`.
 * @typeParam T what it is in JavaScript
 */
export interface Scalar<T> extends Type<T> {
  <N extends string>(name: N): Field<N, T, false>;
  /** With `default`, the argument can be left out. */
  <N extends string>(name: N, options: { readonly default: T }): Field<N, T, true>;
}

/** A named field of a value. Optional: it has a default. */
export interface Field<N extends string, T, Optional extends boolean> {
  readonly [io]: { name: N; type: T; optional: Optional };
}

/** A struct. */
export interface Struct<In, Out = In> extends Type<In, Out> {
  readonly name: string;
  /** In bytes. */
  readonly size: number;
}

/** What a type is in JavaScript when it comes from the TA: `TypeOf<typeof Config>`. */
export type TypeOf<T> = T extends Type<unknown, infer Out> ? Out : never;
/** What a type is in JavaScript when it goes to the TA. */
export type InputOf<T> = T extends Type<infer In, unknown> ? In : never;

/** What is behind the objects that a description is written with. Users never have it. */
const types = new WeakMap<object, FieldType>();
const fields = new WeakMap<object, FieldData>();

/** A field of a value, as it was written. */
export interface FieldData {
  readonly name: unknown;
  readonly type: ScalarType;
  readonly default: unknown;
}

/** The data of a type; undefined of what is none. */
export function typeOf(type: unknown): FieldType | undefined {
  return isObject(type) ? types.get(type) : undefined;
}

/** The data of a value's field; undefined of what is none. */
export function fieldOf(field: unknown): FieldData | undefined {
  return isObject(field) ? fields.get(field) : undefined;
}

const isObject = (value: unknown): value is object =>
  (typeof value === 'object' && value !== null) || typeof value === 'function';

function register<T extends object>(object: object, type: FieldType): T {
  types.set(object, type);
  return Object.freeze(object) as T;
}

function scalar<T>(type: ScalarType): Scalar<T> {
  const named = (name: unknown, options?: { readonly default?: unknown }): object => {
    const field = Object.freeze({});
    fields.set(field, { name, type, default: options?.default });
    return field;
  };
  return register(named, type);
}

/** One byte, 0 to 255. */
export const u8 = scalar<number>({ kind: 'u8' });
/** Two bytes, 0 to 65,535. */
export const u16 = scalar<number>({ kind: 'u16' });
/** Four bytes, 0 to 2^32 - 1. */
export const u32 = scalar<number>({ kind: 'u32' });
/** Eight bytes, a bigint from 0 to 2^64 - 1. In a value it takes all of it: the upper half is a, the lower half is b. */
export const u64 = scalar<bigint>({ kind: 'u64' });
/** True or false: 1 or 0, in one byte of a struct. */
export const bool = scalar<boolean>({ kind: 'bool' });

/**
 * Names for numbers; JavaScript has the names. Four bytes in a struct.
 * @param members their names and numbers (u32): `{ OFF: 0, ON: 1 }`
 * @throws TypeError ERR_INVALID_ARG_VALUE where a name or a number is wrong, or is there twice
 */
export function enumeration<const M extends Readonly<Record<string, number>>>(
  members: M,
): Scalar<keyof M & string> {
  const place = 'enumeration';
  const given = Object.entries(checkRecord(members, place, 'names and numbers'));
  if (given.length === 0) throw refused(place, 'has no members');
  const [names, values] = [new Seen(), new Seen()];
  const list = given.map(([name, value]): EnumerationMember => {
    const at = `${place}.${name}`;
    refuse(at, memberProblem(name));
    names.add(cNameOf(name), at, 'name in C');
    values.add(value, at, 'number');
    return { name, value: checkNumber(value, at, 'the number', 0, U32_MAX) };
  });
  return scalar({ kind: 'enumeration', members: list });
}

/**
 * Exactly so many bytes: a Uint8Array, and `uint8_t name[length]` in C.
 * @throws TypeError ERR_INVALID_ARG_VALUE
 */
export function octets(length: number): Type<Uint8Array> {
  return register(
    {},
    { kind: 'octets', length: checkNumber(length, 'octets', 'the length', 1, MAX_STRUCT_SIZE) },
  );
}

/**
 * Exactly so many of one type, which can be a struct: an array in both languages.
 * @throws TypeError ERR_INVALID_ARG_VALUE
 */
export function array<In, Out>(element: Type<In, Out>, length: number): Type<readonly In[], Out[]> {
  const type = typeOf(element);
  if (type === undefined) throw refused('array', 'its element must be a type, like u32 or a struct');
  return register(
    {},
    { kind: 'array', element: type, length: checkNumber(length, 'array', 'the length', 1, MAX_STRUCT_SIZE) },
  );
}

/**
 * A struct with the layout that C has on arm64: each field at a multiple of its alignment, little endian. What lies between
 * fields is sent as zeros.
 * @param name as in C, where the TA's name stands before it: 'config' becomes `struct notary_config`
 * @param members the fields in their order in memory: `{ level: u8, limit: u64, name: octets(16) }`
 * @throws TypeError ERR_INVALID_ARG_VALUE with the place: 'config.level: …'
 */
export function struct<const F extends Readonly<Record<string, Type<unknown>>>>(
  name: string,
  members: F,
): Struct<{ readonly [K in keyof F]: InputOf<F[K]> }, { -readonly [K in keyof F]: TypeOf<F[K]> }> {
  refuse('struct', structProblem(name));
  const given = Object.entries(checkRecord(members, name, 'the fields'));
  if (given.length === 0) throw refused(name, 'has no fields');
  const names = new Seen();
  const laid = given.map(([field, member]): [string, FieldType] => {
    const place = `${name}.${field}`;
    refuse(place, variableProblem(field));
    names.add(cNameOf(field), place, 'name in C');
    const type = typeOf(member);
    if (type === undefined) throw refused(place, 'must be a type, like u32, octets(16) or another struct');
    return [field, type];
  });
  const layout = layOut(name, laid);
  if (layout.size > MAX_STRUCT_SIZE) {
    throw refused(name, `has ${layout.size} bytes; at most ${MAX_STRUCT_SIZE} fit where a TA copies it`);
  }
  return register({ name, size: layout.size }, { kind: 'struct', struct: layout });
}

/** The struct of an object that `struct` made; undefined of anything else. */
export function structOf(value: unknown): (FieldType & { kind: 'struct' })['struct'] | undefined {
  const type = typeOf(value);
  return type?.kind === 'struct' ? type.struct : undefined;
}
