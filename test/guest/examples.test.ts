/** Examples with a TA of their own: each runs with one command, and says what it is there to say. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from '@jest/globals';
import { BUILD_TIMEOUT, newFolder } from '../support/guest.js';

const EXAMPLES = join(dirname(require.resolve('node-optee/package.json')), 'examples');

const SAYS: Record<string, string> = {
  'hash-and-sign': 'the signature is good\nof other data it is bad\n',
  'hello-world': '42\n43\n',
  'http-service': `right: 4 of 4
too many bytes: 400
AbortError - failed: ABORT_ERR of the TA: TEE_ERROR_CANCEL
at the stop: 503
stopped with status 0
`,
  'protected-video': `this program maps the frame: EINVAL
49152 pixels are shown as they should be: true
memory of this program: VIDEO_DECODER_NOT_PROTECTED
`,
  random: '32 bytes, and 32 others\nin 16384 bytes there are 256 values\n',
  'secure-storage': storageSays(1),
};

function storageSays(boots: number): string {
  return `the next client reads 280 characters: a note for the next client
removed: true
boots with this storage: ${boots}
`;
}

function run(...args: string[]): { status: number | null; stdout: string } {
  const { status, stdout } = spawnSync(process.execPath, [join(EXAMPLES, 'run.cjs'), ...args], {
    encoding: 'utf8',
    timeout: 300_000,
  });
  return { status, stdout };
}

test('all are here', () => {
  // `c` and `python` have a test of their own.
  const folders = readdirSync(EXAMPLES).filter((name) => existsSync(join(EXAMPLES, name, 'ta')));
  expect(folders.sort()).toEqual(Object.keys(SAYS));
});

test.each(Object.entries(SAYS))(
  '%s',
  (name, says) => expect(run(name)).toEqual({ status: 0, stdout: says }),
  BUILD_TIMEOUT,
);

test(
  'secure-storage, over a reboot',
  () => {
    const folder = join(newFolder(), 'storage');
    for (const boots of [1, 2]) {
      const ran = run('secure-storage', '--storage', folder);
      expect(ran).toEqual({ status: 0, stdout: storageSays(boots) });
    }
  },
  BUILD_TIMEOUT,
);
