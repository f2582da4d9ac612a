import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { Symbols, parseAddr2line, taPanicText } from '#lib/qemu/symbols';
import type { TaPanic } from '#lib/qemu/symbols';
import { MAX_FRAMES, TaPanicReader } from '#lib/qemu/ta-panic';
import type { LoggedPanic } from '#lib/qemu/ta-panic';
import { newFolder } from '../support/guest.js';

const UUID = '346e01a1-3d71-4feb-894b-ae252d064bde';

/** What is found in a log. */
function panicsOf(...lines: string[]): LoggedPanic[] {
  const found: LoggedPanic[] = [];
  const reader = new TaPanicReader((panic) => found.push(panic));
  for (const line of lines) reader.push(line);
  reader.end();
  return found;
}

const PANIC = 'E/TC:? 0 TA panicked with code 0xffff0006';
const FAULT = 'E/TC:? 0 User mode data-abort at address 0x80010fb0 (write permission fault)';
const STATUS = [
  `E/LD:  Status of TA ${UUID}`,
  'E/LD:   arch: aarch64',
  'E/LD:  region  0: va 0x80001000 pa 0x0e1fd000 size 0x002000 flags rw-s (ldelf)',
  'E/LD:  region  1: va 0x80011000 pa 0x0e235000 size 0x003000 flags rw-s (stack)',
  'E/LD:  region  2: va 0x80060000 pa 0x0e20d000 size 0x01c000 flags r-xs [0]',
  'E/LD:  region  3: va 0x8007c000 pa 0x0e229000 size 0x00c000 flags rw-s [0]',
  `E/LD:   [0] ${UUID} @ 0x80060000`,
];
const STACK = ['E/LD:  Call stack:', 'E/LD:   0x80061024', 'E/LD:   0x00000000'];
const DUMP = [...STATUS, ...STACK];

describe("OP-TEE's log", () => {
  test('a panic of a TA with a library, captured', () => {
    const path = join(__dirname, '../../../test/unit/fixtures/ta-panic.secure.log');
    const uuid = '5b9e0e40-2636-11e1-ad9e-0002a5d5c51b';
    expect(panicsOf(...readFileSync(path, 'utf8').split('\n'))).toEqual([
      {
        uuid,
        code: 0xbeef,
        reason: 'panic, code 0xbeef',
        stack: [
          { address: 0x40079088, uuid, offset: 0x2088 },
          { address: 0x401a5af8, uuid: 'ffd2bded-ab7d-4988-95ee-e4962fff7154', offset: 0xaaf8 },
          { address: 0x4007a4c8, uuid, offset: 0x34c8 },
        ],
        omitted: 0,
        isMixed: false,
      },
    ]);
  });

  test('a code with a name has it', () => {
    const [panic] = panicsOf(PANIC, ...DUMP);
    expect(panic).toMatchObject({
      code: 0xffff0006,
      reason: 'panic, code 0xffff0006 (TEE_ERROR_BAD_PARAMETERS)',
    });
    expect(panic.stack).toEqual([{ address: 0x80061020, uuid: UUID, offset: 0x1020 }, { address: 0 }]);
  });

  test('a fault has no code; one below the stack is an overflow', () => {
    const [overflow] = panicsOf(FAULT, 'E/TC:? 0  esr 0x9200004f  ttbr0 0x0', ...DUMP);
    expect(overflow.code).toBeUndefined();
    expect(overflow.reason).toBe(
      'data-abort at address 0x80010fb0 (write permission fault): overflow of the stack, which has 12288 bytes',
    );
    const elsewhere = FAULT.replace('80010fb0', '10');
    expect(panicsOf(elsewhere, ...DUMP)[0].reason).toBe(
      'data-abort at address 0x10 (write permission fault)',
    );
    const jump = 'E/TC:1 0 User mode prefetch-abort at address 0x0 (translation fault)';
    expect(panicsOf(jump, ...DUMP)[0].reason).toBe('prefetch-abort at address 0x0 (translation fault)');
    expect(panicsOf('E/TC:? 1 User mode undef-abort at address 0x80060000', ...DUMP)[0].reason).toBe(
      'undef-abort at address 0x80060000',
    );
  });

  test('other lines in between do not matter, nor that two wanted to write at once', () => {
    const lines = [PANIC, ...DUMP].flatMap((line) => ['M/TA: from another', `*${line}`, 'D/TC:? 1 whatever']);
    expect(panicsOf(...lines)).toHaveLength(1);
  });

  test('several, one after the other', () => {
    expect(panicsOf(PANIC, ...DUMP, FAULT, ...DUMP).map(({ code }) => code)).toEqual([0xffff0006, undefined]);
  });

  test('two at once are told without a call stack', () => {
    const lines = DUMP.flatMap((line, index) => (index < 3 ? [line] : [line, DUMP[index - 3]]));
    const mixed = panicsOf(PANIC, FAULT, ...lines, ...DUMP.slice(-3));
    expect(mixed.map(({ isMixed, stack }) => [isMixed, stack])).toEqual([
      [true, []],
      [true, []],
    ]);
  });

  test('a call stack is bounded', () => {
    const [panic] = panicsOf(PANIC, ...DUMP, ...Array<string>(5000).fill('E/LD:   0x80061024'));
    expect(panic.stack).toHaveLength(MAX_FRAMES);
    expect(panic.omitted).toBe(5002 - MAX_FRAMES);
  });

  test('nothing says that a stack is at its end: it is told after a while', async () => {
    const found: LoggedPanic[] = [];
    const reader = new TaPanicReader((panic) => found.push(panic));
    for (const line of [PANIC, ...DUMP]) reader.push(line);
    expect(found).toHaveLength(0);
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    expect(found).toHaveLength(1);
  });

  test.each<[string, string[]]>([
    ['the line of a panic alone', [PANIC]],
    ['a state without a cause', DUMP],
    ["a TA's own lines", [PANIC, ...DUMP].map((line) => line.replace(/^E\/../, 'E/TA'))],
    ['the cause by a TA', [PANIC.replace('TC:? 0', 'TA: '), ...DUMP]],
    ['the cause within a line', [`M/TA: ${PANIC}`, ...DUMP]],
    ['more after the code', [`${PANIC} or not`, ...DUMP]],
    ['a state by a TA', [PANIC, ...DUMP.map((line) => line.replace('E/LD', 'M/TA'))]],
    ['no stack', [PANIC, ...STATUS]],
    ['an empty stack', [PANIC, ...STATUS, STACK[0]]],
    ['no ELF', [PANIC, ...STATUS.slice(0, -1), ...STACK]],
    [
      'another ELF',
      [PANIC, ...DUMP.map((line) => line.replace(`[0] ${UUID}`, `[0] ${UUID.replace('3', '4')}`))],
    ],
    ['a UUID that is none', [PANIC, ...DUMP.map((line) => line.replaceAll(UUID, 'nobody'))]],
  ])('is not taken for one: %s', (_, lines) => {
    expect(panicsOf(...lines)).toEqual([]);
  });
});

describe('functions, files and lines', () => {
  test("addr2line's answers: inlined functions, unknown places, C++, OP-TEE's own files", () => {
    const text = [
      '0x0000000000001024',
      'inner',
      '/home/a/ta/./a.c:12 (discriminator 3)',
      'outer',
      '/home/a/ta/a.c:20',
      '0x0000000000000010',
      '??',
      '??:0',
      '0x0000000000000020',
      'ns::f(int)',
      '/home/a/ta/b.cpp:?',
      '0x0000000000000030',
      'memcpy',
      '/home/a/.cache/node-optee/work/optee-dynamic-12-ab/optee-os/lib/libutils/memcpy.c:111',
      '0x0000000000000040',
      'bad\x1b[31m',
      `/${'x'.repeat(1000)}:1`,
      '',
    ].join('\n');
    const places = parseAddr2line(text);
    expect(places.get(0x1024)).toEqual([
      { function: 'inner', file: '/home/a/ta/a.c', line: 12 },
      { function: 'outer', file: '/home/a/ta/a.c', line: 20 },
    ]);
    expect(places.get(0x10)).toEqual([{ function: undefined, file: undefined, line: undefined }]);
    expect(places.get(0x20)).toEqual([{ function: 'ns::f(int)', file: '/home/a/ta/b.cpp', line: undefined }]);
    expect(places.get(0x30)).toEqual([
      { function: 'memcpy', file: 'optee-os/lib/libutils/memcpy.c', line: 111 },
    ]);
    const [long] = places.get(0x40) ?? [];
    expect(long?.function).toBe('bad\\x1b[31m');
    expect(long?.file).toHaveLength(300);
  });

  const [panic] = panicsOf(PANIC, ...DUMP);
  const { PATH } = process.env;
  afterEach(() => {
    process.env.PATH = PATH;
  });

  /** A program in the place of the real one. */
  function addr2line(script: string): void {
    const folder = join(newFolder(), 'bin');
    mkdirSync(folder);
    const program = join(folder, 'aarch64-linux-gnu-addr2line');
    writeFileSync(program, `#!/bin/sh\n${script}\n`);
    chmodSync(program, 0o755);
    process.env.PATH = `${folder}:${PATH}`;
  }

  test('without an ELF: addresses and offsets, and a sentence', async () => {
    const { stack, note } = await new Symbols([newFolder()]).resolve(panic);
    expect(stack[0]).toEqual({
      function: undefined,
      file: undefined,
      line: undefined,
      address: 0x80061020,
      uuid: UUID,
      offset: 0x1020,
    });
    expect(note).toBe(`There is no ${UUID}.elf beside the .ta, so of ${UUID} there are addresses only.`);
  });

  test('without addr2line, and with one that fails', async () => {
    const folder = newFolder();
    writeFileSync(join(folder, `${UUID}.elf`), 'no ELF');
    process.env.PATH = newFolder();
    const without = await new Symbols([folder]).resolve(panic);
    expect(without.note).toMatch(
      /^aarch64-linux-gnu-addr2line .* is not on this host, so there are addresses only\.$/,
    );
    expect(without.stack).toHaveLength(2);
    addr2line('echo "not \x1b[1man ELF" >&2; exit 1');
    const failed = await new Symbols([folder]).resolve(panic);
    expect(failed.note).toBe(`The lines of ${join(folder, UUID)}.elf could not be read: not \\x1b[1man ELF`);
  });

  test('each place is looked up once, until the ELF is another one', async () => {
    const folder = newFolder();
    const [elf, calls] = [join(folder, `${UUID}.elf`), join(folder, 'calls')];
    writeFileSync(elf, '1');
    addr2line(`echo x >> '${calls}'; printf '0x%016x\\nf\\n/a.c:7\\n' 0x1020`);
    const symbols = new Symbols([newFolder(), folder]);
    for (let i = 0; i < 3; i++) {
      const { stack, note } = await symbols.resolve(panic);
      expect(stack[0]).toMatchObject({ function: 'f', file: '/a.c', line: 7 });
      expect(note).toBeUndefined();
    }
    expect(readFileSync(calls, 'utf8')).toBe('x\n');
    writeFileSync(elf, 'another');
    await symbols.resolve(panic);
    expect(readFileSync(calls, 'utf8')).toBe('x\nx\n');
  });

  test('the text for people', () => {
    const place = { address: 0x80061024, uuid: UUID, offset: 0x1024 };
    const known = { ...place, function: 'deeper', file: join(process.cwd(), 'ta/a.c'), line: 7 };
    const unknown = { function: undefined, file: undefined, line: undefined };
    const told: TaPanic = {
      uuid: UUID,
      code: 1,
      reason: 'panic, code 0x1',
      stack: [
        known,
        known,
        { ...known, file: 'optee-os/lib/b.c' },
        { ...known, file: undefined },
        { ...place, ...unknown },
        { ...unknown, address: 16, uuid: undefined, offset: undefined },
      ],
      omitted: 3,
      note: 'Something.',
    };
    expect(taPanicText(told).split('\n')).toEqual([
      `TA ${UUID}: panic, code 0x1`,
      '    at deeper (ta/a.c:7), 2 times',
      '    at deeper (optee-os/lib/b.c:7)',
      `    at deeper (0x80061024, ${UUID}+0x1024)`,
      `    at 0x80061024, ${UUID}+0x1024`,
      '    at 0x10',
      '    and 3 more',
      '  Something.',
    ]);
  });
});
