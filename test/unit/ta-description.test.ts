import { describe, expect, test } from '@jest/globals';
import {
  array,
  bool,
  defineTrustedApplication,
  enumeration,
  octets,
  slot,
  struct,
  u32,
  u64,
  u8,
} from 'node-optee/ta';
import { descriptionOf } from '#lib/ta/description';
import { generate } from '#lib/ta/generate/index';
import { argumentProblem, cNameOf } from '#lib/ta/names';
import { Every } from '../support/every-slot.js';
import { descriptionIn } from '../support/generated-ta.js';

const UUID = '8aaaf200-2450-11e4-abe2-0002a5d5c51b';
type Loose = (definition: unknown) => object;
const define = defineTrustedApplication as Loose;

/** A definition with one command. */
const withSlots = (...slots: unknown[]): object => ({
  name: 'notary',
  uuid: UUID,
  commands: { hash: { id: 0, slots } },
});
const withCommands = (commands: unknown): object => ({ name: 'notary', uuid: UUID, commands });
const withResults = (results: unknown): object => ({ name: 'notary', uuid: UUID, results, commands: {} });

describe('a description as plain data', () => {
  const Point = struct('point', { x: u8, y: u32 });
  const Line = struct('line', { ends: array(Point, 2), id: u64 });
  const Notary = defineTrustedApplication({
    name: 'notary',
    uuid: UUID.toUpperCase(),
    results: { NOTARY_LOCKED: 0x80000001 },
    open: [slot.value.in('version')],
    commands: {
      countAll: { id: 7, slots: [slot.value.inout(u8('count', { default: 3 }), bool('deep'))] },
      draw: {
        id: 1,
        slots: [
          slot.struct.inout('line', Line),
          slot.text.in('colorName', { max: 9, optional: true }),
          slot.bytes.out('data', { max: 100, initial: 10 }),
          slot.memory.in('canvas', { min: 5 }),
        ],
        repeatable: true,
      },
      seek: { id: 2, slots: [slot.value.out(u64('offset')), slot.bytes.inout('hash', { size: 32 })] },
    },
  });

  test('has all that was written, checked and with its defaults', () => {
    const description = descriptionOf(Notary);
    expect(description).toMatchObject({
      name: 'notary',
      uuid: UUID,
      results: [{ name: 'NOTARY_LOCKED', value: 0x80000001 }],
      open: [
        { kind: 'value', direction: 'in', fields: [{ name: 'version', type: { kind: 'u32' }, place: 'a' }] },
      ],
      structs: [{ name: 'point' }, { name: 'line' }],
    });
    expect(description?.commands).toEqual([
      {
        name: 'countAll',
        cName: 'count_all',
        id: 7,
        repeatable: false,
        slots: [
          {
            kind: 'value',
            direction: 'inout',
            fields: [
              { name: 'count', cName: 'count', type: { kind: 'u8' }, place: 'a', default: 3 },
              { name: 'deep', cName: 'deep', type: { kind: 'bool' }, place: 'b' },
            ],
          },
        ],
      },
      {
        name: 'draw',
        cName: 'draw',
        id: 1,
        repeatable: true,
        slots: [
          {
            kind: 'struct',
            direction: 'inout',
            name: 'line',
            cName: 'line',
            struct: description?.structs[1],
          },
          { kind: 'text', direction: 'in', name: 'colorName', cName: 'color_name', max: 9, optional: true },
          {
            kind: 'bytes',
            direction: 'out',
            name: 'data',
            cName: 'data',
            min: 0,
            max: 100,
            initial: 10,
            optional: false,
          },
          {
            kind: 'memory',
            direction: 'in',
            name: 'canvas',
            cName: 'canvas',
            min: 5,
            max: 0xffffffff,
            optional: false,
          },
        ],
      },
      {
        name: 'seek',
        cName: 'seek',
        id: 2,
        repeatable: false,
        slots: [
          {
            kind: 'value',
            direction: 'out',
            fields: [{ name: 'offset', cName: 'offset', type: { kind: 'u64' }, place: 'ab' }],
          },
          {
            kind: 'bytes',
            direction: 'inout',
            name: 'hash',
            cName: 'hash',
            min: 32,
            max: 32,
            initial: 32,
            optional: false,
          },
        ],
      },
    ]);
  });

  test('is data and nothing else', () => {
    const description = descriptionOf(Notary);
    expect(structuredClone(description)).toEqual(description);
  });

  test('is that of the description, of nothing else', () => {
    for (const other of [undefined, null, 1, {}, () => 1, { name: 'notary', uuid: UUID }]) {
      expect(descriptionOf(other)).toBeUndefined();
    }
  });
});

test('names in C', () => {
  expect(['count', 'signHash', 'readPCR7', 'aesGCMKey', 'is_on', 'X', 'a1B'].map(cNameOf)).toEqual([
    'count',
    'sign_hash',
    'read_pcr7',
    'aes_gcm_key',
    'is_on',
    'x',
    'a1_b',
  ]);
});

describe('a wrong description is refused with the place in it', () => {
  const cases: [place: string, problem: RegExp, definition: unknown][] = [
    ['definition', /must be an object with name, uuid/, undefined],
    ['definition', /must be an object/, []],
    ['definition.name', /must be a string/, { uuid: UUID, commands: {} }],
    ['definition.name', /no name for JavaScript and C/, { name: 'No', uuid: UUID, commands: {} }],
    ['definition.name', /OP-TEE's own/, { name: 'ta', uuid: UUID, commands: {} }],
    ['definition.name', /more than 63/, { name: 'x'.repeat(64), uuid: UUID, commands: {} }],
    ['notary', /no 'comands' here/, { name: 'notary', uuid: UUID, comands: {} }],
    ['notary.uuid', /32 hexadecimal digits/, { name: 'notary', uuid: '8aaaf200', commands: {} }],
    ['notary.uuid', /32 hexadecimal digits/, { name: 'notary', commands: {} }],
    ['notary.commands', /must be an object with the commands/, { name: 'notary', uuid: UUID }],
    ['notary.commands.hash', /id and slots/, withCommands({ hash: 3 })],
    ['notary.commands.hash', /no 'slot' here/, withCommands({ hash: { id: 1, slot: [] } })],
    ['notary.commands.hash.id', /whole number/, withCommands({ hash: {} })],
    ['notary.commands.hash.id', /from 0 to 4294967295/, withCommands({ hash: { id: 2 ** 32 } })],
    [
      'notary.commands.b',
      /id is that of notary.commands.a, too/,
      withCommands({ a: { id: 1 }, b: { id: 1 } }),
    ],
    [
      'notary.commands.sign_hash',
      /name in C is that of notary.commands.signHash/,
      withCommands({ signHash: { id: 1 }, sign_hash: { id: 2 } }),
    ],
    ['notary.commands.hash.repeatable', /true or false/, withCommands({ hash: { id: 1, repeatable: 1 } })],
    [
      'notary.commands.hash.repeatable',
      /no output/,
      withCommands({ hash: { id: 1, repeatable: true, slots: [slot.bytes.out('a', { size: 3 })] } }),
    ],
    ...[
      'session',
      'sync',
      'close',
      'then',
      'use',
      'constructor',
      'toJSON',
      'invoke',
      'createX'.slice(0, 6),
    ].map((name): [string, RegExp, unknown] => [
      `notary.commands.${name}`,
      /is a (name|function) that every/,
      withCommands({ [name]: { id: 1 } }),
    ]),
    ...['__proto__x', 'Upper', '1st', 'with-dash', 'größe', '$', ''].map(
      (name): [string, RegExp, unknown] => [
        `notary.commands.${name}`,
        /is no name for JavaScript and C/,
        withCommands({ [name]: { id: 1 } }),
      ],
    ),
    ['notary.commands.hash.slots', /array of slots/, withCommands({ hash: { id: 1, slots: {} } })],
    [
      'notary.commands.hash.slots',
      /at most 4 parameters, not 5/,
      withSlots(...['a', 'b', 'c', 'd', 'e'].map((name) => slot.value.in(name))),
    ],
    ['notary.commands.hash.slots[1]', /must be made by slot/, withSlots(slot.value.in('a'), {})],
    [
      'notary.commands.hash.slots[1]',
      /name \(a in C\) is that of notary.*\[0\]/,
      withSlots(slot.value.in('a'), slot.value.out('a')),
    ],
    ['notary.commands.hash.slots[0]', /name \(a in C\)/, withSlots(slot.value.in('a', 'a'))],
    [
      'notary.commands.hash.slots[1]',
      /data_size in C/,
      withSlots(slot.bytes.in('data', { max: 1 }), slot.value.in('dataSize')),
    ],
    ['notary.commands.hash.slots[0]', /word of C/, withSlots(slot.value.in('register'))],
    ['notary.commands.hash.slots[0]', /word of C/, withSlots(slot.value.in('sizeT'))],
    ['notary.commands.hash.slots[0]', /every function of the TA/, withSlots(slot.value.in('session'))],
    ...['memset', 'memchr', 'memcpy', 'strlen', 'dispatchTake', 'dispatch_call_hash'].map(
      (name): [string, RegExp, unknown] => [
        'notary.commands.hash.slots[0]',
        /a function that the generated C calls/,
        withSlots(slot.value.in(name)),
      ],
    ),
    [
      'notary.commands.hash.slots[0]',
      /'notary_hash' is the name in C of the function itself/,
      withSlots(slot.value.in('notaryHash')),
    ],
    [
      'notary.open[0]',
      /'notary_open' is the name in C/,
      { name: 'notary', uuid: UUID, commands: {}, open: [slot.value.in('notary_open')] },
    ],
    ['notary.commands.hash.slots[0]', /every object/, withSlots(slot.value.in('valueOf'))],
    ['notary.commands.hash.slots[0]', /must be a string/, withSlots(slot.value.in(5 as never))],
    [
      'notary.commands.hash.slots[0]',
      /one or two numbers, not 0/,
      withSlots((slot.value.in as () => object)()),
    ],
    [
      'notary.commands.hash.slots[0]',
      /one or two numbers, not 3/,
      withSlots((slot.value.in as (...names: string[]) => object)('a', 'b', 'c')),
    ],
    ['notary.commands.hash.slots[0]', /u64 takes all/, withSlots(slot.value.in(u64('a') as never, 'b'))],
    [
      'notary.commands.hash.slots[0]',
      /the default must be a whole number/,
      withSlots(slot.value.in(u8('a', { default: 256 }))),
    ],
    ['notary.commands.hash.slots[0]', /has no default/, withSlots(slot.value.out(u8('a', { default: 1 })))],
    ['notary.commands.hash.slots[0]', /max or size/, withSlots(slot.bytes.in('a', undefined as never))],
    [
      'notary.commands.hash.slots[0]',
      /max must be a whole number/,
      withSlots(slot.bytes.in('a', {} as never)),
    ],
    ['notary.commands.hash.slots[0]', /max must be/, withSlots(slot.bytes.in('a', { max: -1 }))],
    ['notary.commands.hash.slots[0]', /min must be.*to 4/, withSlots(slot.bytes.in('a', { min: 5, max: 4 }))],
    [
      'notary.commands.hash.slots[0]',
      /no 'max' here/,
      withSlots(slot.bytes.in('a', { size: 5, max: 4 } as never)),
    ],
    [
      'notary.commands.hash.slots[0]',
      /no 'min' here/,
      withSlots(slot.bytes.out('a', { min: 5, max: 6 } as never)),
    ],
    [
      'notary.commands.hash.slots[0]',
      /no 'optional' here/,
      withSlots(slot.bytes.out('a', { max: 6, optional: true } as never)),
    ],
    [
      'notary.commands.hash.slots[0]',
      /initial must be.*to 6/,
      withSlots(slot.bytes.out('a', { max: 6, initial: 7 })),
    ],
    [
      'notary.commands.hash.slots[0]',
      /optional must be true or false/,
      withSlots(slot.text.in('a', { max: 6, optional: 1 } as never)),
    ],
    [
      'notary.commands.hash.slots[0]',
      /must be a struct that struct\(\) made/,
      withSlots(slot.struct.in('a', u8 as never)),
    ],
    ['notary.commands.hash.slots[0]', /max must be/, withSlots(slot.text.in('a', { max: 0 }))],
    [
      'notary.commands.hash.slots[0]',
      /no 'maximum' here/,
      withSlots(slot.memory.in('a', { maximum: 3 } as never)),
    ],
    [
      'notary.commands.hash.slots[1]',
      /two structs with the name 's'/,
      withSlots(slot.struct.in('a', struct('s', { x: u8 })), slot.struct.in('b', struct('s', { x: u8 }))),
    ],
    [
      'notary.open',
      /at most 4/,
      { name: 'notary', uuid: UUID, commands: {}, open: Array(5).fill(slot.value.in('a')) },
    ],
    [
      'notary.open[0]',
      /'login' is an option of open/,
      { name: 'notary', uuid: UUID, commands: {}, open: [slot.value.in('login')] },
    ],
    ['notary.results', /names and numbers/, withResults([])],
    ['notary.results.locked', /is no name/, withResults({ locked: 1 })],
    ['notary.results.TEE_LOCKED', /GlobalPlatform's or OP-TEE's own/, withResults({ TEE_LOCKED: 1 })],
    ['notary.results.NOTARY_CMD_HASH', /macro that is generated/, withResults({ NOTARY_CMD_HASH: 1 })],
    ['notary.results.LOCKED', /from 1 to 4294967295, not 0/, withResults({ LOCKED: 0 })],
    ['notary.results.LOCKED', /not 4294967296/, withResults({ LOCKED: 2 ** 32 })],
    ['notary.results.LOCKED', /0xffff000d is TEE_ERROR_BUSY/, withResults({ LOCKED: 0xffff000d })],
    ['notary.results.LOCKED', /0xf0100001 is TEE_ERROR_CORRUPT_OBJECT/, withResults({ LOCKED: 0xf0100001 })],
    ['notary.results.LOCKED', /0xffff4444 is GlobalPlatform's/, withResults({ LOCKED: 0xffff4444 })],
    ['notary.results.B', /result is that of notary.results.A/, withResults({ A: 1, B: 1 })],
  ];
  test.each(cases)('%s: %s', (place, problem, definition) => {
    let error: Error | undefined;
    try {
      define(definition);
    } catch (caught) {
      error = caught as Error;
    }
    expect(error).toMatchObject({ name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' });
    expect(error?.message.startsWith(`${place}: `)).toBe(true);
    expect(error?.message.slice(place.length + 2)).toMatch(problem);
  });

  test('arguments hide no function that the dispatcher calls', () => {
    const source = generate(descriptionIn(Every), 'test.mjs').find(({ name }) => name.endsWith('.c'))?.text;
    const called = new Set([...(source ?? '').matchAll(/\b([a-z]\w*)\(/g)].map(([, name = '']) => name));
    expect([...called]).toEqual(expect.arrayContaining(['memchr', 'memset', 'strlen', 'dispatch_take']));
    for (const name of called) {
      if (!name.startsWith('every_'))
        expect([name, argumentProblem(name)]).toEqual([name, expect.any(String)]);
    }
  });

  test('words of C are no harm to commands, whose functions have a prefix', () => {
    expect(() => define(withCommands({ delete: { id: 0 }, switch: { id: 1 } }))).not.toThrow();
  });
});

describe('a wrong type is refused with the place in it', () => {
  const cases: [message: RegExp, make: () => unknown][] = [
    [/^enumeration: must be an object/, () => enumeration(5 as never)],
    [/^enumeration: has no members/, () => enumeration({})],
    [/^enumeration\.A: the number must be/, () => enumeration({ A: -1 })],
    [/^enumeration\.B: its number is that of enumeration\.A, too/, () => enumeration({ A: 1, B: 1 })],
    [/^enumeration\.a_b: its name in C/, () => enumeration({ aB: 1, a_b: 2 })],
    [/^enumeration\.1: '1' is no name/, () => enumeration({ 1: 1 })],
    [/^octets: the length/, () => octets(0)],
    [/^octets: the length .*, not \[/, () => octets([new Proxy(new Uint8Array(1), {})] as never)],
    [/^array: its element/, () => array({} as never, 1)],
    [/^array: the length/, () => array(u8, 1.5)],
    [/^struct: 'A' is no name/, () => struct('A', { a: u8 })],
    [/^struct: 'session' is a struct/, () => struct('session', { a: u8 })],
    [/^a: must be an object with the fields/, () => struct('a', 1 as never)],
    [/^a: has no fields/, () => struct('a', {})],
    [/^a\.int: 'int' is a word of C/, () => struct('a', { int: u8 })],
    [/^a\.b: must be a type/, () => struct('a', { b: {} as never })],
    [/^a\.b_c: its name in C is that of a\.bC/, () => struct('a', { bC: u8, b_c: u8 })],
    [/^a: has 65544 bytes/, () => struct('a', { b: octets(65536), c: u64 })],
  ];
  test.each(cases)('%s', (message, make) => {
    expect(make).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE', message: expect.stringMatching(message) }),
    );
  });
});
