/** `<name>_ta.h`: all that the TA and a client in C share. */
import type { Description, SlotDescription } from '../description.js';
import type { FieldLayout, FieldType, StructLayout } from '../layout.js';
import { comment, continued, defineCall, parentheses } from './c-text.js';
import {
  callsOf,
  commandMacro,
  enumerationIn,
  macroOf,
  memberMacro,
  scalarType,
  sizeMacro,
  structType,
  Taken,
  typesMacro,
  type Call,
} from './names.js';

const U32_MAX = 0xffff_ffff;

/** Lines of the header, without its first. */
export function headerOf(ta: Description, stackSize: number): string[] {
  const guard = macroOf(ta, 'ta_h');
  const macros = new Taken();
  macros.add(guard, 'the guard of the header');
  const define = (name: string, value: string): string[] =>
    macros.add(name, value) ? [`#define ${name} ${value}`] : [];
  return [
    `#ifndef ${guard}`,
    `#define ${guard}`,
    '',
    '#include <stdbool.h>',
    '#include <stddef.h>',
    '#include <stdint.h>',
    '',
    ...uuid(ta, macros),
    ...section(
      'Results of its own',
      ta.results.flatMap(({ name, value }) => define(name, hex(value))),
    ),
    ...section(
      'Commands',
      ta.commands.flatMap((command) => define(commandMacro(ta, command), `${command.id}u`)),
    ),
    ...section(
      "Types of the parameters; macros of GlobalPlatform's tee_internal_api.h",
      callsOf(ta).flatMap((call) => types(ta, call, macros)),
    ),
    ...section(
      'Sizes, in bytes',
      callsOf(ta).flatMap((call) =>
        call.slots.flatMap((slot) =>
          sizes(ta, call, slot).flatMap(([name, value]) => define(name, `${value}u`)),
        ),
      ),
    ),
    ...section('Enumerations', [
      ...callsOf(ta).flatMap(({ cName, slots }) =>
        slots.flatMap((slot) =>
          (slot.kind === 'value' ? slot.fields : []).flatMap((field) => members(cName, field)),
        ),
      ),
      ...ta.structs.flatMap(({ cName, fields }) => fields.flatMap((field) => members(cName, field))),
    ]),
    ...section('What the dispatcher itself needs of TA_STACK_SIZE, at most', [
      ...define(macroOf(ta, 'dispatch_stack_size'), `${stackSize}u`),
    ]),
    ...ta.structs.flatMap((struct) => structLines(ta, struct)),
    '',
    '#endif',
  ];

  function members(owner: string, field: Parameters<typeof memberMacro>[2] & { type: FieldType }): string[] {
    return (enumerationIn(field.type) ?? []).flatMap((member) =>
      define(memberMacro(ta, owner, field, member), `${member.value}u`),
    );
  }
}

const section = (title: string, lines: readonly string[]): string[] =>
  lines.length === 0 ? [] : ['', ...comment(title), ...lines];

const hex = (value: number): string => `0x${value.toString(16).padStart(8, '0')}u`;

function uuid(ta: Description, macros: Taken): string[] {
  const name = macroOf(ta, 'uuid');
  macros.add(name, 'the UUID');
  const [low = '', mid = '', high = '', ...rest] = ta.uuid.split('-');
  const octets = (rest.join('').match(/../g) ?? []).map((byte) => `0x${byte}`);
  return [
    ...comment(ta.uuid),
    ...continued([
      `#define ${name}`,
      '  {',
      `    0x${low}, 0x${mid}, 0x${high}, {`,
      `      ${octets.join(', ')}`,
      '    }',
      '  }',
    ]),
  ];
}

const PARAM_TYPES = { in: 'INPUT', out: 'OUTPUT', inout: 'INOUT' };

function types(ta: Description, call: Call, macros: Taken): string[] {
  const each = Array.from({ length: 4 }, (_, i) => {
    const slot = call.slots[i];
    if (slot === undefined) return 'TEE_PARAM_TYPE_NONE';
    const kind = slot.kind === 'value' ? 'VALUE' : 'MEMREF';
    return `TEE_PARAM_TYPE_${kind}_${PARAM_TYPES[slot.direction]}`;
  });
  const name = typesMacro(ta, call);
  macros.add(name, `the types of ${call.cName}`);
  return defineCall(name, 'TEE_PARAM_TYPES', each);
}

/** Names and values of the sizes of a slot. */
function sizes(ta: Description, call: Call, slot: SlotDescription): [string, number][] {
  const named = (what: string, value: number): [string, number] => [
    sizeMacro(ta, call, 'cName' in slot ? slot.cName : '', what),
    value,
  ];
  switch (slot.kind) {
    case 'value':
    case 'struct':
      return [];
    case 'text':
      return [named('max', slot.max)];
    case 'bytes':
    case 'memory': {
      const { min, max } = slot;
      if (slot.kind === 'bytes' && min === max) return [named('size', max)];
      return [
        ...(min > 0 ? [named('min', min)] : []),
        ...(slot.kind === 'bytes' || max < U32_MAX ? [named('max', max)] : []),
      ];
    }
  }
}

function structLines(ta: Description, struct: StructLayout): string[] {
  const type = structType(ta, struct);
  const assert = (what: string, value: number, message: string): string[] =>
    parentheses('_Static_assert(', [`${what} == ${value}`, `"${message}"`], ');');
  return [
    '',
    `${type} {`,
    ...struct.fields.flatMap((field, i) => fieldLines(ta, field, i)),
    '};',
    ...assert(`sizeof(${type})`, struct.size, `size of ${type}`),
    ...struct.fields.flatMap(({ cName, offset }) =>
      assert(`offsetof(${type}, ${cName})`, offset, `offset of ${cName} in ${type}`),
    ),
  ];
}

function fieldLines(ta: Description, { cName, type, padding }: FieldLayout, i: number): string[] {
  const [base, dimensions] = declared(ta, type);
  return [
    `  ${base} ${cName}${dimensions};`,
    ...(padding > 0 ? [`  uint8_t ${paddingName(i)}[${padding}];`] : []),
  ];
}

/** The name of what fills the struct behind field `i`. No field begins with a _. */
export const paddingName = (i: number): string => `_padding${i}`;

/** The type before a name, and what stands behind that. */
function declared(ta: Description, type: FieldType): [base: string, dimensions: string] {
  switch (type.kind) {
    case 'octets':
      return ['uint8_t', `[${type.length}]`];
    case 'array': {
      const [base, dimensions] = declared(ta, type.element);
      return [base, `[${type.length}]${dimensions}`];
    }
    case 'struct':
      return [structType(ta, type.struct), ''];
    default:
      return [scalarType(type.kind), ''];
  }
}
