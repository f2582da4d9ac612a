/** Slots of values: one or two numbers, or a u64. */
import { ParamKind } from '../client/native.js';
import { Parameter, value, type Value } from '../client/parameters.js';
import type { Decode, Encode } from './encoding.js';
import type { ValueField, ValueSlot } from './description.js';
import { fromU32, lowerOf, u32Of, u64Of, upperOf, wideOf } from './scalars.js';

type Read = (args: Readonly<Record<string, unknown>>) => number;

const zero: Read = () => 0;

/** Reads an argument's number. */
function reader(field: ValueField | undefined, call: string): Read {
  if (field === undefined) return zero;
  const { name, type, default: fallback } = field;
  const place = `${call}.${name}`;
  const number = u32Of(type);
  if (fallback === undefined) return (args) => number(args[name], place);
  const usual = number(fallback, place);
  return (args) => {
    const given = args[name];
    return given === undefined ? usual : number(given, place);
  };
}

/** The parameter of a value. */
export function valueIn({ direction, fields }: ValueSlot, call: string): Encode {
  if (direction === 'out') {
    const room = value.out();
    return () => room;
  }
  const kind = direction === 'in' ? ParamKind.valueIn : ParamKind.valueInout;
  const [first, second] = fields;
  if (first?.place === 'ab') {
    const { name, default: fallback } = first;
    const place = `${call}.${name}`;
    return (args) => {
      const given = args[name];
      const wide = u64Of(given === undefined ? fallback : given, place);
      return Parameter.make({ kind, a: upperOf(wide), b: lowerOf(wide) });
    };
  }
  const [readA, readB] = [reader(first, call), reader(second, call)];
  return (args) => Parameter.make({ kind, a: readA(args), b: readB(args) });
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
  const placeB = `${call}.${second.name}`;
  return (output, results) => {
    const { a, b } = output as Value;
    results[name] = ofA(a, place);
    results[second.name] = ofB(b, placeB);
  };
}
