import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { installPacked, type Packed } from '../support/packed.js';

const ROOT = dirname(require.resolve('node-optee/package.json'));

let packed: Packed;
beforeAll(() => {
  packed = installPacked();
}, 120_000);
afterAll(() => packed.remove());

const run = (program: string, ...args: string[]): { status: number | null; stdout: string; stderr: string } =>
  spawnSync(program, args, { cwd: packed.app, encoding: 'utf8' });

describe('the tarball', () => {
  test('holds what runs, and nothing else', () => {
    const paths = packed.files.map(({ path }) => path);
    const rooms = new Set(paths.map((path) => (path.includes('/') ? path.split('/', 1)[0] : path)));
    expect([...rooms].sort()).toEqual([
      'CHANGELOG.md',
      'LICENSE',
      'LICENSE.GPL-2.0-only',
      'README.md',
      'dist',
      'docs',
      'examples',
      'package.json',
      'prebuilds',
      'qemu',
      'scripts',
      'test',
    ]);
    expect(paths.filter((path) => path.startsWith('prebuilds/')).sort()).toEqual([
      'prebuilds/linux-arm64/node-optee.node',
      'prebuilds/linux-x64/node-optee.node',
    ]);
    expect(paths.filter((path) => /^test\/(?!ta\/)|^test\/ta\/build\//.test(path))).toEqual([]);
    expect(paths.filter((path) => path.startsWith('scripts/')).sort()).toEqual([
      'scripts/ci-guest.sh',
      'scripts/host-packages.cjs',
    ]);
    expect(
      paths.filter((path) => /\.(js|mjs|d\.ts|d\.mts)$/.test(path) || !path.startsWith('dist/')),
    ).toEqual(paths);
  });

  test('holds what its README links to', () => {
    const paths = packed.files.map(({ path }) => path);
    const readme = readFileSync(join(ROOT, 'README.md'), 'utf8');
    const links = [...readme.matchAll(/\]\(([^)]+)\)/g)]
      .map(([, link]) => link)
      .filter((link) => !/^https:/.test(link));
    expect(links.length).toBeGreaterThan(0);
    const missing = links.filter(
      (link) => !paths.some((path) => path === link || path.startsWith(`${link}/`)),
    );
    expect(missing).toEqual([]);
  });

  test('runs nothing at installation: no script, no binding.gyp, no dependency', () => {
    const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Record<string, never>;
    expect(manifest['gypfile']).toBe(false);
    expect(manifest['dependencies']).toBeUndefined();
    expect(Object.keys(manifest['scripts'] ?? {}).filter((name) => /install|prepare/.test(name))).toEqual([]);
    expect(packed.files.some(({ path }) => path.endsWith('binding.gyp'))).toBe(false);
  });
});

describe('the installed package', () => {
  const USE = `
    console.log(typeof Guest.boot, TeeContext.list().length);
    try { TeeContext.open(); } catch ({ name, message }) { console.log(name, message); }`;
  /** Of the host: most have none. */
  const devices = readdirSync('/dev').filter((name) => /^tee\d+$/.test(name)).length;
  const USED =
    devices > 0
      ? new RegExp(`^function ${devices}\n`)
      : /^function 0\nTeeSystemError ENOENT: .*'\/dev\/tee0': there is no such TEE device.*CONFIG_OPTEE.*\n$/;

  test('loads from CommonJS, with the addon', () => {
    const script = `
      const { TeeContext } = require('node-optee');
      const { Guest } = require('node-optee/qemu');
      if (typeof require('node-optee/ta').defineTrustedApplication !== 'function') throw new Error('no ta');
      ${USE}`;
    const { status, stdout } = run(process.execPath, '-e', script);
    expect(stdout).toMatch(USED);
    expect(status).toBe(0);
  });

  test('loads as an ES module, with the same classes', () => {
    const script = `
      import { createRequire } from 'node:module';
      import * as tee from 'node-optee';
      import { Guest } from 'node-optee/qemu';
      import * as ta from 'node-optee/ta';
      const { TeeContext } = tee;
      const common = createRequire(process.cwd() + '/')('node-optee');
      const commonTa = createRequire(process.cwd() + '/')('node-optee/ta');
      const keys = await import('node-optee/pkcs11');
      const commonKeys = createRequire(process.cwd() + '/')('node-optee/pkcs11');
      const others = (one, two) => Object.keys(one).filter((name) => one[name] !== two[name]);
      console.log('other classes:', [...others(common, tee), ...others(commonTa, ta), ...others(commonKeys, keys)].join());
      ${USE}`;
    const { status, stdout } = run(process.execPath, '--input-type=module', '-e', script);
    const [others, ...used] = stdout.split('\n');
    expect(others).toBe('other classes: ');
    expect(used.join('\n')).toMatch(USED);
    expect(status).toBe(0);
  });

  test('has its command', () => {
    const help = run('npx', '--no-install', 'node-optee', '--help');
    expect(help).toMatchObject({ status: 0 });
    expect(help.stdout).toContain('node-optee COMMAND');
    expect(run('npx', '--no-install', 'node-optee', 'nonsense')).toMatchObject({ status: 2 });
  });

  test('finds its data: the builder plans with it', () => {
    const script = `
      const { rootfsPart } = require('./node_modules/node-optee/dist/qemu/build/rootfs.js');
      const { linuxPart } = require('./node_modules/node-optee/dist/qemu/build/linux.js');
      const { readTested } = require('./node_modules/node-optee/dist/qemu/build/sources.js');
      const sources = { get: () => undefined };
      const linux = linuxPart(sources, {});
      console.log(rootfsPart(sources, {}, linux).name, linux.name, Object.keys(readTested())[0]);`;
    expect(run(process.execPath, '-e', script)).toMatchObject({ stdout: 'rootfs linux linux\n', status: 0 });
  });
});
