import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Cache, sha256 } from '#lib/qemu/build/cache';
import { BuildLog, command } from '#lib/qemu/build/command';
import { readManifest } from '#lib/qemu/build/manifest';
import { APPLIED, unpackSource } from '#lib/qemu/build/optee';
import type { Workshop } from '#lib/qemu/build/part';
import { checkLibraries } from '#lib/qemu/build/rootfs';
import { GUEST, OPTEE_OS, Sources } from '#lib/qemu/build/sources';
import { copyCache } from '../support/cache-copy';

const CLI = require.resolve('node-optee/package.json').replace('package.json', 'dist/cli.js');

let folder: string;
const homes: string[] = [];
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'node-optee-build-'));
});
afterAll(() => {
  for (const path of [folder, ...homes]) rmSync(path, { recursive: true, force: true });
});

function copy(without: RegExp): { home: string; cache: Cache } {
  const made = copyCache(without);
  homes.push(made.home);
  return made;
}

function partsOf(cache: Cache): string[] {
  return readdirSync(join(cache.path, 'parts'));
}

/** A mirror and proxies that lead nowhere, for where a network namespace cannot be made (a container, say). */
const NOWHERE = {
  NODE_OPTEE_DEBIAN_MIRROR: 'http://127.0.0.1:9/debian',
  http_proxy: 'http://127.0.0.1:9',
  https_proxy: 'http://127.0.0.1:9',
  npm_config_registry: 'http://127.0.0.1:9/',
};

/** Runs the command without a network. */
function runOffline(
  env: NodeJS.ProcessEnv & { UMASK?: string },
  ...args: string[]
): ReturnType<typeof spawnSync> {
  // Root makes a network namespace as it is, anybody else within a user namespace.
  const cut = process.getuid?.() === 0 ? '-n' : '-rn';
  const namespace = spawnSync('unshare', [cut, 'true']).status === 0 ? ['unshare', cut] : [];
  const words = [
    '-c',
    `umask ${env.UMASK ?? '022'}; exec "$@"`,
    'sh',
    ...namespace,
    process.execPath,
    CLI,
    ...args,
  ];
  return spawnSync('sh', words, { encoding: 'utf8', env: { ...process.env, ...NOWHERE, ...env } });
}

test('what was built is used again with the network cut off', () => {
  expect(runOffline({}, 'qemu', '--build', '--machine', 'dynamic')).toMatchObject({
    status: 0,
    stdout: `${new Cache().path}\n`,
    stderr: '',
  });
});

test('a part is built anew from what was downloaded, with the network cut off, whatever the umask', () => {
  const { home, cache } = copy(/^rootfs-/);
  const env = { XDG_CACHE_HOME: home, UMASK: '077' };
  const build = runOffline(env, 'qemu', '--build', '--machine', 'dynamic');
  expect(build.status).toBe(0);
  expect(build.stderr).toContain('[1/1] Root file system');
  const [rootfs = '', ...others] = partsOf(cache).filter((part) => part.startsWith('rootfs-'));
  expect(others).toEqual([]);
  const image = join(cache.path, 'parts', rootfs, 'rootfs.ext4');
  for (const [path, mode] of [
    ['/', '0755'],
    ['/opt/node', '0755'],
    ['/etc', '0755'],
    ['/etc/passwd', '0644'],
    ['/usr/bin/xtest', '0755'],
    ['/usr/lib/node-optee/agent', '0755'],
  ]) {
    const { stdout } = spawnSync('debugfs', ['-R', `stat ${path}`, image], { encoding: 'utf8' });
    expect({ path, mode: /Mode: +(\d+)/.exec(stdout)?.[1], owner: /User: +(\d+)/.exec(stdout)?.[1] }).toEqual(
      {
        path,
        mode,
        owner: '0',
      },
    );
  }
});

test('--rebuild without a network leaves the cache as it was', () => {
  const { home, cache } = copy(/^$/);
  const files = (): unknown => [partsOf(cache), readFileSync(join(cache.path, 'resolved.json'), 'utf8')];
  const before = files();
  const build = runOffline({ XDG_CACHE_HOME: home }, 'qemu', '--rebuild', '--build', '--machine', 'dynamic');
  expect(build.status).toBe(1);
  expect(build.stderr).toContain('[1/1] Packages: failed');
  expect(files()).toEqual(before);
  const again = runOffline({ XDG_CACHE_HOME: home }, 'qemu', '--build', '--machine', 'dynamic');
  expect(again).toMatchObject({ status: 0, stderr: '' });

  expect(runOffline({ XDG_CACHE_HOME: home }, 'qemu', '--clean')).toMatchObject({ status: 0, stderr: '' });
  expect(readdirSync(cache.path)).toEqual(['lock']);
}, 120_000);

test('--node-modules installs what lies in the share itself, with the network cut off', () => {
  const { home, cache } = copy(/^node-modules-/);
  const share = join(home, 'share');
  const write = (name: string, content: object): void => {
    mkdirSync(dirname(join(share, name)), { recursive: true });
    writeFileSync(join(share, name), JSON.stringify(content));
  };
  write('vendor/b/package.json', { name: 'b', version: '1.0.0' });
  spawnSync('npm', ['pack', './b'], { cwd: join(share, 'vendor') });
  write('packages/a/package.json', { name: 'a', version: '1.0.0' });
  const dependencies = { b: 'file:vendor/b-1.0.0.tgz' };
  write('package.json', { name: 'share', workspaces: ['packages/*'], dependencies });
  spawnSync('npm', ['install', '--package-lock-only', '--offline', '--no-audit'], { cwd: share });
  const words = ['qemu', '--build', '--machine', 'dynamic', '--node-modules', '--share', share];
  expect(runOffline({ XDG_CACHE_HOME: home }, ...words)).toMatchObject({ status: 0 });
  const [part = ''] = partsOf(cache).filter((name) => name.startsWith('node-modules-'));
  const image = join(cache.path, 'parts', part, 'node_modules.ext4');
  const read = (path: string): string =>
    spawnSync('debugfs', ['-R', path, image], { encoding: 'utf8' }).stdout;
  expect(read('stat a')).toContain('Fast link dest: "../packages/a"');
  expect(JSON.parse(read('cat b/package.json'))).toMatchObject({ name: 'b' });
});

test('the manifest has every part with its sources, checksums, options and build time', () => {
  const manifest = readManifest(new Cache());
  const parts = Object.values(manifest?.parts ?? {});
  expect(parts.map(({ name }) => name)).toEqual(
    expect.arrayContaining([
      'linux',
      'optee-dynamic',
      'optee-static',
      'firmware-dynamic',
      'rootfs',
      'node-24',
    ]),
  );
  const optee = parts.find(({ name }) => name === 'optee-dynamic');
  expect(optee?.files['tee-header_v2.bin']).toMatch(/^[0-9a-f]{64}$/);
  expect(optee?.seconds).toBeGreaterThan(0);
  expect(JSON.stringify(optee?.inputs)).toContain('CFG_CORE_DYN_PROTMEM=y');
  for (const resolved of Object.values(manifest?.sources ?? {})) {
    expect(resolved.version).not.toBe('');
    expect(Object.keys(resolved.files).length).toBeGreaterThan(0);
  }
});

test("Debian's patches of OP-TEE are applied, and the manifest names them", async () => {
  const cache = new Cache();
  const log = new BuildLog(join(folder, 'unpack.log'));
  const run: Workshop['run'] = async (program, args, cwd = folder) => {
    await command(program, args, { cwd, log });
  };
  const shop = { cache, sources: new Sources(cache), log, signal: undefined, scratch: folder, run };
  const tree = await unpackSource(OPTEE_OS, shop);
  log.close();
  const applied = readFileSync(join(tree, APPLIED), 'utf8').trim().split('\n');
  expect(applied.length).toBeGreaterThan(0);
  const { parts = {} } = readManifest(cache) ?? {};
  const optee = Object.values(parts).filter(({ name }) => name === 'optee-dynamic');
  expect(optee.at(-1)?.debianPatches).toEqual(applied);
});

test('libraries that do not fit together are found', async () => {
  const cache = new Cache();
  const log = new BuildLog(join(folder, 'libraries.log'));
  const root = join(folder, 'root');
  const libraries = join(root, 'usr/lib/aarch64-linux-gnu');
  for (const requirement of GUEST) {
    const [deb = ''] = await new Sources(cache).files(requirement, log);
    await command('dpkg-deb', ['-x', deb, root], { log });
  }
  log.close();
  await checkLibraries(root);
  // The cross compiler's libraries are those of an older Debian.
  const old = '/usr/aarch64-linux-gnu/lib';
  const replaced = ['libc.so.6', 'libm.so.6', 'ld-linux-aarch64.so.1'];
  await command('cp', ['-L', ...replaced.map((name) => join(old, name)), libraries]);
  await expect(checkLibraries(root)).rejects.toThrow(
    /^usr\/bin\/xtest does not load .*`GLIBC_[\d.]+' not found/,
  );
  rmSync(join(libraries, 'libteec.so.2'));
  await expect(checkLibraries(root)).rejects.toThrow(
    /^usr\/bin\/xtest does not load .*libteec\.so\.2: cannot open/,
  );
});

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
