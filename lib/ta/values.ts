/** Slots of values: one or two numbers, or a u64. */
import { ParamKind } from '../client/native.js';
import { Parameter, value, type Value } from '../client/parameters.js';
import type { Decode, Encode } from './encoding.js';
import type { ValueField, ValueSlot } from './description.js';
import { fromU32, lowerOf, u32Of, u64Of, upperOf, wideOf, type ToNumber } from './scalars.js';

/** The number of an argument, which may have a default. */
function numberOfField({ type, default: fallback }: ValueField): ToNumber<number> {
  const number = u32Of(type);
  if (fallback === undefined) return number;
  const usual = number(fallback, '');
  return (given, place) => (given === undefined ? usual : number(given, place));
}

/**
 * The parameter of a value.
 * @param at where the arguments of the call have its first number
 */
export function valueIn({ direction, fields }: ValueSlot, call: string, at: number): Encode {
  if (direction === 'out') {
    const room = value.out();
    return () => room;
  }
  const kind = direction === 'in' ? ParamKind.valueIn : ParamKind.valueInout;
  const [first, second] = fields as [ValueField, ValueField?];
  const place = `${call}.${first.name}`;
  if (first.place === 'ab') {
    const { default: fallback } = first;
    return (args) => {
      const given = args[at];
      const wide = u64Of(given === undefined ? fallback : given, place);
      return Parameter.make(kind, upperOf(wide), lowerOf(wide));
    };
  }
  const numberA = numberOfField(first);
  if (second === undefined) return (args) => Parameter.make(kind, numberA(args[at], place), 0);
  const numberB = numberOfField(second);
  const placeB = `${call}.${second.name}`;
  return (args) => Parameter.make(kind, numberA(args[at], place), numberB(args[at + 1], placeB));
}

/** What a value brings back. */
export function valueOut({ fields }: ValueSlot, call: string): Decode {
  const [first, second] = fields as [ValueField, ValueField?];
  const { name, type } = first;
  const place = `${call}.${name}`;
  if (type.kind === 'u64') {
    return (output, results) => {
      const { a, b } = output as Value;
      results[name] = wideOf(a, b);
    };
  }
  const ofA = fromU32(type);
  if (second === undefined) return (output, results) => (results[name] = ofA((output as Value).a, place));
  const ofB = fromU32(second.type);
  const { name: nameB } = second;
  const placeB = `${call}.${nameB}`;
  return (output, results) => {
    const { a, b } = output as Value;
    results[name] = ofA(a, place);
    results[nameB] = ofB(b, placeB);
  };
}
