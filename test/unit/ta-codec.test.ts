import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { codecOf } from '#lib/ta/codec';
import { alignmentOf, layOut, sizeOf, type FieldType, type StructLayout } from '#lib/ta/layout';
import { decodeText, encodeText } from '#lib/ta/text';

const types: fc.Arbitrary<FieldType> = fc.letrec<{ type: FieldType; struct: StructLayout }>((tie) => ({
  type: fc.oneof(
    { maxDepth: 3 },
    fc.constantFrom('u8', 'u16', 'u32', 'u64', 'bool').map((kind): FieldType => ({ kind })),
    fc.constant<FieldType>({
      kind: 'enumeration',
      members: [
        { name: 'OFF', value: 0 },
        { name: 'ON', value: 0xffffffff },
      ],
    }),
    fc.integer({ min: 1, max: 9 }).map((length): FieldType => ({ kind: 'octets', length })),
    fc
      .tuple(tie('type'), fc.integer({ min: 1, max: 3 }))
      .map(([element, length]): FieldType => ({ kind: 'array', element, length })),
    tie('struct').map((struct): FieldType => ({ kind: 'struct', struct })),
  ),
  struct: fc.array(tie('type'), { minLength: 1, maxLength: 5 }).map((fields) =>
    layOut(
      'inner',
      fields.map((type, i) => [`field${i}`, type]),
    ),
  ),
})).type;

const structs = fc.array(types, { minLength: 1, maxLength: 6 }).map((fields) =>
  layOut(
    'outer',
    fields.map((type, i) => [`field${i}`, type]),
  ),
);

/** Values that a type can have. */
function valuesOf(type: FieldType): fc.Arbitrary<unknown> {
  switch (type.kind) {
    case 'u8':
      return fc.nat(0xff);
    case 'u16':
      return fc.nat(0xffff);
    case 'u32':
      return fc.nat(0xffffffff);
    case 'u64':
      return fc.bigInt(0n, 2n ** 64n - 1n);
    case 'bool':
      return fc.boolean();
    case 'enumeration':
      return fc.constantFrom(...type.members.map(({ name }) => name));
    case 'octets':
      return fc.uint8Array({ minLength: type.length, maxLength: type.length });
    case 'array':
      return fc.array(valuesOf(type.element), { minLength: type.length, maxLength: type.length });
    case 'struct':
      return fc.record(
        Object.fromEntries(type.struct.fields.map((field) => [field.name, valuesOf(field.type)])),
      );
  }
}

const structsWithValues = structs.chain((layout) =>
  fc.tuple(fc.constant(layout), valuesOf({ kind: 'struct', struct: layout })),
);

describe('the layout', () => {
  test('of all types beside each other', () => {
    const inner = layOut('inner', [
      ['a', { kind: 'u16' }],
      ['b', { kind: 'u8' }],
    ]);
    const layout = layOut('config', [
      ['level', { kind: 'u8' }],
      ['mode', { kind: 'enumeration', members: [{ name: 'OFF', value: 0 }] }],
      ['on', { kind: 'bool' }],
      ['limit', { kind: 'u64' }],
      ['name', { kind: 'octets', length: 3 }],
      ['list', { kind: 'array', element: { kind: 'struct', struct: inner }, length: 2 }],
      ['lastOne', { kind: 'u8' }],
    ]);
    expect(inner).toMatchObject({ size: 4, alignment: 2 });
    expect(layout.fields.map(({ name, offset, size, padding }) => [name, offset, size, padding])).toEqual([
      ['level', 0, 1, 3],
      ['mode', 4, 4, 0],
      ['on', 8, 1, 7],
      ['limit', 16, 8, 0],
      ['name', 24, 3, 1],
      ['list', 28, 8, 0],
      ['lastOne', 36, 1, 3],
    ]);
    expect(layout).toMatchObject({ size: 40, alignment: 8 });
    expect(layout.fields[6]).toMatchObject({ cName: 'last_one', alignment: 1 });
  });

  test('is that of C: fields aligned, as close as that allows, the whole a multiple', () => {
    fc.assert(
      fc.property(structs, (layout) => {
        let end = 0;
        for (const { type, offset, size, alignment, padding } of layout.fields) {
          expect([size, alignment]).toEqual([sizeOf(type), alignmentOf(type)]);
          expect(offset).toBe(Math.ceil(end / alignment) * alignment);
          end = offset + size;
          expect(padding).toBeLessThan(layout.alignment);
          expect(padding).toBeGreaterThanOrEqual(0);
        }
        const most = Math.max(...layout.fields.map(({ alignment }) => alignment));
        expect(layout.alignment).toBe(most);
        expect(layout.size).toBe(Math.ceil(end / most) * most);
        const all = layout.fields.reduce((sum, { size, padding }) => sum + size + padding, 0);
        expect(all).toBe(layout.size);
      }),
    );
  });
});

describe('structs', () => {
  test('what went in comes out, whatever it was', () => {
    fc.assert(
      fc.property(structsWithValues, ([layout, value]) => {
        const { encode, decode } = codecOf(layout);
        const bytes = encode(value, 'a');
        expect(bytes).toHaveLength(layout.size);
        // Somewhere in a larger piece of memory.
        const elsewhere = new Uint8Array(layout.size + 7).fill(0xee);
        elsewhere.set(bytes, 3);
        expect(decode(elsewhere.subarray(3, 3 + layout.size), 'a')).toEqual(value);
      }),
    );
  });

  test('padding is zero, and what is in it coming back is ignored', () => {
    const layout = layOut('x', [
      ['a', { kind: 'u8' }],
      ['b', { kind: 'u32' }],
    ]);
    const { encode, decode } = codecOf(layout);
    const bytes = encode({ a: 0xff, b: 0x01020304 }, 'x');
    expect([...bytes]).toEqual([0xff, 0, 0, 0, 4, 3, 2, 1]);
    bytes.fill(9, 1, 4);
    expect(decode(bytes, 'x')).toEqual({ a: 0xff, b: 0x01020304 });
  });

  test('octets that come out are a copy', () => {
    const layout = layOut('x', [['a', { kind: 'octets', length: 2 }]]);
    const bytes = Uint8Array.of(1, 2);
    const { a } = codecOf(layout).decode(bytes, 'x') as { a: Uint8Array };
    bytes[0] = 7;
    expect([...a]).toEqual([1, 2]);
    expect(a.buffer.byteLength).toBe(2);
  });

  const point = layOut('point', [['x', { kind: 'u16' }]]);
  const layout = layOut('all', [
    ['level', { kind: 'u8' }],
    ['on', { kind: 'bool' }],
    ['mode', { kind: 'enumeration', members: [{ name: 'OFF', value: 4 }] }],
    ['limit', { kind: 'u64' }],
    ['name', { kind: 'octets', length: 2 }],
    ['path', { kind: 'array', element: { kind: 'struct', struct: point }, length: 2 }],
  ]);
  const good = {
    level: 1,
    on: true,
    mode: 'OFF',
    limit: 1n,
    name: new Uint8Array(2),
    path: [{ x: 1 }, { x: 2 }],
  };
  const { encode, decode } = codecOf(layout);

  test.each<[change: object | number | null, code: string, message: RegExp]>([
    [5, 'TYPE', /^c\.all must be an object \(struct all\), not number 5/],
    [null, 'TYPE', /^c\.all must be an object/],
    [{ level: undefined }, 'TYPE', /^c\.all\.level must be a number, not undefined/],
    [{ level: 256 }, 'RANGE', /^c\.all\.level must be a whole number from 0 to 255/],
    [{ level: 1.5 }, 'RANGE', /^c\.all\.level/],
    [{ on: 1 }, 'TYPE', /^c\.all\.on must be a boolean/],
    [{ mode: 4 }, 'TYPE', /^c\.all\.mode must be one of 'OFF'/],
    [{ mode: 'ON' }, 'VALUE', /^c\.all\.mode must be one of 'OFF'; got string 'ON'/],
    [{ limit: 1 }, 'TYPE', /^c\.all\.limit must be a bigint/],
    [{ limit: 2n ** 64n }, 'RANGE', /^c\.all\.limit/],
    [{ limit: -1n }, 'RANGE', /^c\.all\.limit/],
    [{ name: 'ab' }, 'TYPE', /^c\.all\.name must be a Uint8Array/],
    [{ name: new Uint8Array(3) }, 'RANGE', /^c\.all\.name must be 2 bytes long, not 3/],
    [{ path: 1 }, 'TYPE', /^c\.all\.path must be an array of 2/],
    [{ path: [] }, 'RANGE', /^c\.all\.path\.length must be 2, not 0/],
    [{ path: [{ x: 1 }, { x: 'y' }] }, 'TYPE', /^c\.all\.path\[1\]\.x must be a number/],
    [{ more: 1 }, 'VALUE', /^c\.all has no more; there are level, on, mode, limit, name, path/],
  ])('%j is refused', (change, code, message) => {
    const wrong: unknown = typeof change === 'object' && change !== null ? { ...good, ...change } : change;
    const codes: Record<string, string> = {
      TYPE: 'ERR_INVALID_ARG_TYPE',
      RANGE: 'ERR_OUT_OF_RANGE',
      VALUE: 'ERR_INVALID_ARG_VALUE',
    };
    expect(() => encode(wrong, 'c.all')).toThrow(
      expect.objectContaining({ code: codes[code], message: expect.stringMatching(message) }),
    );
  });

  test('what no description has is no result', () => {
    const bytes = encode(good, 'c.all');
    const wrong = (at: number, byte: number): Uint8Array => {
      const copy = bytes.slice();
      copy[at] = byte;
      return copy;
    };
    expect(decode(bytes, 'c.all')).toEqual(good);
    expect(() => decode(wrong(1, 2), 'notary.c.all')).toThrow(
      expect.objectContaining({
        code: 'ERR_TEE_BAD_OUTPUT',
        message: expect.stringMatching(/^notary\.c\.all\.on is 2/),
      }),
    );
    expect(() => decode(wrong(4, 5), 'notary.c.all')).toThrow(
      expect.objectContaining({
        code: 'ERR_TEE_BAD_OUTPUT',
        message: expect.stringMatching(/^notary\.c\.all\.mode is 5/),
      }),
    );
  });
});

describe('texts', () => {
  test('any well-formed text without a NUL goes in and comes out', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 20 }), (text) => {
        fc.pre(!text.includes('\0'));
        expect(decodeText(encodeText(text, 80, 'a'), 'a')).toBe(text);
      }),
    );
    expect(decodeText(encodeText('\ufeffx', 80, 'a'), 'a')).toBe('\ufeffx');
  });

  test('the limit counts bytes', () => {
    expect(encodeText('äöü', 6, 'a')).toHaveLength(6);
    expect(() => encodeText('äöü', 5, 'r.name')).toThrow(
      expect.objectContaining({
        code: 'ERR_OUT_OF_RANGE',
        message: 'r.name must be at most 5 bytes of UTF-8, not 6',
      }),
    );
    expect(() => encodeText('x'.repeat(9), 5, 'a')).toThrow(
      expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }),
    );
  });

  test('no text, a NUL, half a pair', () => {
    expect(() => encodeText(5, 5, 'a')).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }));
    for (const wrong of ['a\0b', '\ud800', 'a\udc00\ud800']) {
      expect(() => encodeText(wrong, 9, 'a')).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }),
      );
    }
    for (const wrong of [[0xff], [0x61, 0], [0xed, 0xa0, 0x80], [0xc3]]) {
      expect(() => decodeText(Uint8Array.from(wrong), 'n.a')).toThrow(
        expect.objectContaining({ code: 'ERR_TEE_BAD_OUTPUT' }),
      );
    }
  });
});
