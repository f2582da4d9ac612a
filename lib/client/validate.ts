/** Checks of arguments; each names the parameter in its error. */
import { isUint8Array } from 'node:util/types';
import { invalidArgType, invalidArgValue, outOfRange } from './errors.js';

export const U32_MAX = 0xffffffff;

/**
 * A whole number in a range.
 * @throws TypeError ERR_INVALID_ARG_TYPE; RangeError ERR_OUT_OF_RANGE
 */
export function checkInteger(value: unknown, name: string, min: number, max: number): number {
  if (typeof value !== 'number') throw invalidArgType(name, 'a number', value);
  if (!Number.isInteger(value) || value < min || value > max) {
    throw outOfRange(name, `a whole number from ${min} to ${max}`, value);
  }
  return value;
}

/** An unsigned 32-bit number, as values, commands and results of the TEE are. */
export function checkU32(value: unknown, name: string): number {
  if (typeof value === 'number' && value >>> 0 === value) return value;
  return checkInteger(value, name, 0, U32_MAX);
}

/** A file descriptor: 0 is one, too. */
export function checkFd(value: unknown, name: string): number {
  return checkInteger(value, name, 0, 0x7fffffff);
}

/** A Uint8Array (a Buffer is one) of any realm. */
export function checkBytes(value: unknown, name: string): Uint8Array {
  if (!isUint8Array(value)) throw invalidArgType(name, 'a Uint8Array', value);
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

/** An options object, or nothing, with these names only: one that is misspelt would be ignored, and nobody told. */
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

/** An AbortSignal of any realm: what has `aborted` and can be listened to. */
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
 * A part of a memory of `size` bytes. Both ends are checked one by one, so no sum can wrap around.
 * @returns the length, which without one is all that follows the offset
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
