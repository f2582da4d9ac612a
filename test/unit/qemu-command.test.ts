// lib/commands/qemu.ts as a process of its own, as far as it comes without a guest.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
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

test.each([
  ['qemu', ['--build'], 'The cache cannot be made (EROFS: read-only file system, mkdir '],
  [
    'ta',
    [join(__dirname, '../../../test/ta'), '--out', '$/out'],
    'The cache cannot be made (EROFS: read-only file system',
  ],
])('%s with a cache on a read-only file system says so', (name, words, message) => {
  const folder = mkdtempSync(join(tmpdir(), 'node-optee-read-only-'));
  const script = 'mount -t tmpfs -o ro none "$XDG_CACHE_HOME" && exec "$@"';
  const args = words.map((word) => word.replace('$', folder));
  const { status, stderr } = spawnSync(
    'unshare',
    [isRoot ? '-m' : '-Urm', 'sh', '-c', script, 'sh', process.execPath, CLI, name, ...args],
    // A mirror that is never asked: without one a host that is not Debian hears of that first.
    {
      env: { ...process.env, XDG_CACHE_HOME: folder, NODE_OPTEE_DEBIAN_MIRROR: 'http://localhost/' },
      encoding: 'utf8',
    },
  );
  rmSync(folder, { recursive: true });
  expect(stderr).toContain(`node-optee ${name}: ${message}`);
  expect(status).toBe(1);
});

test.each(['5', '-1', 'debug', '', '1.0'])('ta --log-level=%s is refused', (level) => {
  const words = [CLI, 'ta', '.', `--log-level=${level}`];
  const { status, stderr } = spawnSync(process.execPath, words, { encoding: 'utf8' });
  expect(stderr).toContain(`node-optee ta: --log-level must be 0, 1, 2, 3 or 4, but is '${level}'\n`);
  expect(status).toBe(2);
});
