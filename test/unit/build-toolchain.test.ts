import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Cache } from '#lib/qemu/build/cache';
import { hasQemu, readToolchain, writeToolchain } from '#lib/qemu/build/toolchain';

const { PATH } = process.env;
let folder: string;
let cache: Cache;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'node-optee-tools-'));
  mkdirSync(join(folder, 'bin'));
  process.env['PATH'] = join(folder, 'bin');
  cache = new Cache(join(folder, 'cache'));
});
afterEach(() => {
  process.env['PATH'] = PATH;
  rmSync(folder, { recursive: true });
});

/** A tool that counts how often it is asked. */
function tool(name: string, version: string): void {
  const path = join(folder, 'bin', name);
  writeFileSync(
    path,
    `#!/bin/sh\necho asked >>${folder}/${name}.asked\necho "${name} ${version}"\necho more\n`,
  );
  chmodSync(path, 0o755);
}

const asked = (name: string): number =>
  readFileSync(join(folder, `${name}.asked`), 'utf8').split('\n').length - 1;

const CROSS = ['gcc', 'as', 'ld'].map((name) => `aarch64-linux-gnu-${name}`);

test("the compiler is the assembler and the linker, too, each with its version's line", () => {
  for (const name of CROSS) tool(name, '12');
  tool('dtc', '1.6');
  expect(readToolchain(cache)).toMatchObject({
    compiler: 'aarch64-linux-gnu-gcc 12; aarch64-linux-gnu-as 12; aarch64-linux-gnu-ld 12',
    dtc: 'dtc 1.6',
    qemu: '',
  });
  expect(hasQemu()).toBe(false);
});

test('a tool is asked again when its file is another one, and only then', () => {
  tool('dtc', '1.6');
  expect(readToolchain(cache).dtc).toBe('dtc 1.6');
  writeToolchain(cache);
  const before = asked('dtc');
  expect(readToolchain(cache).dtc).toBe('dtc 1.6');
  writeToolchain(cache);
  expect(asked('dtc')).toBe(before);
  tool('dtc', '1.6.1');
  expect(readToolchain(cache).dtc).toBe('dtc 1.6.1');
  expect(asked('dtc')).toBe(before + 1);
});

test('a host without a tool takes what the cache was built with', () => {
  tool('dtc', '1.6');
  writeToolchain(cache);
  rmSync(join(folder, 'bin', 'dtc'));
  expect(readToolchain(cache).dtc).toBe('dtc 1.6');
  writeToolchain(cache);
  expect(readToolchain(cache).dtc).toBe('dtc 1.6');
});
