import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { buffer, value } from 'node-optee';
import { parseNumber, parseParam } from '#lib/commands/params';

describe('parameters of the command line', () => {
  test.each([
    ['none', undefined],
    ['value-in:1', value.in(1)],
    ['value-in:0xffffffff,2', value.in(0xffffffff, 2)],
    ['value-inout:3,0x10', value.inout(3, 16)],
    ['value-out', value.out()],
    ['out:0x1000', buffer.out(4096)],
    ['in:text:a:b', buffer.in(Buffer.from('a:b'))],
    ['in:text:', buffer.in(Buffer.alloc(0))],
    ['inout:hex:00FF', buffer.inout(Buffer.from([0, 255]))],
    ['null-out', buffer.null('out')],
  ])('%s', (text, param) => {
    expect(parseParam(text)).toEqual(param);
  });

  test('a file', () => {
    const folder = mkdtempSync(join(tmpdir(), 'node-optee-'));
    try {
      const file = join(folder, 'x:y');
      writeFileSync(file, 'abc');
      expect(parseParam(`in:@${file}`)).toEqual(buffer.in(Buffer.from('abc')));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test.each([
    ['x', 'parameter x: there is no such kind of parameter'],
    ['value-in', "parameter value-in: '' is not a number like 42 or 0x2a"],
    ['value-in:1,2,3', "parameter value-in:1,2,3: '2,3' is not a number like 42 or 0x2a"],
    ['value-in:-1', "parameter value-in:-1: '-1' is not a number like 42 or 0x2a"],
    [
      'value-in:4294967296',
      'parameter value-in:4294967296: a must be a whole number from 0 to 4294967295, not 4294967296',
    ],
    ['value-out:1', "parameter value-out:1: nothing is expected after it, not '1'"],
    ['in:hello', 'parameter in:hello: the bytes must be text:…, hex:… (pairs of digits) or @FILE'],
    ['in:hex:abc', 'parameter in:hex:abc: the bytes must be text:…, hex:… (pairs of digits) or @FILE'],
  ])('%s is wrong', (text, message) => {
    expect(() => parseParam(text)).toThrow(message);
  });

  test('numbers', () => {
    expect(() => parseNumber('1e3')).toThrow("'1e3' is not a number");
    expect(parseNumber('007')).toBe(7);
  });
});
