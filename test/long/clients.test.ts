// The guest is for every client: the examples in C and in Python, as docs/guest.md builds and runs them.
import { cpSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { BuildLog, command } from '#lib/qemu/build/command';
import { BUILD_TIMEOUT, CLI, GUEST_TIMEOUT, newFolder, qemu } from '../support/guest.js';
import { LIBTEEC, unpackDebian } from '../support/debian.js';

jest.setTimeout(GUEST_TIMEOUT);

const ROOT = dirname(dirname(CLI));

let share: string;
let log: BuildLog;
beforeAll(() => {
  share = newFolder();
  log = new BuildLog(join(share, 'log'));
  cpSync(join(ROOT, 'examples'), share, { recursive: true });
});
afterAll(() => log.close());

test(
  'a client in C, over libteec',
  async () => {
    const libteec = join(share, 'libteec');
    await unpackDebian(LIBTEEC, libteec, log);
    const words = [
      '-Wall',
      '-Wextra',
      '-Werror',
      '-O2',
      `-I${libteec}/usr/include`,
      '-o',
      'client',
      'c/client.c',
    ];
    const library = ['-Wl,--allow-shlib-undefined', `${libteec}/usr/lib/aarch64-linux-gnu/libteec.so.2`];
    await command('aarch64-linux-gnu-gcc', [...words, ...library], { cwd: share, log });
    const { status, stdout } = await qemu(share, '--ta', join(ROOT, 'build/ta'), './client');
    expect([status, stdout.toString()]).toEqual([0, '42 2\n']);
  },
  BUILD_TIMEOUT,
);

test(
  'a client in Python, over libteec',
  async () => {
    const python = join(share, 'usr');
    const [name = ''] = await unpackDebian([/^python3[.][0-9]+-minimal$/], python, log);
    const version = name.replace('-minimal', '');
    const packages = [name, `lib${name}`, `lib${version}-stdlib`, 'libffi8', 'libexpat1'];
    await unpackDebian(packages, python, log);
    const libraries = `LD_LIBRARY_PATH=${python}/usr/lib/aarch64-linux-gnu`;
    const options = ['--ta', join(ROOT, 'build/ta'), '--env', libraries];
    const { status, stdout } = await qemu(share, ...options, `usr/usr/bin/${version}`, 'python/client.py');
    expect([status, stdout.toString()]).toEqual([0, '42 2\n']);
  },
  BUILD_TIMEOUT,
);
