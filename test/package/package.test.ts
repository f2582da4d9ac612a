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
  test('holds these files and no other', () => {
    const tracked = (...folders: string[]): string[] =>
      spawnSync('git', ['ls-files', ...folders], { cwd: ROOT, encoding: 'utf8' })
        .stdout.trim()
        .split('\n');
    const compiled = tracked('lib').flatMap((path) => {
      const [, name = '', kind = ''] = /^lib\/(.*)\.(m?)ts$/.exec(path) ?? [];
      return [`dist/${name}.${kind}js`, `dist/${name}.d.${kind}ts`];
    });
    expect(packed.files.map(({ path }) => path).sort()).toEqual(
      [
        'CHANGELOG.md',
        'LICENSE',
        'LICENSE.GPL-2.0-only',
        'README.md',
        'SECURITY.md',
        'package.json',
        'prebuilds/linux-arm64/node-optee.node',
        'prebuilds/linux-x64/node-optee.node',
        'scripts/ci-guest.sh',
        'scripts/host-packages.cjs',
        ...compiled,
        ...tracked('docs', 'examples', 'qemu', 'test/ta'),
      ].sort(),
    );
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

describe('what the project is developed with', () => {
  interface Manifest {
    readonly dependencies?: Record<string, string>;
    readonly devDependencies?: Record<string, string>;
    readonly optionalDependencies?: Record<string, string>;
  }
  interface Lock {
    readonly lockfileVersion: number;
    readonly packages: Record<string, Manifest & { version?: string; integrity?: string; link?: boolean }>;
  }
  const read = <T>(path: string): T => JSON.parse(readFileSync(join(ROOT, path), 'utf8')) as T;

  test.each(['', 'test/runtimes/', 'test/tools/'])(
    'is pinned, each package with its checksum: %spackage-lock.json',
    (folder) => {
      const manifest = read<Manifest>(`${folder}package.json`);
      const { packages, lockfileVersion } = read<Lock>(`${folder}package-lock.json`);
      expect(lockfileVersion).toBe(3);
      // The lock file is that of this manifest: `npm ci` takes no other.
      const wanted = ({
        dependencies,
        devDependencies,
        optionalDependencies,
      }: Manifest): Record<string, string> => ({
        ...dependencies,
        ...devDependencies,
        ...optionalDependencies,
      });
      expect(wanted(packages[''])).toEqual(wanted(manifest));
      const names = Object.keys(wanted(manifest));
      expect(names.length).toBeGreaterThan(0);
      for (const name of names) expect(packages).toHaveProperty([`node_modules/${name}`]);
      for (const [path, { version, integrity, link }] of Object.entries(packages)) {
        if (path === '') continue;
        expect({ path, link, version, integrity }).toEqual({
          path,
          link: undefined,
          version: expect.stringMatching(/^\d+\.\d+\.\d+/),
          integrity: expect.stringMatching(/^sha512-/),
        });
      }
    },
  );
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
