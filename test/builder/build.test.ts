import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Cache, sha256 } from '#lib/qemu/build/cache';
import { readManifest } from '#lib/qemu/build/manifest';

const CLI = require.resolve('node-optee/package.json').replace('package.json', 'dist/cli.js');

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'node-optee-build-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A mirror and proxies that lead nowhere, for where a network namespace cannot be made (a container, say). */
const NOWHERE = {
  NODE_OPTEE_DEBIAN_MIRROR: 'http://127.0.0.1:9/debian',
  http_proxy: 'http://127.0.0.1:9',
  https_proxy: 'http://127.0.0.1:9',
  npm_config_registry: 'http://127.0.0.1:9/',
};

/** Runs the command without a network. */
function runOffline(env: NodeJS.ProcessEnv, ...args: string[]): ReturnType<typeof spawnSync> {
  // Root makes a network namespace as it is, anybody else within a user namespace.
  const cut = process.getuid?.() === 0 ? '-n' : '-rn';
  const namespace = spawnSync('unshare', [cut, 'true']).status === 0 ? ['unshare', cut] : [];
  const [program = '', ...words] = [...namespace, process.execPath, CLI, ...args];
  return spawnSync(program, words, { encoding: 'utf8', env: { ...process.env, ...NOWHERE, ...env } });
}

test('what was built is used again with the network cut off', () => {
  expect(runOffline({}, 'qemu', '--build', '--machine', 'dynamic')).toMatchObject({
    status: 0,
    stdout: `${new Cache().path}\n`,
    stderr: '',
  });
});

test('a part is built anew from what was downloaded, with the network cut off', () => {
  const home = join(folder, 'offline');
  mkdirSync(home);
  // Hard links: the cache has gigabytes.
  spawnSync('cp', ['-al', new Cache().path, join(home, 'node-optee')]);
  const parts = join(home, 'node-optee', 'parts');
  for (const name of readdirSync(parts).filter((part) => part.startsWith('rootfs-'))) {
    rmSync(join(parts, name), { recursive: true });
  }
  const build = runOffline({ XDG_CACHE_HOME: home }, 'qemu', '--build', '--machine', 'dynamic');
  expect(build.status).toBe(0);
  expect(build.stderr).toContain('[1/1] Root file system');
  expect(readdirSync(parts).filter((part) => part.startsWith('rootfs-'))).toHaveLength(1);
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

test('a host that is not Debian, and names no mirror, is told what to do before anything else', () => {
  const preload = join(folder, 'other-host.cjs');
  writeFileSync(
    preload,
    `const fs = require('node:fs');
    const read = fs.readFileSync;
    fs.readFileSync = (path, ...rest) => (path === '/etc/os-release' ? 'ID=other\\n' : read(path, ...rest));`,
  );
  const { NODE_OPTEE_DEBIAN_MIRROR: _, ...env } = process.env;
  const { status, stderr } = spawnSync(process.execPath, ['--require', preload, CLI, 'qemu', '--', 'true'], {
    encoding: 'utf8',
    env: { ...env, XDG_CACHE_HOME: join(folder, 'other') },
  });
  expect(status).toBe(1);
  expect(stderr).toContain('NODE_OPTEE_DEBIAN_MIRROR');
  expect(stderr).toContain('debian:12');
  expect(stderr.trim().split('\n')).toHaveLength(1);
});

test('the packages of the manifest were downloaded and are what it says', async () => {
  const cache = new Cache();
  const sources = readManifest(cache)?.sources ?? {};
  expect(Object.keys(sources).length).toBeGreaterThan(0);
  for (const { files } of Object.values(sources)) {
    for (const [name, digest] of Object.entries(files)) {
      expect({ name, digest: await sha256(join(cache.downloads, name)) }).toEqual({ name, digest });
    }
  }
});
