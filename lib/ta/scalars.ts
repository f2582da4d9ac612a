/** Numbers, truth values and names: what JavaScript has, and what a TA has. */
import { invalidArgType, invalidArgValue, outOfRange } from '../client/errors.js';
import { checkBoolean, checkInteger, checkU32, U32_MAX } from '../client/validate.js';
import { badOutput } from './bad-output.js';
import type { EnumerationMember, ScalarType } from './layout.js';

/**
 * Makes a number of what a caller gave.
 * @param place for the error: 'count.step'
 * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE; RangeError ERR_OUT_OF_RANGE
 */
export type ToNumber<N extends number | bigint> = (value: unknown, place: string) => N;

/**
 * Makes what a caller gets of a number of the TA's.
 * @throws Error ERR_TEE_BAD_OUTPUT where the description has no such value
 */
export type FromNumber<N extends number | bigint> = (number: N, place: string) => unknown;

const U64_MAX = 0xffff_ffff_ffff_ffffn;

/** An unsigned 64-bit number. */
export const u64Of: ToNumber<bigint> = (value, place) => {
  if (typeof value !== 'bigint') throw invalidArgType(place, 'a bigint', value);
  if (value < 0n || value > U64_MAX) throw outOfRange(place, `from 0 to ${U64_MAX}`, value);
  return value;
};

/** Of a type that is no u64. */
export function u32Of(type: ScalarType): ToNumber<number> {
  switch (type.kind) {
    case 'u8':
      return (value, place) => checkInteger(value, place, 0, 0xff);
    case 'u16':
      return (value, place) => checkInteger(value, place, 0, 0xffff);
    case 'bool':
      return (value, place) => (checkBoolean(value, place) ? 1 : 0);
    case 'enumeration':
      return memberOf(type.members);
    default:
      return checkU32;
  }
}

function memberOf(members: readonly EnumerationMember[]): ToNumber<number> {
  const byName = new Map<unknown, number>(members.map(({ name, value }) => [name, value]));
  return (value, place) => {
    const number = byName.get(value);
    if (number !== undefined) return number;
    const names = members.map(({ name }) => `'${name}'`).join(', ');
    if (typeof value !== 'string') throw invalidArgType(place, `one of ${names}`, value);
    throw invalidArgValue(place, value, `must be one of ${names}`);
  };
}

/** Of any type. */
export function numberOf(type: ScalarType): ToNumber<number | bigint> {
  return type.kind === 'u64' ? u64Of : u32Of(type);
}

const same = (number: number): number => number;

function atMost(max: number): FromNumber<number> {
  return (number, place) => {
    if (number > max) throw badOutput(place, `is ${number}, and at most ${max}`);
    return number;
  };
}

/** Of a type that is no u64. */
export function fromU32(type: ScalarType): FromNumber<number> {
  switch (type.kind) {
    case 'u8':
      return atMost(0xff);
    case 'u16':
      return atMost(0xffff);
    case 'bool':
      return (number, place) => {
        if (number > 1) throw badOutput(place, `is ${number}, and must be 0 or 1`);
        return number === 1;
      };
    case 'enumeration': {
      const byValue = new Map(type.members.map(({ name, value }) => [value, name]));
      return (number, place) => {
        const name = byValue.get(number);
        if (name === undefined) throw badOutput(place, `is ${number}, which has no name in the description`);
        return name;
      };
    }
    default:
      return same;
  }
}

/** The lower half of a u64. */
export const lowerOf = (wide: bigint): number => Number(wide & BigInt(U32_MAX));
/** The upper half of a u64. */
export const upperOf = (wide: bigint): number => Number(wide >> 32n);
/** A u64 of its halves. */
export const wideOf = (upper: number, lower: number): bigint => (BigInt(upper) << 32n) | BigInt(lower);
