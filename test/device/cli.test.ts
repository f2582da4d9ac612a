/** The commands that talk to a TEE: one as a user runs it, the others in this process, which is quicker. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, jest, test } from '@jest/globals';
import { run as invoke } from '#lib/commands/invoke';
import { run as list } from '#lib/commands/list';
import { PROTECTED_HEAP, TEST_TA } from '../support/census.js';
import * as TA from '../support/test-ta.js';

const CLI = join(__dirname, '../../../dist/cli.js');

/** Runs a command and returns what it printed; its status must be 0. */
async function printed(command: typeof invoke, ...args: string[]): Promise<string> {
  const output: string[] = [];
  const write = jest.spyOn(process.stdout, 'write').mockImplementation((text) => {
    output.push(String(text));
    return true;
  });
  try {
    const status = await command(args);
    expect(status).toBe(0);
  } finally {
    write.mockRestore();
  }
  return output.join('');
}

test('node-optee list', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [CLI, 'list']);
  expect(stdout).toContain('/dev/tee0: optee, globalPlatform registeredMemory nullMemref\n');
  expect(stdout).toContain(PROTECTED_HEAP);
  const json = JSON.parse(await printed(list, '--json')) as { devices: object[]; heaps: string[] };
  expect(json.devices).toMatchObject([{ path: '/dev/tee0', version: { implementation: 'optee' } }]);
  expect(json.heaps).toContain(PROTECTED_HEAP);
});

test('node-optee invoke', async () => {
  expect(
    await printed(invoke, TEST_TA, String(TA.TEST_TA_VALUES), 'value-inout:41', 'none', 'value-out'),
  ).toBe('params[0]: a 42 (0x2a), b 2 (0x2)\nparams[2]: a 41 (0x29), b 0 (0x0)\n');
  expect(await printed(invoke, TEST_TA, '0x4', 'in:text:node-optee', 'out:64')).toBe(
    'params[1]: 10 bytes\n  00000000  6e 6f 64 65 2d 6f 70 74 65 65                    node-optee\n',
  );
  const json = ['--json', '--login', 'user', TEST_TA, String(TA.TEST_TA_IDENTITY), 'value-out', 'out:16'];
  expect(await printed(invoke, ...json)).toBe('[{"a":1,"b":0},"ef0180a313f35d1cb7f5888c0e21059a"]\n');
});

test('NODE_DEBUG=node-optee prints each opening and call', async () => {
  const { stdout, stderr } = await promisify(execFile)(
    process.execPath,
    [CLI, 'invoke', '--login', 'user', TEST_TA, String(TA.TEST_TA_VALUES), 'value-inout:41'],
    { env: { ...process.env, NODE_DEBUG: 'node-optee' } },
  );
  expect(stdout).toBe('params[0]: a 42 (0x2a), b 2 (0x2)\n');
  expect(stderr).toMatch(
    new RegExp(
      `^NODE-OPTEE \\d+: openSession: TA ${TEST_TA}\n` +
        `NODE-OPTEE \\d+: invoke: command 1 of TA ${TEST_TA}\n$`,
    ),
  );
});

test('node-optee invoke: what goes wrong', async () => {
  await expect(invoke([TEST_TA, String(TA.TEST_TA_WRITE), 'out:1', 'value-in:9'])).rejects.toThrow(
    'params[0] needs 9 bytes',
  );
  await expect(
    invoke(['--timeout', '1500', TEST_TA, String(TA.TEST_TA_WAIT), 'value-in:10000']),
  ).rejects.toMatchObject({ name: 'AbortError', teeError: { code: 'TEE_ERROR_CANCEL' } });
});
