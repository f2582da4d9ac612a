/** The commands that talk to a TEE, as a user runs them. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { PROTECTED_HEAP, TEST_TA } from '../support/census.js';
import * as TA from '../support/test-ta.js';

const CLI = join(__dirname, '../../../dist/cli.js');

function nodeOptee(...args: string[]): Promise<{ status: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [CLI, ...args], (_, stdout, stderr) =>
      resolve({ status: child.exitCode, stdout, stderr }),
    );
  });
}

test('list', async () => {
  const { status, stdout } = await nodeOptee('list');
  expect(status).toBe(0);
  expect(stdout).toContain('/dev/tee0: optee, globalPlatform registeredMemory nullMemref\n');
  expect(stdout).toContain(PROTECTED_HEAP);
});

test('invoke', async () => {
  expect(
    await nodeOptee('invoke', TEST_TA, String(TA.TEST_TA_VALUES), 'value-inout:41', 'none', 'value-out'),
  ).toEqual({
    status: 0,
    stdout: 'params[0]: a 42 (0x2a), b 2 (0x2)\nparams[2]: a 41 (0x29), b 0 (0x0)\n',
    stderr: '',
  });
  expect(await nodeOptee('invoke', TEST_TA, '0x4', 'in:text:node-optee', 'out:64')).toMatchObject({
    status: 0,
    stdout: 'params[1]: 10 bytes\n  00000000  6e 6f 64 65 2d 6f 70 74 65 65                    node-optee\n',
  });
  const json = ['--json', '--login', 'user', TEST_TA, String(TA.TEST_TA_IDENTITY), 'value-out', 'out:16'];
  expect(await nodeOptee('invoke', ...json)).toMatchObject({
    status: 0,
    stdout: '[{"a":1,"b":0},"ef0180a313f35d1cb7f5888c0e21059a"]\n',
  });
});

test('invoke: what goes wrong is said, on standard error', async () => {
  for (const [args, status, stderr] of [
    [
      [TEST_TA, String(TA.TEST_TA_WRITE), 'out:1', 'value-in:9'],
      1,
      /TeeError: TEE_ERROR_SHORT_BUFFER .*params\[0\] needs 9 bytes/,
    ],
    [
      ['--timeout', '100', TEST_TA, String(TA.TEST_TA_WAIT), 'value-in:10000'],
      1,
      /AbortError: .*TEE_ERROR_CANCEL/,
    ],
  ] as const) {
    const found = await nodeOptee('invoke', ...args);
    expect(found).toMatchObject({ status, stdout: '' });
    expect(found.stderr).toMatch(stderr);
  }
});
