import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildTa } from '#lib/qemu/build/ta';
import { BuildError } from '#lib/qemu/build/command';
import * as constants from '../support/test-ta';

const UUID = '00112233-4455-6677-8899-aabbccddeeff';
let folder: string;
let devKit: string;

/** A TA's folder with a Makefile of these lines. */
function taFolder(name: string, ...makefile: string[]): string {
  const dir = join(folder, name);
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, 'Makefile'), makefile.join('\n') + '\n');
  return dir;
}

async function failure(promise: Promise<unknown>): Promise<BuildError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toMatchObject({ name: 'BuildError', code: 'ERR_QEMU_BUILD' });
  return error as BuildError;
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'node-optee-ta-'));
  // Just rules enough to run the compiler: the real kit builds test/ta in the guest's tests.
  devKit = join(folder, 'kit');
  mkdirSync(join(devKit, 'mk'), { recursive: true });
  const rules = [
    'all: $(O)/ta.o',
    '\tcp $(O)/ta.o $(O)/$(BINARY).ta',
    '$(O)/ta.o: ta.c',
    '\t$(CROSS_COMPILE)gcc -c -o $@ ta.c',
  ];
  writeFileSync(join(devKit, 'mk', 'ta_dev_kit.mk'), rules.join('\n') + '\n');
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('buildTa', () => {
  const include = 'include $(TA_DEV_KIT_DIR)/mk/ta_dev_kit.mk';

  test('builds into the build folder and returns the path', async () => {
    const dir = taFolder('good', `BINARY = ${UUID}`, include);
    writeFileSync(join(dir, 'ta.c'), 'int answer = 42;\n');
    expect(await buildTa({ dir, devKit })).toEqual([join(dir, 'build', `${UUID}.ta`)]);
    const elf = readFileSync(join(dir, 'build', `${UUID}.ta`));
    expect(elf.subarray(1, 4).toString()).toBe('ELF');
    expect(elf.readUInt16LE(18)).toBe(183); // EM_AARCH64
    expect(readFileSync(join(dir, 'build', 'build.log'), 'utf8')).toContain('aarch64-linux-gnu-gcc -c');

    const out = join(folder, 'elsewhere');
    expect(await buildTa({ dir, devKit, out })).toEqual([join(out, `${UUID}.ta`)]);
  });

  test('logLevel is told to make', async () => {
    const dir = taFolder('level', `BINARY = ${UUID}`, '$(info level $(CFG_TEE_TA_LOG_LEVEL).)', include);
    writeFileSync(join(dir, 'ta.c'), 'int answer = 42;\n');
    const log = join(dir, 'build', 'build.log');
    for (const [logLevel, said] of [
      [undefined, 'level .'],
      [0, 'level 0.'],
      [4, 'level 4.'],
    ] as const) {
      await buildTa({ dir, devKit, ...(logLevel === undefined ? {} : { logLevel }) });
      expect(readFileSync(log, 'utf8')).toContain(said);
    }
  });

  test('a compile error shows the last lines and names the log', async () => {
    const dir = taFolder('broken', `BINARY = ${UUID}`, include);
    writeFileSync(join(dir, 'ta.c'), 'int answer = forty_two;\n');
    const { message } = await failure(buildTa({ dir, devKit }));
    expect(message).toMatch(/^make exited with 2:\n/);
    expect(message).toContain('ta.c:1:14: error');
    expect(message).toContain('forty_two');
    const log = /The whole log: (.*)$/.exec(message)?.[1];
    expect(log).toBe(join(dir, 'build', 'build.log'));
    expect(readFileSync(log as string, 'utf8')).toContain('forty_two');
  });

  test('folders that are not right', async () => {
    const nowhere = join(folder, 'nowhere');
    expect((await failure(buildTa({ dir: nowhere, devKit }))).message).toBe(
      `The TA's folder ${nowhere} does not exist`,
    );

    const project = join(folder, 'project');
    mkdirSync(project);
    expect((await failure(buildTa({ dir: project, devKit }))).message).toBe(
      `The TA's folder ${project} has no Makefile`,
    );
    const inner = taFolder('project/ta', include);
    expect((await failure(buildTa({ dir: project, devKit }))).message).toMatch(
      `no Makefile; is it ${inner}?`,
    );

    expect((await failure(buildTa({ dir: inner, devKit: nowhere }))).message).toBe(
      `${nowhere} is no TA development kit of OP-TEE: it has no mk/ta_dev_kit.mk`,
    );
  });

  test.each([' ', '#', "'", ';', '%', '$', ':', '"', '(', '*', '\\', '&', '=', '~'])(
    'a path with %s is refused in one sentence before anything is done',
    async (character) => {
      const odd = taFolder(`a${character}b`, `BINARY = ${UUID}`, include);
      writeFileSync(join(odd, 'ta.c'), 'int answer = 42;\n');
      const dir = join(folder, 'good');
      const refusal = { code: 'ERR_INVALID_ARG_VALUE' };
      await expect(buildTa({ dir: odd, devKit })).rejects.toMatchObject(refusal);
      const out = join(folder, `out${character}`);
      await expect(buildTa({ dir, devKit, out })).rejects.toMatchObject({
        ...refusal,
        message: expect.stringMatching(/^out must have letters, digits and/),
      });
      await expect(buildTa({ dir, devKit: odd })).rejects.toMatchObject(refusal);
      expect(existsSync(join(odd, 'build'))).toBe(false);
      expect(existsSync(out)).toBe(false);
    },
  );

  test.each<[Record<string, unknown>, string]>([
    [{ devKit: '/kit' }, 'dir must be a string, not undefined'],
    [{ dir: '/ta' }, 'devKit must be a string, not undefined'],
    [{ dir: '/ta', devKit: '/kit', out: true }, 'out must be a string, not boolean true'],
    [{ dir: '/ta', devKit: '/kit', log: 'log' }, "log must be a BuildLog, not string 'log'"],
    [
      { dir: '/ta', devKit: '/kit', outDir: '/out' },
      'options has no outDir; there are dir, devKit, out, logLevel',
    ],
    [{ dir: '/ta', devKit: '/kit', logLevel: '2' }, "logLevel must be a number, not string '2'"],
    [{ dir: '/ta', devKit: '/kit', logLevel: 5 }, 'logLevel must be a whole number from 0 to 4'],
    [{ dir: '/ta', devKit: '/kit', logLevel: 1.5 }, 'logLevel must be a whole number from 0 to 4'],
  ])('%j: the option is named', async (options, message) => {
    await expect(buildTa(options as never)).rejects.toThrow(message);
  });

  test('an output folder that cannot be made', async () => {
    const dir = taFolder('nowhere-to-go', `BINARY = ${UUID}`, include);
    writeFileSync(join(folder, 'file'), '');
    const out = join(folder, 'file/out');
    expect((await failure(buildTa({ dir, devKit, out }))).message).toMatch(
      `${out} cannot be made: ENOTDIR: not a directory`,
    );
  });

  test('a Makefile that builds no TA', async () => {
    const dir = taFolder('library', 'all:', '\t@true');
    expect((await failure(buildTa({ dir, devKit }))).message).toBe(
      `${dir} does not build a TA: its Makefile sets no BINARY`,
    );
    const silent = taFolder('silent', `BINARY = ${UUID}`, 'all:', '\t@true');
    expect((await failure(buildTa({ dir: silent, devKit }))).message).toMatch(
      `there is no ${silent}/build/${UUID}.ta`,
    );
  });

  test('a tool that is missing is named with its package', async () => {
    const path = process.env['PATH'];
    const tools = join(folder, 'tools');
    mkdirSync(tools);
    try {
      process.env['PATH'] = tools;
      expect((await failure(buildTa({ dir: folder, devKit }))).message).toBe(
        "To build a TA, make is needed: install Debian's package make",
      );
      writeFileSync(join(tools, 'make'), '#!/bin/sh\n');
      chmodSync(join(tools, 'make'), 0o755);
      expect((await failure(buildTa({ dir: folder, devKit }))).message).toBe(
        "To build a TA, aarch64-linux-gnu-gcc is needed: install Debian's package gcc-aarch64-linux-gnu",
      );
    } finally {
      process.env['PATH'] = path;
    }
  });
});

test("the test TA's constants are those of its C header", () => {
  const root = process.cwd();
  const header = readFileSync(join(root, 'test/ta/include/node_optee_test_ta.h'), 'utf8');
  const numbers: Record<string, string | number> = {};
  for (const [, name, number] of header.matchAll(/^#define (TEST_TA_\w+) (\d+)u?\b/gm)) {
    numbers[name] = Number(number);
  }
  const bytes = [...(/TEST_TA_UUID(?:.|\n)*?\n\n/.exec(header)?.[0] ?? '').matchAll(/0x([0-9a-f]+)/g)];
  const hex = bytes.map((match) => match[1]).join('');
  numbers['NODE_OPTEE_TEST_TA_UUID'] = hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  expect(Object.keys(numbers).length).toBeGreaterThan(25);
  expect({ ...constants }).toEqual(numbers);
  expect(readFileSync(join(root, 'test/ta/Makefile'), 'utf8')).toContain(
    `BINARY = ${constants.NODE_OPTEE_TEST_TA_UUID}\n`,
  );
});
