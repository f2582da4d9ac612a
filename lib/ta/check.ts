/** Checks what a user wrote as a description and makes plain data of it. Every complaint names its place. */
import { MAX_PARAMETERS } from '../client/parameters.js';
import { hex32, TEE_RESULTS } from '../client/results.js';
import { formatUuid, parseUuid } from '../client/uuid.js';
import { U32_MAX } from '../client/validate.js';
import {
  cNamesOf,
  hasSize,
  type BytesSlot,
  type CommandDescription,
  type Description,
  type ResultDescription,
  type SlotDescription,
  type ValueField,
  type ValueSlot,
} from './description.js';
import { fieldOf, structOf } from './fields.js';
import type { FieldType, ScalarType, StructLayout } from './layout.js';
import {
  argumentProblem,
  cNameOf,
  commandProblem,
  openArgumentProblem,
  resultProblem,
  taProblem,
} from './names.js';
import { checkNames, checkNumber, checkRecord, refuse, refused, Seen } from './refuse.js';
import { numberOf } from './scalars.js';
import { slotOf, type SlotData } from './slots.js';

/**
 * Checks a definition.
 * @returns plain data that shares nothing with it
 * @throws TypeError ERR_INVALID_ARG_VALUE: 'notary.commands.hash.slots[1]: …'
 */
export function checkDefinition(definition: unknown): Description {
  const given = checkRecord(definition, 'definition', 'name, uuid and commands');
  const { name, uuid, results = {}, open = [], commands } = given;
  refuse('definition.name', taProblem(name));
  const ta = name as string;
  checkNames(given, ta, ['name', 'uuid', 'results', 'open', 'commands']);
  const structs = new Structs();
  return {
    name: ta,
    uuid: checkUuid(uuid, `${ta}.uuid`),
    results: checkResults(results, ta),
    open: checkSlots(open, `${ta}.open`, `${ta}_open`, openArgumentProblem, structs),
    commands: checkCommands(commands, ta, structs),
    structs: structs.inOrder,
  };
}

function checkUuid(uuid: unknown, place: string): string {
  try {
    return formatUuid(parseUuid(uuid as string));
  } catch {
    throw refused(place, 'must be 32 hexadecimal digits, like 8aaaf200-2450-11e4-abe2-0002a5d5c51b');
  }
}

/** From here on results are GlobalPlatform's. */
const FIRST_OF_GLOBAL_PLATFORM = 0xffff0000;

function checkResults(results: unknown, ta: string): ResultDescription[] {
  const macros = new RegExp(`^${ta.toUpperCase()}_(CMD_.*|UUID)$`);
  const values = new Seen();
  return Object.entries(checkRecord(results, `${ta}.results`, 'names and numbers')).map(([name, given]) => {
    const place = `${ta}.results.${name}`;
    refuse(place, resultProblem(name));
    if (macros.test(name)) throw refused(place, 'the name is that of a macro that is generated');
    const value = checkNumber(given, place, 'the result', 1, U32_MAX);
    const known = Object.entries(TEE_RESULTS).find(([, result]) => result === value)?.[0];
    if (known !== undefined) throw refused(place, `${hex32(value)} is ${known}`);
    if (value >= FIRST_OF_GLOBAL_PLATFORM) {
      throw refused(place, `${hex32(value)} is GlobalPlatform's, as all from 0xffff0000 on`);
    }
    values.add(value, place, 'result');
    return { name, value };
  });
}

function checkCommands(commands: unknown, ta: string, structs: Structs): CommandDescription[] {
  const place = `${ta}.commands`;
  const [ids, cNames] = [new Seen(), new Seen()];
  return Object.entries(checkRecord(commands, place, 'the commands')).map(([name, command]) => {
    const at = `${place}.${name}`;
    refuse(at, commandProblem(name));
    const cName = cNameOf(name);
    cNames.add(cName, at, 'name in C');
    const given = checkRecord(command, at, 'id and slots');
    checkNames(given, at, ['id', 'slots', 'repeatable']);
    const id = checkNumber(given['id'], `${at}.id`, 'the id', 0, U32_MAX);
    ids.add(id, at, 'id');
    const { slots = [], repeatable = false } = given;
    if (typeof repeatable !== 'boolean') throw refused(`${at}.repeatable`, 'must be true or false');
    const checked = checkSlots(slots, `${at}.slots`, `${ta}_${cName}`, argumentProblem, structs);
    if (
      repeatable &&
      !checked.some((slot) => slot.kind === 'bytes' && slot.direction === 'out' && hasSize(slot))
    ) {
      throw refused(`${at}.repeatable`, 'no output of this command can need more room than it was given');
    }
    return { name, cName, id, slots: checked, repeatable };
  });
}

type NameProblem = (name: unknown) => string | undefined;

/** @param own the function that has these arguments */
function checkSlots(
  slots: unknown,
  place: string,
  own: string,
  problem: NameProblem,
  structs: Structs,
): SlotDescription[] {
  if (!Array.isArray(slots)) throw refused(place, 'must be an array of slots');
  if (slots.length > MAX_PARAMETERS) {
    throw refused(place, `a call has at most ${MAX_PARAMETERS} parameters, not ${slots.length}`);
  }
  const names = new Seen();
  return slots.map((given: unknown, i) => {
    const at = `${place}[${i}]`;
    const data = slotOf(given);
    if (data === undefined) throw refused(at, 'must be made by slot.value, bytes, struct, text or memory');
    const checked = checkSlot(data, at, problem, structs);
    for (const cName of cNamesOf(checked)) {
      if (cName === own) throw refused(at, `'${cName}' is the name in C of the function itself`);
      names.add(cName, at, `name (${cName} in C)`);
    }
    return checked;
  });
}

function checkSlot(data: SlotData, place: string, problem: NameProblem, structs: Structs): SlotDescription {
  const { kind, direction } = data;
  if (kind === 'value') return checkValue(data, place, problem);
  const [name] = data.names;
  refuse(place, problem(name));
  const named = { direction, name: name as string, cName: cNameOf(name as string) };
  if (kind === 'struct') {
    const struct = structOf(data.struct);
    if (struct === undefined) throw refused(place, `'${named.name}' must be a struct that struct() made`);
    structs.add(struct, place);
    return { kind, ...named, struct };
  }
  const options = checkRecord(data.options, place, kind === 'text' ? 'max' : 'max or size');
  const optional = checkOptional(options['optional'], place);
  switch (kind) {
    case 'text':
      checkNames(options, place, direction === 'in' ? ['max', 'optional'] : ['max']);
      return { kind, ...named, max: checkNumber(options['max'], place, 'max', 1, U32_MAX), optional };
    case 'memory':
      checkNames(options, place, ['min', 'max', 'optional']);
      return { kind, ...named, ...checkRange(options, place, U32_MAX), optional };
    case 'bytes':
      return { kind, ...named, ...checkBytesSizes(options, direction, place), optional };
  }
}

function checkOptional(optional: unknown, place: string): boolean {
  if (optional === undefined) return false;
  if (typeof optional !== 'boolean') throw refused(place, 'optional must be true or false');
  return optional;
}

function checkRange(
  { min = 0, max }: Record<string, unknown>,
  place: string,
  most?: number,
): { min: number; max: number } {
  const upper = checkNumber(max ?? most, place, 'max', 1, U32_MAX);
  return { min: checkNumber(min, place, 'min', 0, upper), max: upper };
}

function checkBytesSizes(
  options: Record<string, unknown>,
  direction: BytesSlot['direction'],
  place: string,
): Pick<BytesSlot, 'min' | 'max' | 'initial'> {
  const { size, initial } = options;
  if (size !== undefined) {
    checkNames(options, place, direction === 'in' ? ['size', 'optional'] : ['size']);
    const exact = checkNumber(size, place, 'size', 1, U32_MAX);
    return { min: exact, max: exact, initial: exact };
  }
  checkNames(
    options,
    place,
    { in: ['min', 'max', 'optional'], out: ['max', 'initial'], inout: ['min', 'max'] }[direction],
  );
  const { min, max } = checkRange(options, place);
  return { min, max, initial: checkNumber(initial ?? max, place, 'initial', 0, max) };
}

function checkValue({ direction, names }: SlotData, place: string, problem: NameProblem): ValueSlot {
  const own = new Seen();
  if (names.length < 1 || names.length > 2)
    throw refused(place, `a value has one or two numbers, not ${names.length}`);
  const fields = names.map((given, i): ValueField => {
    const {
      name,
      type,
      default: fallback,
    } = fieldOf(given) ?? { name: given, type: U32, default: undefined };
    refuse(place, problem(name));
    const cName = cNameOf(name as string);
    own.add(cName, place, `name (${cName} in C)`);
    if (type.kind === 'u64' && names.length > 1) throw refused(place, 'a u64 takes all of a value');
    const field = {
      name: name as string,
      cName,
      type,
      place: type.kind === 'u64' ? ('ab' as const) : i === 0 ? ('a' as const) : ('b' as const),
    };
    if (fallback === undefined) return field;
    if (direction === 'out')
      throw refused(place, `'${field.name}' only comes from the TA, so it has no default`);
    checkDefault(type, fallback, place);
    return { ...field, default: fallback as string };
  });
  return { kind: 'value', direction, fields };
}

const U32: ScalarType = { kind: 'u32' };

function checkDefault(type: ScalarType, fallback: unknown, place: string): void {
  try {
    numberOf(type)(fallback, 'the default');
  } catch (error) {
    throw refused(place, (error as Error).message);
  }
}

/** All structs of a description, those first that others contain. */
class Structs {
  readonly #byName = new Map<string, StructLayout>();

  get inOrder(): StructLayout[] {
    return [...this.#byName.values()];
  }

  /** @throws where another struct has the same name */
  add(struct: StructLayout, place: string): void {
    for (const { type } of struct.fields) this.#addInner(type, place);
    const other = this.#byName.get(struct.cName);
    if (other !== undefined && other !== struct) {
      throw refused(place, `there are two structs with the name '${struct.name}' (${struct.cName} in C)`);
    }
    this.#byName.set(struct.cName, struct);
  }

  #addInner(type: FieldType, place: string): void {
    if (type.kind === 'array') this.#addInner(type.element, place);
    else if (type.kind === 'struct') this.add(type.struct, place);
  }
}
