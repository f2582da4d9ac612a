/** Nobody is told what was not asked: what a program logs has no secret, and core dumps have no shared memory. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from '@jest/globals';

test('no secret in errors, objects, traces and debug output; no shared memory in core dumps', async () => {
  const secret = 'Zq7-xW3-kV9';
  const file = require.resolve('./children/secrets.js');
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [file, secret], {
    env: { ...process.env, NODE_DEBUG: 'node-optee' },
    timeout: 120_000,
  });
  expect(stderr).toMatch(/NODE-OPTEE \d+: invoke: command/);
  expect(stdout).toContain('TEE_ERROR_ACCESS_DENIED');
  expect(stdout).toContain('CKR_PIN_INCORRECT');
  // As a text, and as bytes in the ways that Node.js prints them.
  const bytes = [...Buffer.from(secret)].slice(0, 6);
  const forms = [
    secret,
    bytes.join(', '),
    bytes.join(','),
    Buffer.from(bytes).toString('hex'),
    bytes.map((byte) => byte.toString(16)).join(' '),
    Buffer.from(bytes).toString('base64').slice(0, 8),
  ];
  for (const form of forms) {
    expect(stderr).not.toContain(form);
    expect(stdout).not.toContain(form);
  }
  expect(JSON.parse(stdout.trim().split('\n').at(-1) ?? '')).toEqual({ dumped: 0 });
}, 150_000);
