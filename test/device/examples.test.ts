/** Every example runs to its end, and says what it is there to say. */
import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from '@jest/globals';
import { PROTECTED_HEAP } from '../support/census.js';

const folder = join(__dirname, '../../../examples');
const run = promisify(execFile);

const SAYS: Record<string, RegExp> = {
  'blocking.mjs': /^40 1$/m,
  'cancel.mjs': /^aborted after \d+ ms; the TA answered TEE_ERROR_CANCEL$/m,
  'devices.mjs': /\/dev\/tee0 is optee:/,
  'dma-buf.mjs': /hold 7 each: true/,
  'errors.mjs':
    /wrote 1000 bytes[^]*TEE_0x80001234 2147488308 trusted-app[^]*panicked[^]*the new session works/,
  'identity.mjs': /^Login.user is 1 ef0180a313f35d1cb7f5888c0e21059a$/m,
  'many-sessions.mjs': /^4 waits of 250 ms took \d+ ms$/m,
  'shared-memory.mjs': /sum of all bytes: \d+/,
  'tour.mjs': /./,
  'values-and-buffers.mjs': /41, 0 became 42 2[^]*the TA copied 5 bytes: hello/,
};

test('each has something to say', () => {
  expect(readdirSync(folder).filter((name) => name.endsWith('.mjs'))).toEqual(Object.keys(SAYS));
});

test.each(Object.entries(SAYS))('%s', async (name, says) => {
  const args = name === 'dma-buf.mjs' ? [PROTECTED_HEAP] : [];
  const { stdout } = await run(process.execPath, [join(folder, name), ...args], { cwd: join(folder, '..') });
  expect(stdout).toMatch(says);
});
