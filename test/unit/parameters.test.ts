import { inspect } from 'node:util';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { buffer, reportedSize, value } from 'node-optee';
import { ParamKind } from '#lib/client/native';
import { describeParam, NONE, readFailedOutputs, readOutputs, readParams } from '#lib/client/parameters';
import { answerOf } from '../support/answer.js';

const u32 = fc.integer({ min: 0, max: 0xffffffff });
const read = (params: unknown, nullMemref = true): ReturnType<typeof readParams> =>
  readParams(params, nullMemref);
const kinds = (params: unknown): ParamKind[] => read(params).map(({ kind }) => kind);

describe('reading', () => {
  test('no parameters, and one that is none', () => {
    expect(read([])).toEqual([]);
    expect(kinds([undefined, value.out()])).toEqual([0, ParamKind.valueOut]);
  });

  test('values', () => {
    fc.assert(
      fc.property(u32, u32, (a, b) => {
        expect(read([undefined, value.inout(a, b)])).toEqual([
          NONE,
          { ...NONE, kind: ParamKind.valueInout, a, b },
        ]);
      }),
    );
    expect(read([value.in(5)])).toEqual([{ ...NONE, kind: ParamKind.valueIn, a: 5 }]);
  });

  test('buffers: empty is not NULL', () => {
    expect(
      kinds([buffer.in(new Uint8Array(0)), buffer.out(0), buffer.null('in'), buffer.null('out')]),
    ).toEqual([ParamKind.temporaryIn, ParamKind.temporaryOut, ParamKind.nullIn, ParamKind.nullOut]);
    expect(kinds([buffer.into(new Uint8Array(7)), buffer.inPlace(new Uint8Array(8))])).toEqual([
      ParamKind.intoOut,
      ParamKind.inPlace,
    ]);
    expect(read([buffer.out(5)])).toEqual([{ ...NONE, kind: ParamKind.temporaryOut, b: 5 }]);
  });

  test('a fifth parameter', () => {
    expect(() => read([value.in(1), value.in(1), value.in(1), value.in(1), undefined])).toThrow(
      expect.objectContaining({
        code: 'ERR_OUT_OF_RANGE',
        message: 'params.length must be at most 4, not 5',
      }),
    );
  });

  test('NULL where the TEE does not take it', () => {
    expect(() => read([value.in(1), buffer.null('out')], false)).toThrow(
      expect.objectContaining({
        code: 'ERR_TEE_NOT_SUPPORTED',
        message: expect.stringMatching(/^params\[1\] is a NULL buffer/),
      }),
    );
  });

  test('things that are no parameters', () => {
    const lookalike: unknown = Object.create(Object.getPrototypeOf(value.in(1)) as object, {
      kind: { get: () => 1 },
    });
    const proxy = new Proxy(value.in(1), {});
    const wrongs = [
      1,
      null,
      'x',
      new Uint8Array(1),
      { a: 1, b: 2 },
      { kind: 1, a: 1, b: 2 },
      lookalike,
      proxy,
    ];
    for (const wrong of wrongs) {
      expect(() => read([undefined, wrong])).toThrow(
        expect.objectContaining({
          code: 'ERR_INVALID_ARG_TYPE',
          message: expect.stringMatching(/^params\[1\] must be made by value/),
        }),
      );
    }
    expect(() => read('x')).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }));
  });

  test('the length of an array is its own, whatever its class says', () => {
    class Odd extends Uint8Array {
      override get byteLength(): number {
        throw new Error('was run');
      }
    }
    expect(read([buffer.in(new Odd(5))])[0]?.b).toBe(5);
  });
});

describe('making parameters', () => {
  test.each([
    ['value.in', () => value.in(-1)],
    ['value.inout', () => value.inout(0, 2 ** 32)],
    ['buffer.out', () => buffer.out(2 ** 32)],
    ['buffer.out', () => buffer.out(0.5)],
  ])('%s out of range', (_, make) => {
    expect(make).toThrow(expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }));
  });

  test('wrong types', () => {
    expect(() => buffer.in(new ArrayBuffer(1) as never)).toThrow(
      'bytes must be a Uint8Array, not ArrayBuffer',
    );
    expect(() => buffer.into(5 as never)).toThrow(/^bytes must be a Uint8Array, not number$/);
    expect(() => buffer.inPlace([1] as never)).toThrow(/^bytes must be a Uint8Array, not Array$/);
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    expect(() => buffer.in(proxy as never)).toThrow(/^bytes must be a Uint8Array, not Proxy$/);
    for (const odd of [
      Object.create(proxy),
      {
        get [Symbol.toStringTag]() {
          throw new Error('thrown by a getter');
        },
      },
    ]) {
      expect(() => buffer.in(odd as never)).toThrow(/^bytes must be a Uint8Array, not object$/);
      expect(() => value.in(odd as never)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }));
    }
    expect(() => buffer.in('a PIN' as never)).toThrow(/^bytes must be a Uint8Array, not string$/);
    for (const wrong of ['toString', ['in'], { toString: () => 'in' }]) {
      expect(() => buffer.null(wrong as never)).toThrow("direction must be 'in', 'out' or 'inout'");
    }
    const detached = new Uint8Array(1);
    structuredClone(detached, { transfer: [detached.buffer] });
    expect(() => buffer.null(detached as never)).toThrow("direction must be 'in', 'out' or 'inout'");
  });

  test('in messages they show no content', () => {
    expect(
      readParams(
        [value.in(4711), buffer.in(Buffer.from('secret')), buffer.null('inout'), undefined],
        true,
      ).map(describeParam),
    ).toEqual(['value.in', 'buffer.in of 6 bytes', "buffer.null('inout')", 'none']);
  });
});

describe('outputs', () => {
  const params = readParams([value.inout(1, 2), buffer.out(4), value.in(3), buffer.out(2)], true);
  const four = Uint8Array.of(1, 2, 3, 4);
  const two = Uint8Array.of(5, 6);
  /** A record at some place in the records, as after a call: the TA claims more than it was given room for. */
  const answer = (index: number): ReturnType<typeof answerOf> =>
    answerOf(
      {},
      [
        [10, 20],
        [0, 400],
        [0, 0],
        [0, 2],
      ],
      [undefined, four, undefined, two],
      index,
    );

  test('what a call that succeeded brought back', () => {
    expect(readOutputs(params, answer(1))).toEqual([{ a: 10, b: 20 }, four, undefined, two]);
    expect(readOutputs([], answer(0))).toEqual([]);
  });

  test('a size beyond the room is told', () => {
    const [, bytes, , others] = readOutputs(params, answer(0)) as [unknown, Uint8Array, unknown, Uint8Array];
    expect(reportedSize(bytes)).toBe(400);
    expect(reportedSize(others)).toBe(2);
    expect(reportedSize(new Uint8Array(7))).toBe(7);
    expect(() => reportedSize({} as never)).toThrow('bytes must be a Uint8Array');
    const sized = readParams([buffer.null('out')], true);
    expect(readOutputs(sized, answerOf({}, [[0, 99]]))).toEqual([99]);
  });

  test.each(['into', 'inPlace'] as const)(
    '%s brings back what came in, or a part of the same class',
    (kind) => {
      class Own extends Uint8Array {}
      for (const bytes of [Buffer.alloc(8), new Uint8Array(8), new Own(8)]) {
        const specs = readParams([buffer[kind](bytes)], true);
        const [whole] = readOutputs(specs, answerOf({}, [[1, 8]]));
        expect(whole).toBe(bytes);
        const [part] = readOutputs(specs, answerOf({}, [[1, 3]])) as [Uint8Array];
        expect(Object.getPrototypeOf(part)).toBe(Object.getPrototypeOf(bytes));
        expect([part.buffer, part.byteOffset, part.length]).toEqual([bytes.buffer, bytes.byteOffset, 3]);
        expect(reportedSize(part)).toBe(3);
        const [full] = readOutputs(specs, answerOf({}, [[1, 30]])) as [Uint8Array];
        expect([full, reportedSize(full)]).toEqual([bytes, 30]);
        readOutputs(specs, answerOf({}, [[1, 8]]));
        expect(reportedSize(bytes)).toBe(8);
      }
    },
  );

  test('what a call that failed brought back: the size that the TA asked for', () => {
    const outputs = readFailedOutputs(params, answer(0));
    // An error that is logged does not show the bytes.
    expect(outputs).toEqual([{ a: 10, b: 20 }, { size: 400 }, undefined, { size: 2 }]);
    expect(outputs).toMatchObject([{}, { data: four }, undefined, { data: two }]);
    expect(inspect(outputs)).not.toContain('data');
  });
});
