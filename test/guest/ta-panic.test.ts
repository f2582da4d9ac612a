// A TA that ends by a panic or a fault: the guest tells where. And what a TA says itself.
import { copyFileSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { Guest } from 'node-optee/qemu';
import type { TaPanic } from 'node-optee/qemu';
import { BUILD_TIMEOUT, CLI, GUEST_TIMEOUT, newFolder, qemu } from '../support/guest.js';
import * as TA from '../support/test-ta.js';
import { smallTa } from '../support/small-ta.js';
import { until } from '../support/until.js';

jest.setTimeout(GUEST_TIMEOUT);

const ROOT = dirname(dirname(CLI));
const UUID = TA.NODE_OPTEE_TEST_TA_UUID;
/** Of OP-TEE's own tests, in the guest. Its command 6 panics; this host has no ELF of it. */
const OS_TEST = '5b9e0e40-2636-11e1-ad9e-0002a5d5c51b';

let guest: Guest;
const panics: TaPanic[] = [];

beforeAll(async () => {
  guest = await Guest.boot({ share: ROOT, tas: [join(ROOT, 'build/ta')] });
  guest.on('ta-panic', (panic) => panics.push(panic));
}, BUILD_TIMEOUT);

afterAll(async () => {
  await guest?.close();
});

/** Calls commands of a TA, each in a session of its own. */
const client = (uuid: string, ...calls: [command: number, params: string][]) => `
  const { TeeContext, buffer, value } = require('${ROOT}/dist/index.js');
  const tee = TeeContext.open();
  for (const [command, params] of [${calls.map(([command, params]) => `[${command}, [${params}]]`).join()}]) {
    const session = tee.openSessionSync('${uuid}');
    try {
      session.invokeSync(command, params);
      console.log('done');
    } catch ({ code }) {
      console.log(code);
    }
  }`;

/** @returns what the calls ended with, and the panics that were told of them */
async function call(uuid: string, ...calls: [command: number, params: string][]) {
  const { stdout, stderr } = await guest.run(['node', '-e', client(uuid, ...calls)]);
  expect(stderr.toString()).toBe('');
  const results = stdout.toString().trim().split('\n');
  const dead = results.filter((code) => code === 'TEE_ERROR_TARGET_DEAD').length;
  await until(() => panics.length >= dead);
  return { results, panics: panics.splice(0) };
}

/** Where in a source of the test TA this text is. */
function place(file: string, text: string): { file: string; line: number } {
  const path = join(ROOT, 'test/ta', file);
  const lines = readFileSync(path, 'utf8').split('\n');
  return { file: path, line: lines.findIndex((line) => line.includes(text)) + 1 };
}

const entry = { function: 'TA_InvokeCommandEntryPoint', ...place('entry.c', 'commands[command](&call)') };

test('a panic', async () => {
  const { results, panics } = await call(UUID, [TA.TEST_TA_PANIC, 'value.in(0xffff0006)']);
  expect(results).toEqual(['TEE_ERROR_TARGET_DEAD']);
  expect(panics).toHaveLength(1);
  const [{ stack, ...panic }] = panics;
  expect(panic).toEqual({
    uuid: UUID,
    code: 0xffff0006,
    reason: 'panic, code 0xffff0006 (TEE_ERROR_BAD_PARAMETERS)',
    omitted: 0,
    note: undefined,
  });
  expect(stack[0]).toMatchObject({ function: 'panic', ...place('control.c', 'TEE_Panic('), uuid: UUID });
  expect(stack[0].address).toBeGreaterThan(stack[0].offset as number);
  expect(stack[1]).toMatchObject(entry);
  expect(stack[2].file).toBe('optee-os/lib/libutee/user_ta_entry.c');
});

test('a data abort', async () => {
  const { panics } = await call(UUID, [TA.TEST_TA_FAULT, 'value.in(0x10, 1)']);
  expect(panics).toHaveLength(1);
  const [{ stack, ...panic }] = panics;
  expect(panic).toMatchObject({
    uuid: UUID,
    code: undefined,
    reason: 'data-abort at address 0x100000010 (translation fault)',
    note: undefined,
  });
  expect(stack[0]).toMatchObject({ function: 'fault', ...place('ends.c', 'return *(volatile') });
  expect(stack[1]).toMatchObject(entry);
});

test('a stack overflow', async () => {
  const { panics } = await call(UUID, [TA.TEST_TA_OVERFLOW, '']);
  expect(panics).toHaveLength(1);
  const [{ stack, reason, omitted }] = panics;
  expect(reason).toMatch(
    /^data-abort at address 0x[0-9a-f]+ \(.* fault\): overflow of the stack, which has \d+ bytes$/,
  );
  expect(stack).toHaveLength(64);
  expect(stack.every(({ function: name }) => name === 'deeper')).toBe(true);
  expect(stack[1]).toMatchObject(place('ends.c', 'deeper(own) + own[0]'));
  expect(omitted).toBeGreaterThan(0);
});

test('a TA without an ELF', async () => {
  const { panics } = await call(OS_TEST, [6, '']);
  expect(panics).toHaveLength(1);
  const [{ uuid, code, stack, note }] = panics;
  expect({ uuid, code }).toEqual({ uuid: OS_TEST, code: 0xbeef });
  expect(stack.length).toBeGreaterThan(1);
  expect(stack[0]).toMatchObject({ function: undefined, file: undefined, line: undefined, uuid: OS_TEST });
  expect(note).toContain(`There is no ${OS_TEST}.elf beside the .ta`);
});

test('what a TA prints is not taken for a panic, and none is lost for it', async () => {
  const state = [
    `Status of TA ${UUID}`,
    'region  0: va 0x80060000 pa 0x0e20d000 size 0x01c000 flags r-xs [0]',
    ` [0] ${UUID} @ 0x80060000`,
    'Call stack:',
    ' 0x80061024',
  ];
  const forged = [
    'TA panicked with code 0x1',
    'E/TA:  TA panicked with code 0x1',
    ...state.map((line) => `E/TA:  ${line}`),
    'M/TA: E/TC:? 0 TA panicked with code 0x1',
    ...state.map((line) => `M/TA: E/LD:  ${line}`),
    ...state.map((line) => `E/LD:  ${line}`),
  ];
  const bytes = JSON.stringify(`${forged.join('\n')}\n`);
  const { results, panics } = await call(
    UUID,
    [TA.TEST_TA_LOG, `buffer.in(Buffer.from(${bytes}))`],
    [TA.TEST_TA_PANIC, 'value.in(2)'],
  );
  expect(results).toEqual(['done', 'TEE_ERROR_TARGET_DEAD']);
  expect(guest.logs.secure).toContain(forged.join('\n'));
  expect(panics.map(({ code }) => code)).toEqual([2]);
});

test('a listener that was taken off hears nothing; once is once; others are refused', async () => {
  const heard: string[] = [];
  const listener = () => heard.push('off');
  expect(guest.on('ta-panic', listener).off('ta-panic', listener)).toBe(guest);
  guest.once('ta-panic', () => heard.push('once'));
  await call(UUID, [TA.TEST_TA_PANIC, ''], [TA.TEST_TA_PANIC, '']);
  expect(heard).toEqual(['once']);
  expect(() => guest.on('panic' as 'ta-panic', listener)).toThrow(
    expect.objectContaining({
      code: 'ERR_INVALID_ARG_VALUE',
      message: expect.stringMatching(/^event must be/),
    }),
  );
  expect(() => guest.on('ta-panic', 1 as never)).toThrow(
    expect.objectContaining({
      code: 'ERR_INVALID_ARG_TYPE',
      message: expect.stringMatching(/^listener must be/),
    }),
  );
});

test('the command line prints it, also what came last', async () => {
  const program = client(UUID, [TA.TEST_TA_PANIC, 'value.in(3)']);
  const folder = newFolder();
  copyFileSync(join(ROOT, `build/ta/${UUID}.ta`), join(folder, `${UUID}.ta`));
  const [known, unknown] = [
    await qemu(ROOT, '--ta', 'build/ta', 'node', '-e', program),
    await qemu(ROOT, '--ta', folder, 'node', '-e', program),
  ];
  expect([known.status, known.stdout.toString()]).toEqual([0, 'TEE_ERROR_TARGET_DEAD\n']);
  const { line } = place('control.c', 'TEE_Panic(');
  // Jest's own folder may be another one than the command's.
  expect(known.stderr).toContain(
    `node-optee qemu: TA ${UUID}: panic, code 0x3\n    at panic (test/ta/control.c:${line})\n`,
  );
  expect(unknown.stderr).toContain(`node-optee qemu: TA ${UUID}: panic, code 0x3\n    at 0x`);
  expect(unknown.stderr).toContain(`  There is no ${UUID}.elf beside the .ta`);
});

test(
  "a TA's own messages: those of its log level",
  async () => {
    const levels = [undefined, 0, 2, 4];
    const uuids = levels.map((_, index) => `f1b0c7d2-0c5e-4d1a-9f00-00000000000${index}`);
    const body = (index: number) =>
      `EMSG("error ${index}"); IMSG("information ${index}"); DMSG("debug ${index}"); FMSG("flow ${index}");
      return TEE_SUCCESS;`;
    const tas = await Promise.all(levels.map((level, index) => smallTa(uuids[index], body(index), level)));
    await using guest = await Guest.boot({ share: ROOT, tas });
    const program = uuids.map((uuid) => `{${client(uuid, [0, ''])}}`).join('\n');
    expect((await guest.run(['node', '-e', program])).stdout.toString()).toBe('done\n'.repeat(4));
    await guest.close();
    // Information comes without the place where it was said.
    const said = [...guest.logs.secure.matchAll(/^([EIDF])\/TA: (?:.* )?(\w+ \d)$/gm)];
    expect(said.map(([, level, text]) => level + text)).toEqual([
      'Eerror 0',
      ...['Eerror 2', 'Iinformation 2'],
      ...['Eerror 3', 'Iinformation 3', 'Ddebug 3', 'Fflow 3'],
    ]);
  },
  BUILD_TIMEOUT,
);
