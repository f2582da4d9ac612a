/** A command made ready: its arguments become parameters, its outputs become results. */
import { invalidArgType, invalidArgValue } from '../client/errors.js';
import type { Parameter } from '../client/parameters.js';
import type { SlotDescription } from './description.js';
import type { Args, Decode, Encode, Results } from './encoding.js';
import { memrefIn, memrefOut } from './memrefs.js';
import { valueIn, valueOut } from './values.js';

/** A command, or the opening, made ready. */
export interface Call {
  /** What messages call it: 'hash'. */
  readonly name: string;
  /** The slots, to be filled from the arguments. */
  readonly encode: readonly Encode[];
  /** Undefined: nothing comes back. */
  readonly decode: readonly (Decode | undefined)[];
  /** Names of all arguments. */
  readonly known: ReadonlySet<string>;
  /** An object with all names of results, which is copied for each call; undefined if there are none. */
  readonly results: Results | undefined;
}

/**
 * Makes a command ready.
 * @param name what messages call it: 'hash'
 * @param ta the TA's name, which messages about outputs have before that
 */
export function prepare(name: string, ta: string, slots: readonly SlotDescription[]): Call {
  const inPlace = `${ta}.${name}`;
  const known = new Set<string>();
  const decode = slots.map((slot) => decoderOf(slot, inPlace));
  const encode = slots.map((slot) => encoderOf(slot, name, known));
  const outputs = slots.filter((slot) => slot.direction !== 'in');
  const names = outputs.flatMap((slot) =>
    slot.kind === 'value' ? slot.fields.map((field) => field.name) : slot.name,
  );
  const results = names.length > 0 ? Object.fromEntries(names.map((each) => [each, undefined])) : undefined;
  return { name, encode, decode, known, results };
}

const NO_ARGS: Args = Object.freeze({});

/** The arguments of a call, which may be left out where none has to be there. */
export function argsOf({ name }: Call, args: unknown): Args {
  if (args === undefined) return NO_ARGS;
  if (typeof args !== 'object' || args === null || Array.isArray(args)) {
    throw invalidArgType(`the arguments of ${name}`, 'an object', args);
  }
  return args as Args;
}

/**
 * The parameters of a call.
 * @param other names that the arguments' object may have besides, and that mean something else
 * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE; RangeError ERR_OUT_OF_RANGE; ERR_TEE_CLOSED
 */
export function parametersOf(
  call: Call,
  args: Args,
  keep: boolean,
  other?: readonly string[],
): Parameter<unknown>[] {
  const { encode, known } = call;
  const params = fill(encode, args, keep);
  for (const name in args) {
    if (known.has(name) || other?.includes(name) === true || !Object.hasOwn(args, name)) continue;
    throw unknownArgument(call, name);
  }
  return params;
}

/** Written out: an array that grows takes many times the memory. */
function fill(encode: readonly Encode[], args: Args, keep: boolean): Parameter<unknown>[] {
  const first = encode[0];
  if (first === undefined) return [];
  const second = encode[1];
  if (second === undefined) return [first(args, keep)];
  const third = encode[2];
  if (third === undefined) return [first(args, keep), second(args, keep)];
  const fourth = encode[3];
  if (fourth === undefined) return [first(args, keep), second(args, keep), third(args, keep)];
  return [first(args, keep), second(args, keep), third(args, keep), fourth(args, keep)];
}

function unknownArgument({ name, known }: Call, given: string): Error {
  const there = known.size === 0 ? 'it takes none' : `there are ${[...known].join(', ')}`;
  return invalidArgValue(name, undefined, `has no argument ${given}; ${there}`);
}

/** The results of a call that succeeded; undefined where it has none. */
export function resultsOf(
  { decode, results: empty }: Call,
  outputs: readonly unknown[],
): Results | undefined {
  if (empty === undefined) return undefined;
  const results = { ...empty };
  for (let i = 0; i < decode.length; i++) decode[i]?.(outputs[i], results);
  return results;
}

function encoderOf(slot: SlotDescription, call: string, known: Set<string>): Encode {
  if (slot.kind === 'value') {
    if (slot.direction !== 'out') for (const { name } of slot.fields) known.add(name);
    return valueIn(slot, call);
  }
  if (slot.direction !== 'out' || slot.kind === 'bytes' || slot.kind === 'memory') known.add(slot.name);
  return memrefIn(slot, `${call}.${slot.name}`);
}

function decoderOf(slot: SlotDescription, call: string): Decode | undefined {
  if (slot.direction === 'in') return undefined;
  return slot.kind === 'value' ? valueOut(slot, call) : memrefOut(slot, `${call}.${slot.name}`);
}
