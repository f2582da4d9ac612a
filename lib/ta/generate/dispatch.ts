/** `<name>_dispatch.h` and `<name>_dispatch.c`: from the parameters of a call to the arguments of a function, and back. */
import { cNamesOf, hasSize, type Description, type SlotDescription, type TextSlot } from '../description.js';
import type { FieldLayout, FieldType, StructLayout } from '../layout.js';
import { assignment, comment, ifThen, parentheses, WIDTH } from './c-text.js';
import { paddingName } from './header.js';
import {
  callsOf,
  commandMacro,
  enumerationIn,
  macroOf,
  memberMacro,
  openingOf,
  scalarType,
  sizeMacro,
  structType,
  typesMacro,
  type Call,
} from './names.js';
import { prototypesWithRemarks } from './prototypes.js';

const BAD = 'return TEE_ERROR_BAD_PARAMETERS;';
const U32_MAX = 0xffff_ffff;

const entryPoint = (ta: Description, what: string, first: readonly string[], tail: string): string[] =>
  parentheses(
    `TEE_Result ${ta.name}_${what}(`,
    [`struct ${ta.name}_session *session`, ...first, 'uint32_t types', 'TEE_Param params[TEE_NUM_PARAMS]'],
    tail,
  );

/** Lines of the dispatcher's header, without its first. */
export function dispatchHeaderOf(ta: Description): string[] {
  const guard = macroOf(ta, 'dispatch_h');
  return [
    `#ifndef ${guard}`,
    `#define ${guard}`,
    '',
    '#include <tee_internal_api.h>',
    '',
    `#include "${ta.name}_ta.h"`,
    '',
    ...comment("What a session keeps. Yours: the TA's own code says what is in it."),
    `struct ${ta.name}_session;`,
    '',
    ...comment(
      `Calls ${ta.name}_open with the parameters of TA_OpenSessionEntryPoint. What is wrong with them is answered with ` +
        'TEE_ERROR_BAD_PARAMETERS, and a buffer that is too small with TEE_ERROR_SHORT_BUFFER and the size that it needs: ' +
        'nothing is called then.',
    ),
    ...entryPoint(ta, 'open_session', [], ');'),
    '',
    ...comment(
      'The same with the parameters of TA_InvokeCommandEntryPoint and the function of a command. A command that there is not ' +
        'is TEE_ERROR_NOT_SUPPORTED.',
    ),
    ...entryPoint(ta, 'invoke', ['uint32_t command'], ');'),
    '',
    ...comment(
      'Functions to write, one for each command. What they return is what the client gets. Values, structs and texts come as ' +
        'copies that were checked, and go back only with TEE_SUCCESS.',
      '',
      'Bytes and shared memory are not copied: the client can change them at any time, so read each byte once, or copy what ' +
        'you look at twice. Two of them can be the same memory. Where *size is a pointer it is the room at first; set it to ' +
        'what is in there. Where there is not enough room set it to what is needed, and return TEE_ERROR_SHORT_BUFFER.',
    ),
    ...prototypesWithRemarks(ta),
    '',
    '#endif',
  ];
}

/** Does a struct need to be looked at: are there values in it that are not allowed? */
function isChecked(type: FieldType): boolean {
  switch (type.kind) {
    case 'bool':
    case 'enumeration':
      return true;
    case 'array':
      return isChecked(type.element);
    case 'struct':
      return type.struct.fields.some((field) => isChecked(field.type));
    default:
      return false;
  }
}

/** Has it bytes that no field uses? */
function isPadded(type: FieldType): boolean {
  switch (type.kind) {
    case 'array':
      return isPadded(type.element);
    case 'struct':
      return type.struct.fields.some((field) => field.padding > 0 || isPadded(field.type));
    default:
      return false;
  }
}

/** Which helpers the generated file uses; those that it does not would be warnings. */
class Source {
  readonly ta: Description;
  readonly helpers = new Set<keyof typeof HELPERS>();
  readonly enumerations = new Map<string, string[]>();
  readonly checked = new Set<StructLayout>();
  readonly cleared = new Set<StructLayout>();

  constructor(ta: Description) {
    this.ta = ta;
  }

  use(helper: keyof typeof HELPERS): string {
    this.helpers.add(helper);
    return `dispatch_${helper}`;
  }

  /** The function that knows an enumeration's members. */
  enumeration(owner: string, field: Parameters<typeof memberMacro>[2] & { type: FieldType }): string {
    const members = (enumerationIn(field.type) ?? []).map((each) => memberMacro(this.ta, owner, field, each));
    let name = `dispatch_is_${owner}_${field.cName}`;
    while (String(this.enumerations.get(name) ?? members) !== String(members)) name += '_';
    this.enumerations.set(name, members);
    return name;
  }

  /** Structs that are looked at, inner ones too. */
  check(struct: StructLayout): string {
    visit(struct, this.checked, isChecked);
    return `dispatch_check_${struct.cName}`;
  }

  clear(struct: StructLayout): string {
    visit(struct, this.cleared, isPadded);
    return `dispatch_clear_${struct.cName}`;
  }
}

function visit(struct: StructLayout, into: Set<StructLayout>, matters: (type: FieldType) => boolean): void {
  into.add(struct);
  for (const { type } of struct.fields) {
    let inner = type;
    while (inner.kind === 'array') inner = inner.element;
    if (inner.kind === 'struct' && matters(inner)) visit(inner.struct, into, matters);
  }
}

/** Functions that the generated ones have in common. */
const HELPERS = {
  is_memory: [
    ...comment('Is it memory of a size from min to max?'),
    'static bool dispatch_is_memory(const TEE_Param *param, size_t min, size_t max) {',
    '  return param->memref.buffer != NULL && param->memref.size >= min && param->memref.size <= max;',
    '}',
  ],
  is_null: [
    ...comment('Is it left out?'),
    'static bool dispatch_is_null(const TEE_Param *param) {',
    '  return param->memref.buffer == NULL && param->memref.size == 0;',
    '}',
  ],
  has_room: [
    ...comment('Is there room for so many bytes? Else the client is told that they are needed.'),
    'static bool dispatch_has_room(TEE_Param *param, size_t size) {',
    '  if (param->memref.size >= size) return true;',
    '  param->memref.size = size;',
    '  return false;',
    '}',
  ],
  take: [
    ...comment('Copies a struct, before anybody looks at it: the client can write the memory at any time.'),
    'static bool dispatch_take(const TEE_Param *param, void *copy, size_t size) {',
    '  if (param->memref.buffer == NULL || param->memref.size != size) return false;',
    '  TEE_MemMove(copy, param->memref.buffer, size);',
    '  return true;',
    '}',
  ],
  put: [
    'static void dispatch_put(TEE_Param *param, const void *copy, size_t size) {',
    '  TEE_MemMove(param->memref.buffer, copy, size);',
    '  param->memref.size = size;',
    '}',
  ],
  take_text: [
    ...comment('Copies a text of at most max bytes, without a NUL in it, and ends it with one.'),
    'static bool dispatch_take_text(const TEE_Param *param, char *text, size_t max) {',
    '  const size_t size = param->memref.size;',
    '  if (param->memref.buffer == NULL || size > max) return false;',
    '  TEE_MemMove(text, param->memref.buffer, size);',
    "  text[size] = '\\0';",
    "  return memchr(text, '\\0', size) == NULL;",
    '}',
  ],
  take_padded_text: [
    ...comment('Copies a text that zeros follow, up to max bytes, and ends it with a NUL.'),
    'static bool dispatch_take_padded_text(const TEE_Param *param, char *text, size_t max) {',
    '  if (param->memref.buffer == NULL || param->memref.size != max) return false;',
    '  TEE_MemMove(text, param->memref.buffer, max);',
    "  text[max] = '\\0';",
    '  for (size_t i = strlen(text); i < max; i++)',
    "    if (text[i] != '\\0') return false;",
    '  return true;',
    '}',
  ],
  is_text: [
    ...comment("Has a text that the TA's own function wrote its NUL?"),
    'static bool dispatch_is_text(const char *text, size_t max) {',
    "  return memchr(text, '\\0', max + 1) != NULL;",
    '}',
  ],
} as const;

/** What a slot adds to its call's function. */
interface Part {
  /** Declares, and checks what the client sent. */
  readonly take: readonly string[];
  /** Conditions that there is enough room. */
  readonly room: readonly string[];
  /** Arguments of the TA's own function. */
  readonly args: readonly string[];
  /** Conditions of what the TA's own function wrote. */
  readonly sound: readonly string[];
  /** Statements that bring outputs back, after TEE_SUCCESS. */
  readonly put: readonly string[];
  /** Sizes that were set: a variable, and the parameter's number. */
  readonly sized: readonly (readonly [variable: string, index: number])[];
}

const NO_PART: Part = { take: [], room: [], args: [], sound: [], put: [], sized: [] };

/** Local variables of a function, none with the name of another. */
class Locals {
  readonly #taken: Set<string>;
  /** The parameters of the call. */
  readonly params: string;

  constructor(names: readonly string[]) {
    this.#taken = new Set(names);
    this.params = this.fresh('params');
  }

  fresh(wanted: string): string {
    let name = wanted;
    while (this.#taken.has(name)) name += '_';
    this.#taken.add(name);
    return name;
  }
}

/** Lines of the dispatcher, without its first. */
export function dispatchSourceOf(ta: Description): string[] {
  const source = new Source(ta);
  const functions = callsOf(ta).flatMap((call) =>
    call.slots.length > 0 ? ['', ...dispatchOf(source, call)] : [],
  );
  const checks = ta.structs.flatMap((struct) => [
    ...(source.checked.has(struct) ? ['', ...checkOf(source, struct)] : []),
    ...(source.cleared.has(struct) ? ['', ...clearOf(source, struct)] : []),
  ]);
  const helpers = Object.entries(HELPERS).flatMap(([name, lines]) =>
    source.helpers.has(name as keyof typeof HELPERS) ? ['', ...lines] : [],
  );
  const enumerations = [...source.enumerations].flatMap(([name, members]) => [
    '',
    ...membershipOf(name, members),
  ]);
  const usesString = [...helpers, ...checks, ...functions].some((line) =>
    /\b(mem(chr|set)|strlen)\(/.test(line),
  );
  return [
    `#include "${ta.name}_dispatch.h"`,
    ...(usesString ? ['', '#include <string.h>'] : []),
    ...helpers,
    ...enumerations,
    ...checks,
    ...functions,
    '',
    ...entryPoint(ta, 'open_session', [], ') {'),
    ...callOf(ta, openingOf(ta), 2),
    '}',
    '',
    ...entryPoint(ta, 'invoke', ['uint32_t command'], ') {'),
    ...unused(ta),
    '  switch (command) {',
    ...ta.commands.flatMap((command) => [
      `    case ${commandMacro(ta, command)}:`,
      ...callOf(ta, command, 6),
    ]),
    '    default:',
    '      return TEE_ERROR_NOT_SUPPORTED;',
    '  }',
    '}',
  ];
}

/** Arguments of `<name>_invoke` that no command needs. */
function unused({ commands }: Description): string[] {
  if (commands.length === 0) return ['  (void)session;', '  (void)types;', '  (void)params;'];
  return commands.some(({ slots }) => slots.length > 0) ? [] : ['  (void)params;'];
}

/** Checks the types, and calls. */
function callOf(ta: Description, call: Call, indent: number): string[] {
  const space = ' '.repeat(indent);
  const lines = ifThen(indent, `types != ${typesMacro(ta, call)}`, BAD);
  if (call.slots.length > 0)
    return [...lines, `${space}return dispatch_call_${call.cName}(session, params);`];
  const params = call.cName === 'open' ? [`${space}(void)params;`] : [];
  return [...params, ...lines, `${space}return ${ta.name}_${call.cName}(session);`];
}

function membershipOf(name: string, members: readonly string[]): string[] {
  return [
    `static bool ${name}(uint32_t value) {`,
    '  switch (value) {',
    ...members.map((member) => `    case ${member}:`),
    '      return true;',
    '    default:',
    '      return false;',
    '  }',
    '}',
  ];
}

/** Loops over all elements of an array, and what is to be done with one. */
function each(
  type: FieldType,
  expression: string,
  indent: number,
  work: (inner: FieldType, element: string, indent: number) => string[],
  depth = 0,
): string[] {
  if (type.kind !== 'array') return work(type, expression, indent);
  const i = 'ijklmn'[depth] ?? `i${depth}`;
  const head = `${' '.repeat(indent)}for (size_t ${i} = 0; ${i} < ${type.length}; ${i}++)`;
  const body = each(type.element, `${expression}[${i}]`, indent + 2, work, depth + 1);
  const [only = '', ...more] = body;
  const short = `${head} ${only.trimStart()}`;
  return more.length === 0 && !/^ *(if|for) /.test(only) && short.length <= WIDTH ? [short] : [head, ...body];
}

function checkOf(source: Source, struct: StructLayout): string[] {
  const type = structType(source.ta, struct);
  return [
    ...comment('Are all truth values and enumerations in it what they may be?'),
    ...parentheses(`static bool dispatch_check_${struct.cName}(`, [`const ${type} *given`], ') {'),
    ...struct.fields.flatMap((field) => {
      if (!isChecked(field.type)) return [];
      return each(field.type, `given->${field.cName}`, 2, (inner, element, indent) => {
        if (inner.kind === 'struct') {
          return ifThen(indent, `!dispatch_check_${inner.struct.cName}(&${element})`, 'return false;');
        }
        if (inner.kind === 'bool') {
          return ifThen(indent, `*(const uint8_t *)&${element} > 1`, 'return false;');
        }
        return ifThen(indent, `!${source.enumeration(struct.cName, field)}(${element})`, 'return false;');
      });
    }),
    '  return true;',
    '}',
  ];
}

function clearOf(source: Source, struct: StructLayout): string[] {
  const type = structType(source.ta, struct);
  const clear = (field: FieldLayout, i: number): string[] => [
    ...(isPadded(field.type)
      ? each(field.type, `given->${field.cName}`, 2, (inner, element, indent) => [
          `${' '.repeat(indent)}dispatch_clear_${(inner as { struct: StructLayout }).struct.cName}(&${element});`,
        ])
      : []),
    ...(field.padding > 0
      ? [`  memset(given->${paddingName(i)}, 0, sizeof(given->${paddingName(i)}));`]
      : []),
  ];
  return [
    ...comment('Zeroes what no field uses.'),
    ...parentheses(`static void dispatch_clear_${struct.cName}(`, [`${type} *given`], ') {'),
    ...struct.fields.flatMap(clear),
    '}',
  ];
}

function dispatchOf(source: Source, call: Call): string[] {
  const { ta } = source;
  const locals = new Locals(['session', ...call.slots.flatMap(cNamesOf)]);
  const parts = call.slots.map((slot, i) => partOf(source, call, slot, i, locals));
  const all = <K extends keyof Part>(key: K): Part[K][number][] =>
    parts.flatMap((part) => part[key] as Part[K][number][]);
  const [room, sound, put, sized] = [all('room'), all('sound'), all('put'), all('sized')];
  const args = ['session', ...all('args')];
  const result = locals.fresh('result');
  const lines = [
    ...parentheses(
      `static TEE_Result dispatch_call_${call.cName}(`,
      [`struct ${ta.name}_session *session`, `TEE_Param ${locals.params}[TEE_NUM_PARAMS]`],
      ') {',
    ),
    ...all('take'),
  ];
  if (room.length === 1) {
    lines.push(...ifThen(2, `!${room[0]}`, 'return TEE_ERROR_SHORT_BUFFER;'));
  } else if (room.length > 1) {
    const enough = locals.fresh('enough');
    lines.push(`  bool ${enough} = ${room[0]};`);
    lines.push(...room.slice(1).map((condition) => `  ${enough} = ${condition} && ${enough};`));
    lines.push(...ifThen(2, `!${enough}`, 'return TEE_ERROR_SHORT_BUFFER;'));
  }
  const own = `${ta.name}_${call.cName}`;
  if (put.length + sized.length === 0) {
    return [...lines, ...parentheses(`  return ${own}(`, args, ');'), '}'];
  }
  const constant = sized.length > 0 ? '' : 'const ';
  lines.push(...assignment(2, `${constant}TEE_Result ${result}`, own, args));
  for (const [size, i] of sized) {
    lines.push(
      ...ifThen(
        2,
        `${result} == TEE_SUCCESS && ${size} > ${locals.params}[${i}].memref.size`,
        `${result} = TEE_ERROR_SHORT_BUFFER;`,
      ),
    );
  }
  if (sized.length > 0) {
    const condition = `${result} == TEE_SUCCESS || ${result} == TEE_ERROR_SHORT_BUFFER`;
    const sets = sized.map(([size, i]) => `${locals.params}[${i}].memref.size = ${size};`);
    if (sets.length === 1) lines.push(...ifThen(2, condition, sets[0] as string));
    else lines.push(`  if (${condition}) {`, ...sets.map((set) => `    ${set}`), '  }');
  }
  if (put.length > 0) {
    lines.push(`  if (${result} != TEE_SUCCESS) return ${result};`);
    for (const condition of sound) lines.push(...ifThen(2, `!${condition}`, 'return TEE_ERROR_GENERIC;'));
    lines.push(...put.map((statement) => `  ${statement}`));
  }
  return [...lines, `  return ${result};`, '}'];
}

function partOf(source: Source, call: Call, slot: SlotDescription, i: number, locals: Locals): Part {
  switch (slot.kind) {
    case 'value':
      return valuePart(source, call, slot, i, locals);
    case 'bytes':
    case 'memory':
      return memoryPart(source, call, slot, i, locals);
    case 'struct':
      return structPart(source, slot, i, locals);
    case 'text':
      return textPart(source, call, slot, i, locals);
  }
}

function valuePart(
  source: Source,
  call: Call,
  { direction, fields }: SlotDescription & { kind: 'value' },
  i: number,
  locals: Locals,
): Part {
  const take: string[] = [];
  const args: string[] = [];
  const put: string[] = [];
  const value = `${locals.params}[${i}].value`;
  for (const field of fields) {
    const { cName, type, place } = field;
    const declared = scalarType(type.kind);
    args.push(direction === 'in' ? cName : `&${cName}`);
    if (direction === 'out') {
      take.push(`  ${declared} ${cName} = ${type.kind === 'bool' ? 'false' : '0'};`);
    } else {
      const readOnly = direction === 'in' ? 'const ' : '';
      const declare = (from: string): number => take.push(`  ${readOnly}${declared} ${cName} = ${from};`);
      const given = (bad: (name: string) => string): string => {
        const name = locals.fresh(`${cName}_given`);
        take.push(`  const uint32_t ${name} = ${value}.${place};`, ...ifThen(2, bad(name), BAD));
        return name;
      };
      switch (type.kind) {
        case 'u8':
        case 'u16':
          declare(
            `(${declared})${given((name) => `${name} > ${type.kind === 'u8' ? 'UINT8_MAX' : 'UINT16_MAX'}`)}`,
          );
          break;
        case 'bool':
          declare(`${given((name) => `${name} > 1`)} != 0`);
          break;
        case 'u64':
          declare(`((uint64_t)${value}.a << 32) | ${value}.b`);
          break;
        case 'enumeration':
          declare(`${value}.${place}`);
          take.push(...ifThen(2, `!${source.enumeration(call.cName, field)}(${cName})`, BAD));
          break;
        default:
          declare(`${value}.${place}`);
      }
    }
    if (direction !== 'in') {
      if (place === 'ab')
        put.push(`${value}.a = (uint32_t)(${cName} >> 32);`, `${value}.b = (uint32_t)${cName};`);
      else put.push(`${value}.${place} = ${cName};`);
    }
  }
  if (fields.length === 1 && fields[0]?.place === 'a') {
    if (direction !== 'out') take.push(...ifThen(2, `${value}.b != 0`, BAD));
    if (direction !== 'in') put.push(`${value}.b = 0;`);
  }
  return { ...NO_PART, take, args, put };
}

function memoryPart(
  source: Source,
  call: Call,
  slot: SlotDescription & { kind: 'bytes' | 'memory' },
  i: number,
  locals: Locals,
): Part {
  const { ta } = source;
  const { cName, direction, min, max, optional } = slot;
  const param = `&${locals.params}[${i}]`;
  const readOnly = direction === 'in' ? 'const ' : '';
  const isFixed = !hasSize(slot);
  const macro = (what: string): string => sizeMacro(ta, call, cName, what);
  const least = isFixed ? (direction === 'out' ? '0' : macro('size')) : min > 0 ? macro('min') : '0';
  const most = isFixed ? macro('size') : slot.kind === 'bytes' || max < U32_MAX ? macro('max') : 'UINT32_MAX';
  const isMemory = `${source.use('is_memory')}(${param}, ${least}, ${most})`;
  const good = optional ? `!${source.use('is_null')}(${param}) && !${isMemory}` : `!${isMemory}`;
  const take = [
    ...ifThen(2, good, BAD),
    `  ${readOnly}uint8_t *${cName} = ${locals.params}[${i}].memref.buffer;`,
  ];
  if (isFixed) {
    // Its size may be what the client gave room for, or less.
    return direction === 'out'
      ? {
          ...NO_PART,
          take,
          args: [cName],
          room: [`${source.use('has_room')}(${param}, ${macro('size')})`],
        }
      : { ...NO_PART, take, args: [cName] };
  }
  const size = `${cName}_size`;
  take.push(`  ${readOnly}size_t ${size} = ${locals.params}[${i}].memref.size;`);
  return direction === 'in'
    ? { ...NO_PART, take, args: [cName, size] }
    : { ...NO_PART, take, args: [cName, `&${size}`], sized: [[size, i]] };
}

function structPart(
  source: Source,
  slot: SlotDescription & { kind: 'struct' },
  i: number,
  locals: Locals,
): Part {
  const { cName, direction, struct } = slot;
  const type: FieldType = { kind: 'struct', struct };
  const param = `&${locals.params}[${i}]`;
  const size = `sizeof(${cName})`;
  const clear = isPadded(type) ? [`${source.clear(struct)}(&${cName});`] : [];
  const take = [`  ${structType(source.ta, struct)} ${cName};`];
  if (direction === 'out') {
    take.push(...ifThen(2, `!${source.use('is_memory')}(${param}, 0, ${size})`, BAD));
    take.push(`  memset(&${cName}, 0, ${size});`);
  } else {
    take.push(...ifThen(2, `!${source.use('take')}(${param}, &${cName}, ${size})`, BAD));
    if (isChecked(type)) take.push(...ifThen(2, `!${source.check(struct)}(&${cName})`, BAD));
    take.push(...clear.map((statement) => `  ${statement}`));
  }
  return {
    ...NO_PART,
    take,
    args: [`&${cName}`],
    room: direction === 'out' ? [`${source.use('has_room')}(${param}, ${size})`] : [],
    put: direction === 'in' ? [] : [...clear, `${source.use('put')}(${param}, &${cName}, ${size});`],
  };
}

function textPart(source: Source, call: Call, slot: TextSlot, i: number, locals: Locals): Part {
  const { cName, direction, optional } = slot;
  const max = sizeMacro(source.ta, call, cName, 'max');
  const param = `&${locals.params}[${i}]`;
  const room = optional ? locals.fresh(`${cName}_copy`) : cName;
  const take = [`  char ${room}[${max} + 1];`];
  switch (direction) {
    case 'in': {
      const bad = `!${source.use('take_text')}(${param}, ${room}, ${max})`;
      if (!optional) return { ...NO_PART, take: [...take, ...ifThen(2, bad, BAD)], args: [cName] };
      take.push(`  const char *${cName} = ${source.use('is_null')}(${param}) ? NULL : ${room};`);
      take.push(...ifThen(2, `${cName} != NULL && ${bad}`, BAD));
      return { ...NO_PART, take, args: [cName] };
    }
    case 'out':
      take.push(...ifThen(2, `!${source.use('is_memory')}(${param}, 0, ${max})`, BAD));
      take.push(`  memset(${room}, 0, sizeof(${room}));`);
      break;
    case 'inout':
      take.push(...ifThen(2, `!${source.use('take_padded_text')}(${param}, ${room}, ${max})`, BAD));
  }
  return {
    ...NO_PART,
    take,
    args: [cName],
    room: direction === 'out' ? [`${source.use('has_room')}(${param}, ${max})`] : [],
    sound: [`${source.use('is_text')}(${cName}, ${max})`],
    put: [`${source.use('put')}(${param}, ${cName}, strlen(${cName}));`],
  };
}
