/** Examples with a TA of their own: each runs with one command, and says what it is there to say. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from '@jest/globals';
import { BUILD_TIMEOUT } from '../support/guest.js';

const EXAMPLES = join(dirname(require.resolve('node-optee/package.json')), 'examples');

const SAYS: Record<string, string> = {
  'hash-and-sign': 'the signature is good\nof other data it is bad\n',
  'hello-world': '42\n43\n',
};

test('all are here', () => {
  // `c` and `python` have a test of their own.
  const folders = readdirSync(EXAMPLES).filter((name) => existsSync(join(EXAMPLES, name, 'ta')));
  expect(folders.sort()).toEqual(Object.keys(SAYS));
});

test.each(Object.entries(SAYS))(
  '%s',
  (name, says) => {
    const args = [join(EXAMPLES, 'run.cjs'), name];
    const { status, stdout } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    expect({ status, stdout }).toEqual({ status: 0, stdout: says });
  },
  BUILD_TIMEOUT,
);
