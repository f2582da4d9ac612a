/** Names in generated C. */
import type { CommandDescription, Description, SlotDescription, ValueField } from '../description.js';
import type { EnumerationMember, FieldLayout, FieldType, StructLayout } from '../layout.js';
import { cNameOf } from '../names.js';

const upper = (name: string): string => name.toUpperCase();

/** What commands and the opening have in common. */
export interface Call {
  /** Its function is `<ta>_<cName>`. */
  readonly cName: string;
  readonly slots: readonly SlotDescription[];
}

/** The opening as a call. No command has its name. */
export const openingOf = ({ open }: Description): Call => ({ cName: 'open', slots: open });

/** All that a TA answers: the opening first. */
export const callsOf = (ta: Description): Call[] => [openingOf(ta), ...ta.commands];

export const macroOf = (ta: Description, ...parts: readonly string[]): string =>
  [ta.name, ...parts].map(upper).join('_');

export const commandMacro = (ta: Description, { cName }: CommandDescription): string =>
  macroOf(ta, 'cmd', cName);
export const typesMacro = (ta: Description, { cName }: Call): string => macroOf(ta, cName, 'param_types');
/** @param what 'min', 'max' or 'size' */
export const sizeMacro = (ta: Description, call: Call, slot: string, what: string): string =>
  macroOf(ta, call.cName, slot, what);
/** @param owner the cName of the command or struct */
export const memberMacro = (
  ta: Description,
  owner: string,
  { cName }: ValueField | FieldLayout,
  member: EnumerationMember,
): string => macroOf(ta, owner, cName, cNameOf(member.name));

export const structType = (ta: Description, { cName }: StructLayout): string => `struct ${ta.name}_${cName}`;

/** The enumeration in a type, that of an array's elements too. */
export function enumerationIn(type: FieldType): readonly EnumerationMember[] | undefined {
  if (type.kind === 'array') return enumerationIn(type.element);
  return type.kind === 'enumeration' ? type.members : undefined;
}

/** The type of a number, of a truth value or of an enumeration. */
export function scalarType(kind: string): string {
  switch (kind) {
    case 'u8':
      return 'uint8_t';
    case 'u16':
      return 'uint16_t';
    case 'u64':
      return 'uint64_t';
    case 'bool':
      return 'bool';
    default:
      return 'uint32_t';
  }
}

/** Names in use; none means two things. */
export class Taken {
  readonly #values = new Map<string, string>();

  /**
   * @returns is it new?
   * @throws Error where another thing has the name
   */
  add(name: string, value: string): boolean {
    const other = this.#values.get(name);
    if (other !== undefined && other !== value) {
      throw new Error(
        `In C, ${name} would be both ${other} and ${value}: give something of that name another one`,
      );
    }
    this.#values.set(name, value);
    return other === undefined;
  }
}
