// A guest with our compiled tests in its memory, for what runs them there.
import { createReadStream } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { ROOT, run } from './setup.mjs';

const require = createRequire(import.meta.url);

/** Where the tests are in the guest. */
export const FOLDER = '/tmp/node-optee';
export const JEST = 'node_modules/jest/bin/jest.js';
export const TEST_TA = join(ROOT, 'build', 'ta');

/**
 * An emulator translates each piece of machine code that V8 makes, and most of Jest runs but a few times: a fifth of the
 * time goes without its compiler and its threads. The smoke tests and whatever a test starts run without these.
 */
export const V8_FLAGS = ['--expose-gc', '--no-opt', '--single-threaded'];

/** Lines of a kernel's log that no test may leave. */
export const complaints = (log) => log.split('\n').filter((line) => /WARNING:|BUG:|Call trace/.test(line));

export async function buildTestTa() {
  const { buildTa, prepareDevKit } = require('../dist/qemu/index.js');
  await buildTa({ dir: join(ROOT, 'test', 'ta'), devKit: await prepareDevKit(), out: TEST_TA });
}

/**
 * Files of this folder as an archive: in the guest's memory, where it is unpacked, a program of ours is there in half the
 * time that it takes from the share.
 * @param {string[]} words what tar is told of the files
 * @returns {string} the archive's path
 */
export function pack(name, words) {
  const archive = join(ROOT, 'build', name);
  run('tar', ['-cf', archive, ...words]);
  return archive;
}

/**
 * Boots a guest with the test TA and an archive's files.
 * @param {import('../dist/qemu/index.js').BootOptions} options
 */
export async function bootWith(archive, options) {
  const { Guest } = require('../dist/qemu/index.js');
  const guest = await Guest.boot({ share: ROOT, tas: [TEST_TA], ...options });
  try {
    const unpack = 'mkdir "$0" && cd "$0" && tar xf - && ln -s "$1"';
    const { status, stderr } = await guest.run(['sh', '-c', unpack, FOLDER, join(ROOT, 'node_modules')], {
      stdin: createReadStream(archive),
      timeout: 60_000,
    });
    if (status !== 0) throw new Error(`The tests are not in the guest: ${stderr}`);
    return guest;
  } catch (error) {
    await guest.close();
    throw error;
  }
}
