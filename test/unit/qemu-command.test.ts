// lib/commands/qemu.ts as a process of its own, as far as it comes without a guest.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';

const CLI = join(__dirname, '../../../dist/cli.js');

const isRoot = process.getuid?.() === 0;

test.each(['qemu', 'ta'])('%s of a user without a home folder names XDG_CACHE_HOME', (name) => {
  // Only root can become a user whom nobody knows. The capability: the clone may lie in a closed folder.
  if (!isRoot) return;
  const user = ['--reuid=4242', '--regid=4242', '--clear-groups'];
  const capability = ['--inh-caps=+dac_read_search', '--ambient-caps=+dac_read_search'];
  const words = [...user, ...capability, process.execPath, CLI, name, '/tmp'];
  const { status, stderr } = spawnSync('setpriv', words, {
    cwd: '/tmp',
    env: { PATH: process.env.PATH },
    encoding: 'utf8',
  });
  expect(stderr).toBe(
    `node-optee ${name}: This user has no home folder, where the cache would lie: set XDG_CACHE_HOME to a folder for it\n`,
  );
  expect(status).toBe(1);
});
