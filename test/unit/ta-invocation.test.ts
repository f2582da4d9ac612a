import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { bool, defineTrustedApplication, enumeration, slot, struct, u16, u32, u64, u8 } from 'node-optee/ta';
import { ParamKind } from '#lib/client/native';
import { buffer, readOutputs, readParams, reportedSize, type Spec } from '#lib/client/parameters';
import { descriptionOf } from '#lib/ta/description';
import { commandOf, readArgs, readOptions, type Command } from '#lib/ta/invocation';
import { answerOf } from '../support/answer.js';

const Mode = enumeration({ OFF: 0, ON: 7 });

/** A command with these slots. */
function command(slots: readonly unknown[], repeatable = false): Command {
  const define = defineTrustedApplication as (definition: unknown) => object;
  const ta = define({
    name: 'notary',
    uuid: '8aaaf200-2450-11e4-abe2-0002a5d5c51b',
    commands: { go: { id: 3, slots, repeatable } },
  });
  const [made] = descriptionOf(ta)?.commands.map((each) => commandOf(each, 'notary')) ?? [];
  return made;
}

/** What would be sent. */
const specs = (made: Command, args?: unknown): readonly Spec[] => readParams([...readArgs(made, args)], true);

const u32s = fc.nat(0xffffffff);

describe('values', () => {
  test('names become a and b, and come back by name', () => {
    const made = command([slot.value.inout('count', 'step')]);
    fc.assert(
      fc.property(u32s, u32s, (count, step) => {
        expect(specs(made, { step, count })).toEqual([{ kind: ParamKind.valueInout, a: count, b: step }]);
        expect(made.finish([{ a: count, b: step }])).toEqual({ count, step });
      }),
    );
  });

  test('a u64 is its upper half in a and its lower half in b', () => {
    const made = command([slot.value.in(u64('from')), slot.value.out(u64('to'))]);
    expect(specs(made, { from: 0x1122334455667788n })[0]).toMatchObject({ a: 0x11223344, b: 0x55667788 });
    fc.assert(
      fc.property(fc.bigInt(0n, 2n ** 64n - 1n), (from) => {
        const [{ a, b } = { a: 0, b: 0 }] = specs(made, { from });
        expect((BigInt(a) << 32n) | BigInt(b)).toBe(from);
        expect(made.finish([undefined, { a, b }])).toEqual({ to: from });
      }),
    );
  });

  test('the other types', () => {
    const made = command([
      slot.value.inout(u8('small'), u16('middle')),
      slot.value.inout(bool('on'), Mode('mode')),
    ]);
    const args = { small: 255, middle: 65535, on: true, mode: 'ON' };
    expect(specs(made, args)).toEqual([
      { kind: ParamKind.valueInout, a: 255, b: 65535 },
      { kind: ParamKind.valueInout, a: 1, b: 7 },
    ]);
    expect(
      made.finish([
        { a: 1, b: 2 },
        { a: 0, b: 0 },
      ]),
    ).toEqual({ small: 1, middle: 2, on: false, mode: 'OFF' });
  });

  test('a default', () => {
    const made = command([
      slot.value.in(u32('a', { default: 5 }), Mode('mode', { default: 'ON' })),
      slot.value.in(u64('wide', { default: 2n ** 33n })),
    ]);
    expect(specs(made)).toMatchObject([
      { a: 5, b: 7 },
      { a: 2, b: 0 },
    ]);
    expect(specs(made, { a: 0, mode: undefined, wide: 1n })).toMatchObject([
      { a: 0, b: 7 },
      { a: 0, b: 1 },
    ]);
    expect(() => specs(made, { a: null })).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }));
    expect(() => specs(made, { wide: null })).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }),
    );
  });

  test('what the description does not allow is no result', () => {
    const made = command([
      slot.value.out(u8('small'), u16('middle')),
      slot.value.out(bool('on'), Mode('mode')),
    ]);
    const good = [
      { a: 1, b: 2 },
      { a: 0, b: 0 },
    ];
    expect(made.finish(good)).toEqual({ small: 1, middle: 2, on: false, mode: 'OFF' });
    for (const [wrong, message] of [
      [[{ a: 256, b: 0 }, good[1]], /^notary\.go\.small is 256, and at most 255/],
      [[{ a: 0, b: 65536 }, good[1]], /^notary\.go\.middle is 65536/],
      [[good[0], { a: 2, b: 0 }], /^notary\.go\.on is 2/],
      [[good[0], { a: 0, b: 1 }], /^notary\.go\.mode is 1, which has no name/],
    ] as const) {
      expect(() => made.finish(wrong)).toThrow(
        expect.objectContaining({ code: 'ERR_TEE_BAD_OUTPUT', message: expect.stringMatching(message) }),
      );
    }
  });
});

describe('memory', () => {
  test('bytes', () => {
    const made = command([
      slot.bytes.in('data', { min: 1, max: 3 }),
      slot.bytes.out('hash', { size: 32 }),
      slot.bytes.inout('both', { max: 9 }),
      slot.bytes.in('more', { max: 9, optional: true }),
    ]);
    const [data, both, hash] = [new Uint8Array(3), Buffer.alloc(0), new Uint8Array(32)];
    const given = specs(made, { data, both });
    expect(given).toEqual([
      { kind: ParamKind.temporaryIn, a: 0, b: 3, bytes: data },
      { kind: ParamKind.temporaryOut, a: 0, b: 32 },
      { kind: ParamKind.temporaryInout, a: 0, b: 0, bytes: both },
      { kind: ParamKind.nullIn, a: 0, b: 0 },
    ]);
    expect(given[0]?.bytes).toBe(data);
    const into = specs(made, { data, both, hash, more: data })[1];
    expect(into).toMatchObject({ kind: ParamKind.intoOut, b: 32 });
    expect(into?.bytes).toBe(hash);
    expect(made.finish([undefined, hash, both, undefined])).toEqual({ hash, both });
    expect(() => made.finish([undefined, new Uint8Array(31), both, undefined])).toThrow(
      expect.objectContaining({
        code: 'ERR_TEE_BAD_OUTPUT',
        message: expect.stringMatching(/^notary\.go\.hash has 31 bytes, and must have 32/),
      }),
    );
  });

  test('a size beyond the room is no result where all of it is needed', () => {
    const Pair = struct('pair', { a: u8, b: u8 });
    for (const [made, room] of [
      [slot.bytes.out('given', { size: 2 }), 2],
      [slot.bytes.inout('given', { size: 2 }), 2],
      [slot.struct.out('given', Pair), 2],
      [slot.text.out('given', { max: 2 }), 2],
    ] as const) {
      const one = command([made]);
      const params = readParams([buffer.out(room)], true);
      const answered = (size: number) =>
        readOutputs(params, answerOf({}, [[0, size]], [Uint8Array.of(65, 66)]));
      expect(one.finish(answered(2))).toHaveProperty('given');
      expect(() => one.finish(answered(3))).toThrow(
        expect.objectContaining({
          code: 'ERR_TEE_BAD_OUTPUT',
          message: expect.stringMatching(/^notary\.go\.given has 3 bytes, and (must have|at most) 2/),
        }),
      );
    }
    // Bytes that may have any size are what there was room for.
    const any = command([slot.bytes.out('data', { max: 2 })]);
    const outputs = readOutputs(
      readParams([buffer.out(2)], true),
      answerOf({}, [[0, 3]], [Uint8Array.of(1, 2)]),
    );
    const { data } = any.finish(outputs) as { data: Uint8Array };
    expect([data.length, reportedSize(data)]).toEqual([2, 3]);
  });

  test('how much room there is', () => {
    const made = command([slot.bytes.out('data', { max: 100, initial: 10 })]);
    expect(specs(made)[0]).toMatchObject({ kind: ParamKind.temporaryOut, b: 10 });
    expect(specs(made, { data: 0 })[0]).toMatchObject({ kind: ParamKind.temporaryOut, b: 0 });
    expect(specs(made, { data: 100 })[0]).toMatchObject({ kind: ParamKind.temporaryOut, b: 100 });
    expect(specs(made, { data: new Uint8Array(50) })[0]).toMatchObject({ kind: ParamKind.intoOut, b: 50 });
    for (const data of [101, -1, 1.5, new Uint8Array(101)]) {
      expect(() => specs(made, { data })).toThrow(expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }));
    }
    for (const data of ['5', null, new Uint16Array(5), new ArrayBuffer(3)]) {
      expect(() => specs(made, { data })).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }));
    }
  });

  test('what is sent later is a copy', () => {
    const made = command([slot.bytes.in('data', { max: 3 }), slot.bytes.out('more', { max: 9 })], true);
    const data = Uint8Array.of(1, 2, 3);
    const [sent] = specs(made, { data });
    expect(sent?.bytes).toEqual(data);
    expect(sent?.bytes).not.toBe(data);
  });

  test('texts and structs', () => {
    const Point = struct('point', { x: u8, y: u8 });
    const made = command([
      slot.text.in('name', { max: 5 }),
      slot.text.inout('title', { max: 4 }),
      slot.struct.inout('point', Point),
      slot.text.in('more', { max: 5, optional: true }),
    ]);
    const sent = specs(made, { name: 'ä', title: 'ab', point: { x: 1, y: 2 } });
    expect(sent.map(({ kind, b, bytes }) => [kind, b, bytes && [...bytes]])).toEqual([
      [ParamKind.temporaryIn, 2, [0xc3, 0xa4]],
      [ParamKind.temporaryInout, 4, [0x61, 0x62, 0, 0]],
      [ParamKind.temporaryInout, 2, [1, 2]],
      [ParamKind.nullIn, 0, undefined],
    ]);
    expect(made.finish([undefined, Uint8Array.of(0x78), Uint8Array.of(3, 4), undefined])).toEqual({
      title: 'x',
      point: { x: 3, y: 4 },
    });
    expect(() => made.finish([undefined, Uint8Array.of(0x78), Uint8Array.of(3), undefined])).toThrow(
      expect.objectContaining({ code: 'ERR_TEE_BAD_OUTPUT' }),
    );
    const outs = command([slot.text.out('name', { max: 5 }), slot.struct.out('point', Point)]);
    expect(specs(outs)).toMatchObject([
      { kind: ParamKind.temporaryOut, b: 5 },
      { kind: ParamKind.temporaryOut, b: 2 },
    ]);
  });

  test('shared memory that is none', () => {
    const made = command([slot.memory.inout('frame'), slot.memory.out('mask', { optional: true })]);
    for (const [frame, message] of [
      [undefined, /^go\.frame must be a SharedMemory/],
      [new Uint8Array(1), /^go\.frame/],
      [{ memory: {} }, /^go\.frame\.memory must be a SharedMemory/],
    ] as const) {
      expect(() => specs(made, { frame })).toThrow(
        expect.objectContaining({ message: expect.stringMatching(message) }),
      );
    }
    expect(() => specs(made, { frame: { memroy: 1 } })).toThrow(
      expect.objectContaining({
        code: 'ERR_INVALID_ARG_VALUE',
        message: expect.stringMatching(/^go\.frame has no memroy/),
      }),
    );
  });
});

describe('arguments', () => {
  const made = command([slot.value.in('count', 'step'), slot.value.out('sum')]);

  test.each<[args: unknown, code: string, message: RegExp]>([
    [undefined, 'ERR_INVALID_ARG_TYPE', /^go\.count must be a number, not undefined/],
    [{ count: 1 }, 'ERR_INVALID_ARG_TYPE', /^go\.step must be a number, not undefined/],
    [{ count: 1, step: '2' }, 'ERR_INVALID_ARG_TYPE', /^go\.step must be a number, not string '2'/],
    [{ count: 1, step: -1 }, 'ERR_OUT_OF_RANGE', /^go\.step must be a whole number/],
    [{ count: 2 ** 32, step: 1 }, 'ERR_OUT_OF_RANGE', /^go\.count must be a whole number/],
    [
      { count: 1, step: 1, stop: 1 },
      'ERR_INVALID_ARG_VALUE',
      /^go has no argument stop; there are count, step/,
    ],
    [{ count: 1, step: 1, sum: 1 }, 'ERR_INVALID_ARG_VALUE', /^go has no argument sum/],
    [5, 'ERR_INVALID_ARG_TYPE', /^the arguments of go must be an object, not number 5/],
    [null, 'ERR_INVALID_ARG_TYPE', /^the arguments of go/],
    [[1, 2], 'ERR_INVALID_ARG_TYPE', /^the arguments of go/],
  ])('%j are refused', (args, code, message) => {
    expect(() => specs(made, args)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    );
  });

  test('none where there are none', () => {
    const none = command([]);
    expect(specs(none)).toEqual([]);
    expect(specs(none, {})).toEqual([]);
    expect(none.finish([])).toBeUndefined();
    expect(() => specs(none, { a: 1 })).toThrow(
      expect.objectContaining({ message: 'go has no argument a; it takes none' }),
    );
  });

  test('options with other names', () => {
    expect(readOptions(undefined)).toBeUndefined();
    for (const options of [{ singal: 1 }, { timeout: 5 }]) {
      expect(() => readOptions(options)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
    }
    for (const options of [5, [], null]) {
      expect(() => readOptions(options)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }));
    }
  });

  test('in any order, and of a class', () => {
    class Step {
      count = 7;
      get step(): number {
        return 8;
      }
    }
    for (const args of [{ step: 8, count: 7 }, new Step(), Object.create({ count: 7, step: 8, other: 9 })]) {
      expect(specs(made, args)).toMatchObject([{ a: 7, b: 8 }, { kind: ParamKind.valueOut }]);
    }
  });

  test('getters are read once, and before anything is sent', () => {
    let reads = 0;
    const args = {
      get count() {
        reads++;
        return 1;
      },
      step: 2,
    };
    const options = {
      get wipe() {
        reads++;
        return true;
      },
    };
    expect(specs(made, args)).toHaveLength(2);
    const read = readOptions(options);
    expect(reads).toBe(2);
    expect(read).toEqual({ wipe: true, signal: undefined });
    expect(Object.getOwnPropertyDescriptor(read, 'wipe')).toHaveProperty('value', true);
  });
});
