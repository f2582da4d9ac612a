/** Every example runs to its end, and says what it is there to say. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from '@jest/globals';
import { child } from '../support/device.js';

const SAYS: Record<string, RegExp> = {
  'blocking.mjs': /^40 1$/m,
  'cancel.mjs': /^aborted after \d+ ms; the TA answered TEE_ERROR_CANCEL$/m,
  'devices.mjs': /\/dev\/tee0 is optee:/,
  'dma-buf.mjs': /hold 7 each: true/,
  'errors.mjs':
    /wrote 1000 bytes[^]*TEE_0x80001234 2147488308 trusted-app[^]*panicked[^]*the new session works/,
  'identity.mjs': /^Login.user is 1 ef0180a313f35d1cb7f5888c0e21059a$/m,
  'many-sessions.mjs': /^4 waits of 250 ms took \d+ ms$/m,
  'pool.mjs':
    /^6 requests: 2 3 4 5 6 7\nthe call before was given 41\nTEE_ERROR_TARGET_DEAD\nand on: 8\. Sessions: [12] open of 2 at most, 1 replaced$/m,
  'shared-memory.mjs': /sum of all bytes: 5898900/,
  'tour.mjs': new RegExp(
    [
      /optee at \/dev\/tee0/,
      /came back as \{ a: 42, b: 42 \}/,
      /and once more: 'Hello, secure world'/,
      /are now 00 00 5a 5a 5a 00 00 00/,
      /the TA wrote 7 bytes there.*hands them out: 'frame 1'/,
      /AbortError \(ABORT_ERR\); the TA itself answered TEE_ERROR_CANCEL/,
      /TeeError: TEE_ERROR_SHORT_BUFFER.*\n.*the TA needs 100 bytes/,
    ]
      .map(({ source }) => source)
      .join('[^]*'),
  ),
  'values-and-buffers.mjs': /41, 0 became 42 2[^]*the TA copied 5 bytes: hello/,
};

const folder = join(__dirname, '../../../examples');
const said = new Map<string, string>();

beforeAll(async () => {
  const files = readdirSync(folder).filter((name) => name.endsWith('.mjs'));
  const { status, stdout, stderr } = await child(
    'examples',
    files.map((name) => join(folder, name)),
    { timeout: 120_000 },
  );
  for (const part of stdout.split(/^--- /m).slice(1)) {
    const end = part.indexOf('\n');
    said.set(part.slice(0, end), part.slice(end + 1));
  }
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
}, 130_000);

test('all ran', () => {
  expect([...said.keys()].sort()).toEqual(Object.keys(SAYS));
});

test.each(Object.entries(SAYS))('%s', (name, says) => {
  expect(said.get(name)).toMatch(says);
});
