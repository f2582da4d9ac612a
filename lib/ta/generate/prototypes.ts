/** The functions that the TA has for its commands: their arguments, and what is said about them. */
import { hasSize, type Description, type SlotDescription, type ValueField } from '../description.js';
import { comment, parentheses } from './c-text.js';
import { enumerationIn, macroOf, openingOf, scalarType, sizeMacro, structType, type Call } from './names.js';

/** Declarations of a function's arguments, in their order. */
export function declarations(ta: Description, call: Call): string[] {
  return [`struct ${ta.name}_session *session`, ...call.slots.flatMap((slot) => declare(ta, call, slot))];
}

function declare(ta: Description, call: Call, slot: SlotDescription): string[] {
  const pointer = slot.direction === 'in' ? '' : '*';
  const readOnly = slot.direction === 'in' ? 'const ' : '';
  switch (slot.kind) {
    case 'value':
      return slot.fields.map(({ cName, type }) => `${scalarType(type.kind)} ${pointer}${cName}`);
    case 'struct':
      return [`${readOnly}${structType(ta, slot.struct)} *${slot.cName}`];
    case 'text':
      return slot.direction === 'in'
        ? [`const char *${slot.cName}`]
        : [`char ${slot.cName}[${sizeMacro(ta, call, slot.cName, 'max')} + 1]`];
    case 'bytes':
    case 'memory':
      if (hasSize(slot)) {
        return [`${readOnly}uint8_t *${slot.cName}`, `size_t ${pointer}${slot.cName}_size`];
      }
      // A pointer that can be NULL is no array.
      if (slot.optional) return [`${readOnly}uint8_t *${slot.cName}`];
      return [`${readOnly}uint8_t ${slot.cName}[${sizeMacro(ta, call, slot.cName, 'size')}]`];
  }
}

/** The prototype of a command's function, or of the opening's. */
export function prototype(ta: Description, call: Call): string[] {
  return parentheses(`TEE_Result ${ta.name}_${call.cName}(`, declarations(ta, call), ');');
}

/** What is to be known about a function, as a comment. */
export function remarks(ta: Description, call: Call, title: string): string[] {
  const slots = call.slots.flatMap((slot) => about(ta, call, slot));
  return comment(title, ...(slots.length > 0 ? ['', ...slots] : []));
}

function about(ta: Description, call: Call, slot: SlotDescription): string[] {
  const macro = (name: string, what: string): string => sizeMacro(ta, call, name, what);
  const nothing = 'optional' in slot && slot.optional ? ' NULL where the client gives none.' : '';
  switch (slot.kind) {
    case 'value':
      return slot.fields.map((field) => `${field.cName} (${slot.direction})${valueOf(ta, call, field)}.`);
    case 'struct':
      return [`${slot.cName} (${slot.direction}): ${COPY[slot.direction]}.`];
    case 'text': {
      const { cName, direction } = slot;
      const what = direction === 'in' ? 'a copy, of at most' : 'with its NUL, room for';
      return [
        `${cName} (${direction}): text, ${what} ${macro(cName, 'max')} bytes${PLUS[direction]}.${nothing}`,
      ];
    }
    case 'bytes':
    case 'memory': {
      const { cName, direction, min } = slot;
      const kind = slot.kind === 'memory' ? 'shared memory' : "the client's memory";
      if (!hasSize(slot))
        return [`${cName} (${direction}): ${kind}, ${macro(cName, 'size')} bytes.${nothing}`];
      const limits = [
        ...(min > 0 ? [`at least ${macro(cName, 'min')}`] : []),
        ...(slot.kind === 'bytes' || slot.max < 0xffff_ffff ? [`at most ${macro(cName, 'max')}`] : []),
      ];
      const range = limits.length > 0 ? `, ${limits.join(' and ')}` : '';
      const size =
        direction === 'in'
          ? `${cName}_size bytes`
          : `*${cName}_size bytes, which you set to what it has then`;
      return [`${cName} (${direction}): ${kind}, ${size}${range}.${nothing}`];
    }
  }
}

const COPY = { in: 'a copy', out: 'all zeros at first', inout: 'a copy that goes back' };
const PLUS = { in: ' and a NUL', out: ' and it', inout: ' and it' };

function valueOf(ta: Description, call: Call, field: ValueField): string {
  return enumerationIn(field.type) === undefined ? '' : `: one of ${macroOf(ta, call.cName, field.cName)}_*`;
}

/** Titles of the opening's and of the commands' functions. */
export function prototypesWithRemarks(ta: Description): string[] {
  const each = [
    { call: openingOf(ta), title: 'A session opens.' },
    ...ta.commands.map((command) => ({ call: command, title: `Command ${command.id}: ${command.name}.` })),
  ];
  return each.flatMap(({ call, title }) => ['', ...remarks(ta, call, title), ...prototype(ta, call)]);
}
