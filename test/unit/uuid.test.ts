import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { formatUuid, parseUuid } from '#lib/client/uuid';

const bytes16 = fc.uint8Array({ minLength: 16, maxLength: 16 });

describe('UUIDs', () => {
  test('any 16 bytes go there and back', () => {
    fc.assert(
      fc.property(bytes16, (bytes) => {
        expect(parseUuid(formatUuid(bytes))).toEqual(bytes);
        expect(parseUuid(bytes)).toEqual(bytes);
      }),
    );
  });

  test('letter case and dashes do not matter', () => {
    fc.assert(
      fc.property(bytes16, (bytes) => {
        const text = formatUuid(bytes);
        expect(parseUuid(text.toUpperCase())).toEqual(bytes);
        expect(parseUuid(text.replaceAll('-', ''))).toEqual(bytes);
      }),
    );
  });

  test('the bytes are in the order of the text', () => {
    const bytes = parseUuid('8aaaf200-2450-11e4-abe2-0002a5d5c51b');
    expect(Buffer.from(bytes).toString('hex')).toBe('8aaaf200245011e4abe20002a5d5c51b');
    expect(formatUuid(bytes)).toBe('8aaaf200-2450-11e4-abe2-0002a5d5c51b');
  });

  test('the bytes are a copy, and a part of a larger buffer will do', () => {
    const large = Buffer.alloc(32, 7);
    const bytes = parseUuid(large.subarray(3, 19));
    large.fill(0);
    expect(formatUuid(bytes)).toBe('07070707-0707-0707-0707-070707070707');
  });

  test('how many bytes there are is not what a class of the caller says', () => {
    class Odd extends Uint8Array {
      override get length(): number {
        return 16;
      }
    }
    expect(() => parseUuid(new Odd(3))).toThrow('must have 16 bytes, not 3');
  });

  test.each([
    '',
    '8aaaf200',
    '8aaaf200-2450-11e4-abe2-0002a5d5c51',
    'g'.repeat(32),
    '{8aaaf200-2450-11e4-abe2-0002a5d5c51b}',
  ])('text that is none: %j', (text) => {
    expect(() => parseUuid(text)).toThrow(
      expect.objectContaining({
        code: 'ERR_INVALID_ARG_VALUE',
        message: expect.stringMatching(/^uuid must be 32 hexadecimal digits/),
      }),
    );
  });

  test('other things', () => {
    expect(() => parseUuid(5 as never)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }));
    expect(() => parseUuid(new Uint8Array(15), 'ta')).toThrow('ta must have 16 bytes, not 15');
  });
});
