/** A TA with every kind of slot and field, both ways: its description, and the bodies of its functions. */
import {
  array,
  bool,
  defineTrustedApplication,
  enumeration,
  octets,
  slot,
  struct,
  u16,
  u32,
  u64,
  u8,
} from 'node-optee/ta';
import type { TaDefinition, TrustedApplication } from 'node-optee/ta';

export const Mode = enumeration({ OFF: 0, readOnly: 7, LAST: 0xffff_ffff });
const SCALARS = { u8, u16, u32, u64, bool, mode: Mode };
const FIELDS = { ...SCALARS, octets: octets(5), array: array(array(u16, 2), 3) };

const Inner = struct('inner', { isSet: bool, modes: array(Mode, 2), last: u8 });
export const Nested = struct('nested', {
  level: u8,
  inner: array(Inner, 3),
  wide: u64,
  one: Inner,
  end: u16,
});

interface Command {
  readonly slots: readonly unknown[];
  /** In C. */
  readonly body: string;
}

const commands: Record<string, Command> = {};
for (const [name, type] of Object.entries(SCALARS)) {
  const named = (own: string): never => (type as unknown as (name: string) => never)(own);
  const value = slot.value as unknown as Record<string, (...fields: never[]) => unknown>;
  const {
    in: toTa,
    out,
    inout,
  } = value as { [K in 'in' | 'out' | 'inout']: (...fields: never[]) => unknown };
  commands[`value_${name}`] = {
    slots: [toTa(named('given')), out(named('back')), inout(named('both'))],
    body: '*back = given;\n  (void)both;',
  };
  if (name === 'u64') continue;
  commands[`pair_${name}`] = {
    slots: [
      toTa(named('first'), named('second')),
      out(named('a'), named('b')),
      inout(named('c'), named('d')),
    ],
    body: `*a = second;\n  *b = first;\n  const ${cOf(name)} was = *c;\n  *c = *d;\n  *d = was;`,
  };
}
for (const [name, type] of Object.entries(FIELDS)) {
  const Own = struct(`of_${name}`, { before: u8, own: type as typeof u8, after: u8 });
  commands[`struct_${name}`] = {
    slots: [slot.struct.in('given', Own), slot.struct.out('back', Own), slot.struct.inout('both', Own)],
    body: '*back = *given;\n  both->after = (uint8_t)(both->after + 1);',
  };
}
const copy = (from: string, to: string): string =>
  `const size_t room = *${to}_size;\n  *${to}_size = ${from}_size;\n` +
  `  if (room < ${from}_size) return TEE_ERROR_SHORT_BUFFER;\n` +
  `  if (${from}_size > 0) TEE_MemMove(${to}, ${from}, ${from}_size);`;
Object.assign(commands, {
  nested: {
    slots: [slot.struct.in('given', Nested), slot.struct.inout('both', Nested)],
    body: '*both = *given;',
  },
  bytes: {
    slots: [slot.bytes.in('data', { max: 100 }), slot.bytes.out('back', { max: 100 })],
    body: copy('data', 'back'),
  },
  bytes_range: {
    slots: [slot.bytes.in('data', { min: 3, max: 9 }), slot.bytes.inout('both', { min: 2, max: 8 })],
    body: '(void)data;\n  (void)data_size;\n  for (size_t i = 0; i < *both_size; i++) both[i] ^= 0xff;\n  *both_size -= 1;',
  },
  bytes_fixed: {
    slots: [
      slot.bytes.in('data', { size: 16 }),
      slot.bytes.out('back', { size: 16 }),
      slot.bytes.inout('both', { size: 4 }),
    ],
    body: 'TEE_MemMove(back, data, 16);\n  for (size_t i = 0; i < 4; i++) both[i] ^= 0xff;',
  },
  bytes_optional: {
    slots: [
      slot.bytes.in('data', { max: 100, optional: true }),
      slot.bytes.in('key', { size: 16, optional: true }),
      slot.value.out(bool('hasData'), bool('hasKey')),
      slot.value.out('size'),
    ],
    body: '*has_data = data != NULL;\n  *has_key = key != NULL;\n  *size = (uint32_t)data_size;',
  },
  text: {
    slots: [
      slot.text.in('given', { max: 20 }),
      slot.text.out('back', { max: 20 }),
      slot.text.inout('both', { max: 9 }),
    ],
    body: 'TEE_MemMove(back, given, strlen(given) + 1);\n  if (both[0] != 0) both[strlen(both) - 1] = 0;',
  },
  text_optional: {
    slots: [slot.text.in('given', { max: 20, optional: true }), slot.value.out(bool('isThere'))],
    body: '*is_there = given != NULL;',
  },
  text_unended: { slots: [slot.text.out('back', { max: 20 })], body: "memset(back, 'x', 21);" },
  memory: {
    slots: [slot.memory.in('data'), slot.memory.out('back')],
    body: copy('data', 'back'),
  },
  memory_range: {
    slots: [slot.memory.inout('both', { min: 2, max: 64 }), slot.memory.in('data', { optional: true })],
    body: '(void)data;\n  (void)data_size;\n  for (size_t i = 0; i < *both_size; i++) both[i] ^= 0xff;\n  *both_size -= 1;',
  },
  too_much: {
    slots: [slot.bytes.out('back', { max: 100 })],
    body: '(void)back;\n  *back_size += 1;',
  },
  own_result: {
    slots: [slot.value.out('never'), slot.bytes.out('data', { max: 8 })],
    body: '(void)data;\n  *never = 7;\n  *data_size = 3;\n  return EVERY_OWN;',
  },
  nothing: { slots: [], body: '' },
  // Names that the dispatcher has, too.
  names: {
    slots: [
      slot.value.in('params', 'types'),
      slot.value.out('result', 'command'),
      slot.bytes.in('given', { max: 4 }),
    ],
    body: '(void)given;\n  (void)given_size;\n  *result = params;\n  *command = types;',
  },
} satisfies Record<string, Command>);

function cOf(name: string): string {
  return name === 'bool' ? name : name === 'u8' || name === 'u16' ? `uint${name.slice(1)}_t` : 'uint32_t';
}

/** A number of id that leaves gaps. */
const idOf = (i: number): number => 3 * i;

const definition = {
  name: 'every',
  uuid: '5b1b0b5e-3c4c-4b0e-9a55-5d3a3a0c7e11',
  results: { EVERY_OWN: 0x80000001 },
  open: [slot.value.in(u8('version')), slot.value.out('opened')],
  commands: Object.fromEntries(
    Object.entries(commands).map(([name, { slots }], i) => [name, { id: idOf(i), slots }]),
  ),
};

export const Every = (
  defineTrustedApplication as unknown as (definition: unknown) => TrustedApplication<TaDefinition>
)(definition);

/** The TA's own file; `prototypes` are those of its dispatcher's header. */
export function everySource(prototypes: string): string {
  const functions = [...prototypes.matchAll(/^TEE_Result every_(\w+)\(([^;]*)\);$/gm)];
  const own = functions.flatMap(([text, name = '']) => {
    const body = name === 'open' ? '*opened = version + 1u;' : commands[name]?.body;
    if (body === undefined) return [];
    const end = body.endsWith('EVERY_OWN;') ? '' : '\n  return TEE_SUCCESS;';
    return [`${text.slice(0, -1)} {\n  session->calls++;\n  ${body}${end}\n}`];
  });
  return `
#include "every_dispatch.h"
#include <string.h>
struct every_session { uint32_t calls; };
${own.join('\n\n')}
TEE_Result TA_CreateEntryPoint(void) { return TEE_SUCCESS; }
void TA_DestroyEntryPoint(void) {}
TEE_Result TA_OpenSessionEntryPoint(uint32_t types, TEE_Param params[TEE_NUM_PARAMS], void **context) {
  static struct every_session session;
  *context = &session;
  return every_open_session(&session, types, params);
}
void TA_CloseSessionEntryPoint(void *context) { (void)context; }
TEE_Result TA_InvokeCommandEntryPoint(void *context, uint32_t command, uint32_t types, TEE_Param params[TEE_NUM_PARAMS]) {
  return every_invoke(context, command, types, params);
}
`;
}
