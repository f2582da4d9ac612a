import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Cache } from '#lib/qemu/build/cache';
import { readManifest } from '#lib/qemu/build/manifest';

const CLI = require.resolve('node-optee/package.json').replace('package.json', 'dist/cli.js');

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'node-optee-build-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('what was built is used again with the network cut off', () => {
  // A user namespace where we are not root, so that the network namespace can be made.
  const cut = process.getuid?.() === 0 ? ['-n'] : ['-rn'];
  const proof = spawnSync('unshare', [...cut, 'sh', '-c', 'cat /proc/net/dev | grep -c :'], {
    encoding: 'utf8',
  });
  expect(proof.stdout.trim()).toBe('1');
  const build = spawnSync(
    'unshare',
    [...cut, process.execPath, CLI, 'qemu', '--build', '--machine', 'dynamic'],
    {
      encoding: 'utf8',
    },
  );
  expect(build).toMatchObject({ status: 0, stdout: `${new Cache().path}\n`, stderr: '' });
});

test('the manifest has every part with its sources, checksums, options and build time', () => {
  const manifest = readManifest(new Cache());
  expect(Object.keys(manifest?.parts ?? {})).toEqual(
    expect.arrayContaining([
      'linux',
      'optee-dynamic',
      'optee-static',
      'firmware-dynamic',
      'rootfs',
      'node-24',
    ]),
  );
  const optee = manifest?.parts['optee-dynamic'];
  expect(optee?.debianPatches?.length).toBeGreaterThan(0);
  expect(optee?.files['tee-header_v2.bin']).toMatch(/^[0-9a-f]{64}$/);
  expect(optee?.seconds).toBeGreaterThan(0);
  expect(JSON.stringify(optee?.inputs)).toContain('CFG_CORE_DYN_PROTMEM=y');
  for (const resolved of Object.values(manifest?.sources ?? {})) {
    expect(resolved.version).not.toBe('');
    expect(Object.keys(resolved.files).length).toBeGreaterThan(0);
  }
});

test('an interrupted build ends at once and leaves nothing that is taken for good', async () => {
  const env = { ...process.env, XDG_CACHE_HOME: folder };
  const child = spawn(process.execPath, [CLI, 'qemu', '--build', '--machine', 'dynamic'], {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
  while (!output.includes('Packages')) await once(child.stderr, 'data');
  const start = Date.now();
  child.kill('SIGINT');
  expect(await once(child, 'close')).toEqual([130, null]);
  expect(Date.now() - start).toBeLessThan(10_000);
  const cache = new Cache(join(folder, 'node-optee'));
  expect(existsSync(join(cache.path, 'parts')) ? readdirSync(join(cache.path, 'parts')) : []).toEqual([]);
  // The lock is free, and a second try sweeps the rest.
  await cache.locked(() => cache.sweep());
  expect(existsSync(join(cache.path, 'work'))).toBe(false);
}, 60_000);

test('a host that is not Debian, and names no mirror, is told what to do', () => {
  const script = `
    const fs = require('node:fs');
    const read = fs.readFileSync;
    fs.readFileSync = (path, ...rest) => (path === '/etc/os-release' ? 'ID=other\\n' : read(path, ...rest));
    const { DebianArchive } = require(process.argv[1]);
    DebianArchive.open(process.argv[2], { write() {} }).catch((error) => console.log(error.message));`;
  const { NODE_OPTEE_DEBIAN_MIRROR: _, ...env } = process.env;
  const { stdout } = spawnSync(
    process.execPath,
    ['-e', script, require.resolve('#lib/qemu/build/debian'), join(folder, 'apt')],
    { encoding: 'utf8', env },
  );
  expect(stdout).toContain('NODE_OPTEE_DEBIAN_MIRROR');
  expect(stdout).toContain('debian:12');
  expect(stdout.trim().split('\n')).toHaveLength(1);
});

test('the packages of the manifest were downloaded and are what it says', async () => {
  const { sources } = readManifest(new Cache()) ?? { sources: {} };
  const path = join(new Cache().path, 'resolved.json');
  expect(JSON.parse(readFileSync(path, 'utf8'))).toEqual(sources);
});
