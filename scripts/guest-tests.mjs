// What scripts need to run our tests in a guest.
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

/** The test TA, which a guest has for tests. */
export async function buildTestTa() {
  const { buildTa, prepareDevKit } = require('../dist/qemu/index.js');
  await buildTa({ dir: join(ROOT, 'test', 'ta'), devKit: await prepareDevKit(), out: TEST_TA });
}

/**
 * Files of the repository as an archive: in the guest's memory, where it is unpacked, a program of ours is there in half
 * the time that it takes from the share.
 * @param {string[]} words what tar is told of the files
 * @returns {string} the archive's path
 */
export function pack(name, words) {
  const archive = join(ROOT, 'build', name);
  run('tar', ['-cf', archive, ...words]);
  return archive;
}

async function unpack(guest, archive) {
  const script = 'mkdir "$0" && cd "$0" && tar xf - && ln -s "$1"';
  const { status, stderr } = await guest.run(['sh', '-c', script, FOLDER, join(ROOT, 'node_modules')], {
    stdin: createReadStream(archive),
    timeout: 60_000,
  });
  if (status !== 0) throw new Error(`The tests are not in the guest: ${stderr}`);
}

const complaints = (log) => log.split('\n').filter((line) => /WARNING:|BUG:|Call trace/.test(line)).length;

/**
 * Boots a guest with the test TA, which was built, works there, and ends it.
 * @param {import('../dist/qemu/index.js').BootOptions} options
 * @param {string | undefined} archive is unpacked in `FOLDER`
 * @param work gets the guest; its result comes back, with the guest's logs
 * @throws what it throws, with the kernel's log; also where the kernel complained (`dmabuf` does once while it boots)
 */
export async function inGuest(options, archive, work) {
  const { Guest } = require('../dist/qemu/index.js');
  const guest = await Guest.boot({ share: ROOT, tas: [TEST_TA], ...options });
  const ofBoot = complaints(guest.logs.kernel);
  let result;
  try {
    if (archive !== undefined) await unpack(guest, archive);
    result = await work(guest);
  } catch (error) {
    await guest.close().catch(() => undefined);
    throw new Error(`${error.message}\n${guest.logs.kernel}`, { cause: error });
  }
  await guest.close();
  const { logs } = guest;
  if (complaints(logs.kernel) > ofBoot) throw new Error(`The guest's kernel complained.\n${logs.kernel}`);
  return { result, logs };
}
