/** A command made ready: its arguments become parameters, its outputs become results. */
import { invalidArgType, invalidArgValue } from '../client/errors.js';
import type { Parameter } from '../client/parameters.js';
import { namesOf, type SlotDescription } from './description.js';
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
  /** Names of all arguments, in the order in which `encode` takes them. */
  readonly names: readonly string[];
  /** As many times undefined, which is copied for each call. */
  readonly noArgs: readonly undefined[];
  /** An object with all names of results, which is copied for each call; undefined if there are none. */
  readonly results: Results | undefined;
}

/**
 * Makes a command ready.
 * @param name what messages call it: 'hash'
 * @param ta the TA's name, which messages about outputs have before that
 * @param keep copy bytes that go in: they are sent later, or twice
 */
export function prepare(name: string, ta: string, slots: readonly SlotDescription[], keep: boolean): Call {
  const names: string[] = [];
  const encode = slots.map((slot) => {
    const at = names.length;
    if (isArgument(slot)) names.push(...namesOf(slot));
    if (slot.kind === 'value') return valueIn(slot, name, at);
    return memrefIn(slot, `${name}.${slot.name}`, at, keep);
  });
  const outputs = slots.filter((slot) => slot.direction !== 'in').flatMap(namesOf);
  const results =
    outputs.length > 0 ? Object.fromEntries(outputs.map((each) => [each, undefined])) : undefined;
  const decode = slots.map((slot) => decoderOf(slot, `${ta}.${name}`));
  return { name, encode, decode, names, noArgs: names.map(() => undefined), results };
}

/** Does it take something of the caller's? For bytes that come from the TA that is the room that they have. */
const isArgument = ({ kind, direction }: SlotDescription): boolean =>
  direction !== 'out' || kind === 'bytes' || kind === 'memory';

const NO_ARGS: object = Object.freeze({});

/** What a caller gave as the arguments of a call. It may be left out where none has to be there. */
export function argsOf({ name }: Call, args: unknown): object {
  if (args === undefined) return NO_ARGS;
  if (typeof args !== 'object' || args === null || Array.isArray(args)) {
    throw invalidArgType(`the arguments of ${name}`, 'an object', args);
  }
  return args;
}

/**
 * The parameters of a call.
 * @param other names that the arguments' object may have besides, and that mean something else
 * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE; RangeError ERR_OUT_OF_RANGE; ERR_TEE_CLOSED
 */
export function parametersOf(call: Call, given: object, other?: readonly string[]): Parameter<unknown>[] {
  const { encode, names } = call;
  const args: unknown[] = call.noArgs.slice();
  let [found, next] = [0, 0];
  // V8 reads what a loop over an object's names reads much faster than what it is asked for by a name.
  for (const name in given) {
    const i = name === names[next] ? next : names.indexOf(name);
    if (i >= 0) {
      args[i] = (given as Record<string, unknown>)[name];
      found++;
      next = i + 1;
    } else if (other?.includes(name) !== true && Object.hasOwn(given, name)) {
      throw unknownArgument(call, name);
    }
  }
  // A loop leaves out getters of the caller's own class.
  if (found < names.length) {
    for (const [i, name] of names.entries()) {
      if (args[i] === undefined) args[i] = (given as Record<string, unknown>)[name];
    }
  }
  return fill(encode, args);
}

/** Written out: an array that grows takes many times the memory. */
function fill(encode: readonly Encode[], args: Args): Parameter<unknown>[] {
  const first = encode[0];
  if (first === undefined) return [];
  const second = encode[1];
  if (second === undefined) return [first(args)];
  const third = encode[2];
  if (third === undefined) return [first(args), second(args)];
  const fourth = encode[3];
  if (fourth === undefined) return [first(args), second(args), third(args)];
  return [first(args), second(args), third(args), fourth(args)];
}

function unknownArgument({ name, names }: Call, given: string): Error {
  const there = names.length === 0 ? 'it takes none' : `there are ${names.join(', ')}`;
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

function decoderOf(slot: SlotDescription, call: string): Decode | undefined {
  if (slot.direction === 'in') return undefined;
  return slot.kind === 'value' ? valueOut(slot, call) : memrefOut(slot, `${call}.${slot.name}`);
}
