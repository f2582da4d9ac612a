import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { Log } from '#lib/qemu/log';
import { isPowerOff, panicOfLine, panicOfLog } from '#lib/qemu/panic';
import type { LogName } from '#lib/qemu/panic';

/** Captured from guests; each is one serial port's whole log. */
const fixture = (name: string) => readFileSync(join(__dirname, '../../../test/unit/fixtures', name), 'utf8');

describe('captured logs', () => {
  test('a kernel panic', () => {
    expect(panicOfLog('kernel', fixture('kernel-panic.kernel.log'))).toEqual({
      world: 'kernel',
      text: 'Kernel panic - not syncing: sysrq triggered crash',
    });
  });

  test("OP-TEE's own panic", () => {
    expect(panicOfLog('secure', fixture('optee-panic.secure.log'))).toEqual({
      world: 'optee',
      text: "Panic 'Invalid embedded DTB' at core/kernel/dt.c:728 <get_embedded_dt>",
    });
  });

  test("a TA's panic is none", () => {
    expect(fixture('ta-panic.secure.log')).toContain('TA panicked');
    expect(panicOfLog('secure', fixture('ta-panic.secure.log'))).toBeUndefined();
  });

  test("the firmware's at a normal power-off is told apart", () => {
    expect(panicOfLog('secure', fixture('power-off.secure.log'))).toEqual({
      world: 'firmware',
      text: 'PANIC at PC : 0x000000000e095b04',
    });
    const kernel = fixture('power-off.kernel.log');
    expect(panicOfLog('kernel', kernel)).toBeUndefined();
    expect(kernel.split('\n').filter((line) => isPowerOff('kernel', line.trimEnd()))).toHaveLength(1);
  });
});

describe('lines', () => {
  test.each<[LogName, string, string]>([
    ['kernel', '[    2.345678] Kernel panic - not syncing: VFS: Unable to mount root fs', 'kernel'],
    ['kernel', '[   12.345678][  T123] Kernel panic - not syncing: Attempted to kill init!', 'kernel'],
    [
      'kernel',
      'half a line of a command[12345.678901] Kernel panic - not syncing: Oops: Fatal exception',
      'kernel',
    ],
    [
      'secure',
      "E/TC:0 0 Panic 'unhandled pageable abort' at core/arch/arm/kernel/abort.c:584 <abort_handler>",
      'optee',
    ],
    ['secure', 'E/TC:? 0 Panic at core/mm/mobj.c:12 <mobj_put>', 'optee'],
    ['secure', 'E/TC:1 Panic', 'optee'],
    ['secure', 'PANIC at PC : 0x000000000e0a1234', 'firmware'],
    ['secure', 'Unhandled Exception in EL3.', 'firmware'],
  ])('%s: %s', (log, line, world) => {
    expect(panicOfLine(log, line)?.world).toBe(world);
  });

  test.each<[LogName, string]>([
    ['kernel', 'Kernel panic - not syncing: said a program'],
    ['kernel', '[    1.000000] systemd: watching for Kernel panic'],
    ['kernel', "E/TC:0 0 Panic 'in the other log' at a.c:1 <b>"],
    ['secure', 'E/TC:? 0 TA panicked with code 0xffff000f'],
    ['secure', 'E/TA:  check:12 Panic'],
    ['secure', 'I/TC: Panic'],
    ['secure', 'E/LD:  Status of TA 5b9e0e40-2636-11e1-ad9e-0002a5d5c51b'],
    ['secure', '[    1.000000] Kernel panic - not syncing: in the other log'],
    ['secure', ''],
  ])('%s: %s is none', (log, line) => {
    expect(panicOfLine(log, line)).toBeUndefined();
  });
});

describe('a log in pieces', () => {
  test('gives whole lines, and the last one at its end', () => {
    const lines: string[] = [];
    const log = new Log((line) => lines.push(line));
    for (const piece of ['I/TC: a\r', '\nI/T', 'C: b\r\r\n\n', 'c']) log.push(Buffer.from(piece));
    expect(lines).toEqual(['I/TC: a', 'I/TC: b', '']);
    expect(log.text).toBe('I/TC: a\nI/TC: b\n\nc');
    log.end();
    log.end();
    expect(lines).toEqual(['I/TC: a', 'I/TC: b', '', 'c']);
    expect(log.text).toBe('I/TC: a\nI/TC: b\n\nc\n');
  });

  test('a character in two pieces is one', () => {
    const log = new Log();
    const bytes = Buffer.from('ü\n');
    log.push(bytes.subarray(0, 1));
    log.push(bytes.subarray(1));
    expect(log.text).toBe('ü\n');
  });

  test('carriage returns without a line feed cost no time, and lines are bounded', () => {
    const lines: string[] = [];
    const log = new Log((line) => lines.push(line));
    const start = Date.now();
    // As a serial port brings them: little by little.
    for (let i = 0; i < 12_500; i++) log.push(Buffer.alloc(16, '\r'));
    log.push(Buffer.from('x\n'));
    expect(Date.now() - start).toBeLessThan(5_000);
    log.push(Buffer.alloc(50_000, 'a'));
    log.end();
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(4 * 16 * 1024);
    expect(lines.slice(-4).map((line) => line.length)).toEqual([16384, 16384, 16384, 848]);
  });

  test('control characters are written out', () => {
    const lines: string[] = [];
    const log = new Log((line) => lines.push(line));
    log.push(Buffer.from('\x1b]0;title\x07\tred \x1b[31m \x9b1m \rover \u202e\x7f\r\r\npart \x1b'));
    expect(lines).toEqual(['\\x1b]0;title\\x07\tred \\x1b[31m \\x9b1m \\x0dover \\u202e\\x7f']);
    expect(log.text).toBe(`${lines[0]}\npart \\x1b`);
  });

  test('keeps its end when it grows without bound', () => {
    const log = new Log();
    const line = Buffer.from(`${'x'.repeat(1023)}\n`.repeat(1024));
    for (let i = 0; i < 20; i++) log.push(line);
    log.push(Buffer.from('the end\n'));
    expect(log.text.length).toBeLessThan(9 * 1024 * 1024);
    expect(log.text.endsWith('x\nthe end\n')).toBe(true);
  });
});
