import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { partKey } from '#lib/qemu/build/cache';
import { localFiles, lockedFiles, nodeModulesPart } from '#lib/qemu/build/node-modules';
import { npm } from '#lib/qemu/build/npm';

let share: string;
beforeEach(() => {
  share = mkdtempSync(join(tmpdir(), 'node-optee-modules-'));
});
afterEach(() => rmSync(share, { recursive: true, force: true }));

function write(name: string, content: unknown): void {
  mkdirSync(dirname(join(share, name)), { recursive: true });
  writeFileSync(join(share, name), typeof content === 'string' ? content : JSON.stringify(content));
}

const TOOLS = { compiler: '', qemu: '', mke2fs: '' };
const key = (): string => partKey(nodeModulesPart(share, TOOLS).inputs);

describe('local files of a lock file', () => {
  test('are the tarballs, and package.json of what it links to', () => {
    write('package.json', {});
    write('packages/a/package.json', {});
    write('vendor/b-1.0.0.tgz', 'b');
    const packages = {
      '': {},
      'node_modules/a': { link: true, resolved: 'packages/a' },
      'packages/a': { version: '1.0.0' },
      'node_modules/b': { resolved: 'file:vendor/b-1.0.0.tgz', integrity: 'sha512-' },
      'node_modules/c': { version: '1.0.0' },
      'node_modules/self': { link: true, resolved: '' },
    };
    expect(localFiles({ packages }, share)).toEqual([
      'packages/a/package.json',
      'vendor/b-1.0.0.tgz',
      'package.json',
    ]);
    expect(localFiles({}, share)).toEqual([]);
  });

  test.each([
    ['a link', { link: true, resolved: '../a' }, '../a'],
    ['a tarball', { resolved: 'file:../a.tgz' }, '../a.tgz'],
    ['a tarball by its whole path', { resolved: 'file:/a.tgz' }, '/a.tgz'],
    ['what is not there', { resolved: 'file:a.tgz' }, 'a.tgz'],
  ])('must lie in the share: %s', (_, entry, name) => {
    expect(() => localFiles({ packages: { 'node_modules/a': entry } }, share)).toThrow(
      `--node-modules: the lock file names ${name}, which is not in ${share}`,
    );
  });
});

describe('the key', () => {
  beforeEach(() => {
    write('package.json', { name: 'app', dependencies: { a: '^1.0.0' }, scripts: { test: 'jest' } });
    write('package-lock.json', { packages: {} });
  });

  test('changes with what npm goes by', () => {
    const keys = [key()];
    write('package-lock.json', { packages: { 'node_modules/b': { version: '1.0.0' } } });
    keys.push(key());
    write('package.json', { name: 'app', dependencies: { a: '^1.1.0' } });
    keys.push(key());
    write('.npmrc', 'install-strategy=nested\n');
    keys.push(key());
    write('vendor/b.tgz', 'b');
    write('package-lock.json', { packages: { 'node_modules/b': { resolved: 'file:vendor/b.tgz' } } });
    keys.push(key());
    write('vendor/b.tgz', 'c');
    keys.push(key());
    expect(new Set(keys).size).toBe(6);
  });

  test('does not with the rest of package.json', () => {
    const before = key();
    write('package.json', { scripts: { test: 'node --test' }, dependencies: { a: '^1.0.0' }, name: 'app' });
    expect(key()).toBe(before);
  });
});

test.each(['package.json', 'package-lock.json', 'npm-shrinkwrap.json'])('%s must be JSON', (name) => {
  write('package.json', {});
  write('package-lock.json', {});
  write(name, '<<<<<<< HEAD\n');
  expect(() => lockedFiles(share)).toThrow(`--node-modules: ${join(share, name)} is not JSON`);
  expect(() => lockedFiles(share)).toThrow(expect.objectContaining({ code: 'ERR_QEMU_BUILD' }));
});

test('a share without a lock file is told so', () => {
  expect(() => lockedFiles(share)).toThrow(`there is no package-lock.json in ${share}`);
});

test("npm has the user's tokens, and not the command line of an npm that runs us", async () => {
  write('package.json', { name: 'app', version: '1.0.0', scripts: { env: 'env' } });
  const before = { ...process.env };
  try {
    Object.assign(process.env, {
      NODE_AUTH_TOKEN: 'secret',
      npm_config_dry_run: 'true',
      npm_config_workspace: 'a',
    });
    const env = await npm(['run', '--silent', 'env'], { cwd: share });
    expect(env).toMatch(/^NODE_AUTH_TOKEN=secret$/m);
    expect(env).not.toMatch(/^npm_config_(dry_run|workspace)=/m);
  } finally {
    process.env = before;
  }
});
