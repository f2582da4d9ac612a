import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  checkBytes,
  checkFd,
  checkInteger,
  checkKnown,
  checkRange,
  checkSignal,
  checkU32,
} from '#lib/client/validate';

function codeOf(run: () => unknown): string | undefined {
  try {
    run();
    return undefined;
  } catch (error) {
    return (error as { code?: string }).code;
  }
}

describe('numbers', () => {
  test('u32', () => {
    fc.assert(
      fc.property(fc.oneof(fc.double(), fc.integer(), fc.maxSafeInteger()), (value) => {
        const good = Number.isInteger(value) && value >= 0 && value <= 0xffffffff;
        expect(codeOf(() => checkU32(value, 'a'))).toBe(good ? undefined : 'ERR_OUT_OF_RANGE');
      }),
    );
    expect(checkU32(0xffffffff, 'a')).toBe(0xffffffff);
    expect(() => checkU32('1', 'a')).toThrow("a must be a number, not string '1'");
    expect(() => checkU32(1n, 'a')).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }));
    expect(() => checkU32(-1, 'a')).toThrow('a must be a whole number from 0 to 4294967295, not -1');
  });

  test('descriptors: 0 is one', () => {
    expect(checkFd(0, 'fd')).toBe(0);
    expect(codeOf(() => checkFd(-1, 'fd'))).toBe('ERR_OUT_OF_RANGE');
    expect(codeOf(() => checkFd(2 ** 31, 'fd'))).toBe('ERR_OUT_OF_RANGE');
    expect(codeOf(() => checkInteger(NaN, 'x', 0, 1))).toBe('ERR_OUT_OF_RANGE');
  });
});

test('ranges never reach beyond their memory', () => {
  const number = fc.oneof(
    fc.nat(5000),
    fc.integer(),
    fc.constantFrom(Number.MAX_SAFE_INTEGER, 2 ** 63, 2 ** 64, -0, Infinity, NaN, 0.5),
  );
  fc.assert(
    fc.property(number, fc.option(number, { nil: undefined }), fc.nat(4096), (offset, length, size) => {
      let count: number;
      try {
        count = checkRange(offset, length, size, 'offset', 'length');
      } catch (error) {
        expect(error).toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
        const fits =
          Number.isInteger(offset) &&
          offset >= 0 &&
          offset <= size &&
          (length === undefined || (Number.isInteger(length) && length >= 0 && offset + length <= size));
        expect(fits).toBe(false);
        return;
      }
      expect(offset + count).toBeLessThanOrEqual(size);
      if (length === undefined) expect(offset + count).toBe(size);
      else expect(count).toBe(length);
    }),
  );
});

test('bytes', () => {
  expect(checkBytes(Buffer.alloc(1), 'x')).toHaveLength(1);
  for (const value of [
    new ArrayBuffer(1),
    new DataView(new ArrayBuffer(1)),
    new Int8Array(1),
    [1],
    'x',
    null,
  ]) {
    expect(codeOf(() => checkBytes(value, 'x'))).toBe('ERR_INVALID_ARG_TYPE');
  }
});

test('signals', () => {
  const { signal } = new AbortController();
  expect(checkSignal(signal, 's')).toBe(signal);
  for (const value of [null, {}, { aborted: true }, 'x']) {
    expect(codeOf(() => checkSignal(value, 's'))).toBe('ERR_INVALID_ARG_TYPE');
  }
});

test('an option that is not known is refused, whatever its value', () => {
  expect(codeOf(() => checkKnown(undefined, 'options', []))).toBeUndefined();
  expect(codeOf(() => checkKnown({ a: 1 }, 'options', ['a', 'b']))).toBeUndefined();
  expect(codeOf(() => checkKnown([], 'options', ['a']))).toBe('ERR_INVALID_ARG_TYPE');
  expect(codeOf(() => checkKnown(null, 'options', ['a']))).toBe('ERR_INVALID_ARG_TYPE');
  expect(() => checkKnown({ a: 1, c: undefined }, 'options', ['a', 'b'])).toThrow(
    expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE', message: 'options has no c; there are a, b' }),
  );
});
