/** Checks of arguments. Each names the parameter in its error. */
import { isUint8Array } from 'node:util/types';
import { invalidArgType, invalidArgValue, outOfRange } from './errors.js';

export const U32_MAX = 0xffffffff;

/**
 * A whole number from `min` to `max`.
 * @throws TypeError ERR_INVALID_ARG_TYPE; RangeError ERR_OUT_OF_RANGE
 */
export function checkInteger(value: unknown, name: string, min: number, max: number): number {
  if (typeof value !== 'number') throw invalidArgType(name, 'a number', value);
  if (!Number.isInteger(value) || value < min || value > max) {
    throw outOfRange(name, `a whole number from ${min} to ${max}`, value);
  }
  return value;
}

/** An unsigned 32-bit number, like the TEE's values, commands and results. */
export function checkU32(value: unknown, name: string): number {
  if (typeof value === 'number' && value >>> 0 === value) return value;
  return checkInteger(value, name, 0, U32_MAX);
}

/** A file descriptor. 0 is valid. */
export function checkFd(value: unknown, name: string): number {
  return checkInteger(value, name, 0, 0x7fffffff);
}

// As they are when this file is loaded: no function that a user puts in their places is called.
const { apply } = Reflect;
const { getPrototypeOf, setPrototypeOf } = Object;
const Bytes = Uint8Array;

/** A method or a getter of a prototype as it is when this is called, as a function of the object. */
export function intrinsic(prototype: object, name: string): (self: object, ...args: never[]) => unknown {
  const found = Object.getOwnPropertyDescriptor(prototype, name) as { get?: unknown; value?: unknown };
  const method = (found.get ?? found.value) as (this: unknown) => unknown;
  return (self, ...args) => apply(method, self, args) as unknown;
}

// What the array is, whatever getters of its own class say.
const typedArray = getPrototypeOf(Uint8Array.prototype) as object;
export const byteLengthOf = intrinsic(typedArray, 'byteLength') as (bytes: Uint8Array) => number;
const byteOffsetOf = intrinsic(typedArray, 'byteOffset') as (bytes: Uint8Array) => number;
export const bufferOf = intrinsic(typedArray, 'buffer') as (bytes: Uint8Array) => ArrayBufferLike;

/** The array itself where it has that length, else the first part of it, of the same class. No code of a user's runs. */
export function partOf(bytes: Uint8Array, length: number): Uint8Array {
  if (length >= byteLengthOf(bytes)) return bytes;
  const part = new Bytes(bufferOf(bytes), byteOffsetOf(bytes), length);
  const prototype = getPrototypeOf(bytes) as object;
  if (prototype !== Bytes.prototype) setPrototypeOf(part, prototype);
  return part;
}

/** A Uint8Array (a Buffer is one) of any realm. */
export function checkBytes(value: unknown, name: string): Uint8Array {
  if (!isUint8Array(value)) throw invalidArgType(name, 'a Uint8Array', value, true);
  return value;
}

export function checkBoolean(value: unknown, name: string): boolean {
  if (typeof value !== 'boolean') throw invalidArgType(name, 'a boolean', value);
  return value;
}

/** An options object, or nothing. */
export function checkOptions(value: unknown, name: string): void {
  if (value !== undefined && (typeof value !== 'object' || value === null || Array.isArray(value))) {
    throw invalidArgType(name, 'an object', value);
  }
}

/** An options object, or nothing, with these names only: a misspelt one would be ignored, and nobody told. */
export function checkKnown(value: unknown, name: string, names: readonly string[]): void {
  checkOptions(value, name);
  const unknown = Object.keys(value ?? {}).find((key) => !names.includes(key));
  if (unknown !== undefined)
    throw invalidArgValue(name, value, `has no ${unknown}; there are ${names.join(', ')}`);
}

export function checkString(value: unknown, name: string): string {
  if (typeof value !== 'string') throw invalidArgType(name, 'a string', value);
  return value;
}

/**
 * What a table has under a name. (Its toString is not asked: what is no text could say another name each time.)
 * @throws TypeError ERR_INVALID_ARG_VALUE
 */
export function checkOneOf<T>(value: unknown, name: string, table: Readonly<Record<string, T>>): T {
  if (typeof value === 'string' && Object.hasOwn(table, value)) return table[value] as T;
  const names = Object.keys(table).map((each) => `'${each}'`);
  throw invalidArgValue(name, value, `must be ${names.slice(0, -1).join(', ')} or ${names.at(-1)}`);
}

/** An AbortSignal of any realm: an object with `aborted` and the functions to add and remove listeners. */
export function checkSignal(value: unknown, name: string): AbortSignal {
  if (
    typeof value !== 'object' ||
    value === null ||
    !('aborted' in value) ||
    typeof (value as AbortSignal).addEventListener !== 'function' ||
    typeof (value as AbortSignal).removeEventListener !== 'function'
  ) {
    throw invalidArgType(name, 'an AbortSignal', value);
  }
  return value as AbortSignal;
}

/**
 * A part of `size` bytes of memory. Offset and length are checked separately, so no sum can overflow.
 * @returns the length; if none is given, everything after the offset
 */
export function checkRange(
  offset: unknown,
  length: unknown,
  size: number,
  offsetName: string,
  lengthName: string,
): number {
  const from = checkInteger(offset, offsetName, 0, size);
  if (length === undefined) return size - from;
  return checkInteger(length, lengthName, 0, size - from);
}
