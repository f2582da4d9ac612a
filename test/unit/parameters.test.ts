import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { buffer, value } from 'node-optee';
import { Packet, Param, ParamKind } from '#lib/client/native';
import type { Native } from '#lib/client/native';
import { copyParams, describeParam, pack, unpack, unpackFailed, type Params } from '#lib/client/parameters';

const context = {};

/** Packs into a packet that holds rubbish from the call before, as a real one does. */
function packed(params: Params, nullMemref = true): { packet: Float64Array; bytes: boolean } {
  const packet = new Float64Array(Packet.length).fill(77);
  const bytes = pack({ packet } as unknown as Native, copyParams(params), context, nullMemref);
  return { packet, bytes };
}

function kinds(packet: Float64Array): number[] {
  return Array.from(
    { length: packet[Packet.count] },
    (_, i) => packet[Packet.params + i * Param.stride + Param.kind],
  );
}

const u32 = fc.integer({ min: 0, max: 0xffffffff });

describe('packing', () => {
  test('no parameters, and one that is none', () => {
    expect(kinds(packed([]).packet)).toEqual([]);
    expect(kinds(packed([undefined, value.out()]).packet)).toEqual([0, ParamKind.valueOut]);
  });

  test('values', () => {
    fc.assert(
      fc.property(u32, u32, (a, b) => {
        const { packet, bytes } = packed([undefined, value.inout(a, b)]);
        expect(bytes).toBe(false);
        expect([...packet.subarray(13, 16)]).toEqual([ParamKind.valueInout, a, b]);
      }),
    );
    expect([...packed([value.in(5)]).packet.subarray(9, 12)]).toEqual([ParamKind.valueIn, 5, 0]);
  });

  test('buffers: empty is not NULL', () => {
    const { packet, bytes } = packed([
      buffer.in(new Uint8Array(0)),
      buffer.out(0),
      buffer.null('in'),
      buffer.null('out'),
    ]);
    expect(bytes).toBe(true);
    expect(kinds(packet)).toEqual([
      ParamKind.temporaryIn,
      ParamKind.temporaryOut,
      ParamKind.nullIn,
      ParamKind.nullOut,
    ]);
    const own = packed([buffer.into(new Uint8Array(7)), buffer.inPlace(new Uint8Array(8))]);
    expect(own.bytes).toBe(true);
    expect(kinds(own.packet)).toEqual([ParamKind.intoOut, ParamKind.inPlace]);
    expect(packed([buffer.out(5)]).bytes).toBe(false);
    expect(packed([buffer.out(5)]).packet[Packet.params + Param.b]).toBe(5);
  });

  test('a fifth parameter', () => {
    expect(() => packed([value.in(1), value.in(1), value.in(1), value.in(1), undefined])).toThrow(
      expect.objectContaining({
        code: 'ERR_OUT_OF_RANGE',
        message: 'params.length must be at most 4, not 5',
      }),
    );
  });

  test('NULL where the TEE does not take it', () => {
    expect(() => packed([value.in(1), buffer.null('out')], false)).toThrow(
      expect.objectContaining({
        code: 'ERR_TEE_NOT_SUPPORTED',
        message: expect.stringMatching(/^params\[1\] is a NULL buffer/),
      }),
    );
  });

  test('things that are no parameters', () => {
    for (const wrong of [1, null, 'x', new Uint8Array(1), { a: 1, b: 2 }, { kind: 1, a: 1, b: 2 }]) {
      expect(() => packed([undefined, wrong as never])).toThrow(
        expect.objectContaining({
          code: 'ERR_INVALID_ARG_TYPE',
          message: expect.stringMatching(/^params\[1\] must be made by value/),
        }),
      );
    }
    expect(() => packed('x' as never)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }));
  });

  test('an array that was transferred after the parameter was made', () => {
    const bytes = new Uint8Array(8);
    const params = [buffer.in(bytes), buffer.into(bytes), buffer.inPlace(bytes)];
    structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
    for (const param of params) {
      expect(() => packed([param])).toThrow(/params\[0\] has 0 bytes now, but had 8/);
    }
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
    expect(() => buffer.into(5 as never)).toThrow('bytes must be a Uint8Array, not number 5');
    expect(() => buffer.inPlace([1] as never)).toThrow(/^bytes must be a Uint8Array, not /);
    expect(() => buffer.null('toString' as never)).toThrow("direction must be 'in', 'out' or 'inout'");
  });

  test('in messages they show no content', () => {
    expect(
      [value.in(4711), buffer.in(Buffer.from('secret')), buffer.null('inout'), undefined].map(describeParam),
    ).toEqual(['value.in', 'buffer.in of 6 bytes', "buffer.null('inout')", 'none']);
  });
});

describe('unpacking', () => {
  const params = [value.inout(1, 2), buffer.out(4), value.in(3), buffer.out(2)] as const;

  /** A record at some place in the records, as after a call. The second output is small: in the bytes. */
  function record(at: number): Float64Array {
    const records = new Float64Array(Packet.length * 3);
    records.set([ParamKind.valueInout, 10, 20], at + Packet.params);
    records.set([ParamKind.temporaryOut, 0, 400, -1], at + Packet.params + Param.stride);
    records.set([ParamKind.temporaryOut, 0, 900, 3], at + Packet.params + 3 * Param.stride);
    return records;
  }
  const n = { bytes: Uint8Array.of(9, 9, 9, 5, 6, 9, 9) } as unknown as Native;

  test('what a call that succeeded brought back', () => {
    const outputs = [undefined, undefined, undefined, undefined, undefined, new Uint8Array([1, 2])];
    expect(unpack(n, record(24), 24, copyParams(params), outputs, 4)).toEqual([
      { a: 10, b: 20 },
      new Uint8Array([1, 2]),
      undefined,
      new Uint8Array([5, 6]),
    ]);
    expect(unpack(n, record(0), 0, [], undefined, 0)).toEqual([]);
  });

  test('the array that was passed stays as it is', () => {
    const given = [value.out(), undefined];
    const [first] = given;
    const copy = copyParams(given);
    unpack(n, new Float64Array(Packet.length), 0, copy, undefined, 0);
    expect(copy).not.toBe(given);
    expect(given).toEqual([first, undefined]);
    expect(given[0]).toBe(first);
  });

  test('what a call that failed brought back: the size that the TA asked for', () => {
    const data = new Uint8Array(4);
    expect(unpackFailed(n, record(0), 0, params, [undefined, data], 0)).toEqual([
      { a: 10, b: 20 },
      { size: 400, data },
      undefined,
      { size: 900, data: new Uint8Array([5, 6]) },
    ]);
  });
});
