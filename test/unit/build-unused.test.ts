// Parts that nobody uses go: lib/qemu/build/unused.ts.
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdtempSync,
  openSync,
  closeSync,
  readdirSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import { Cache, partKey } from '#lib/qemu/build/cache';
import { Imports } from '#lib/qemu/build/imports';
import { declaredParts, prepareMachine } from '#lib/qemu/build/index';
import { silentProgress } from '#lib/qemu/build/progress';
import { hasUnused, maxAge, removeUnused } from '#lib/qemu/build/unused';

const DAY = 24 * 60 * 60_000;

let folder: string;
let cache: Cache;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'node-optee-unused-'));
  cache = new Cache(join(folder, 'node-optee'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** A part that was used so many days ago; returns its folder. */
async function make(name: string, days: number): Promise<string> {
  const { key } = await cache.make(name, 1, async (into) => writeFileSync(join(into, 'image'), name));
  const path = cache.partFolder(name, key);
  const time = new Date(Date.now() - days * DAY);
  utimesSync(join(path, 'part.json'), time, time);
  return path;
}

test('what was not used for that long goes', async () => {
  const [old, young] = [await make('old', 31), await make('young', 29)];
  expect(await removeUnused(cache)).toEqual([old]);
  expect(readdirSync(join(cache.path, 'parts'))).toHaveLength(1);
  expect(existsSync(young)).toBe(true);
  expect(await removeUnused(cache, 28 * DAY)).toEqual([young]);
});

test('what is used is young again', async () => {
  const path = await make('old', 300);
  cache.touch('old', partKey(1));
  expect(Date.now() - statSync(join(path, 'part.json')).mtimeMs).toBeLessThan(DAY);
  expect(await removeUnused(cache)).toEqual([]);
  cache.touch('nobody', partKey(1));
});

test.each([
  ['has open', true],
  ['was started with', false],
])('what a process %s stays, as the guest does that has a part', async (_, isOpen) => {
  const path = await make('old', 300);
  const image = join(path, 'image');
  const file = openSync(isOpen ? image : '/dev/null', 'r');
  const script = 'process.stdin.resume(); console.log()';
  const words = isOpen ? [] : [`if=none,file=${image}`];
  const guest = spawn(process.execPath, ['-e', script, ...words], {
    stdio: ['pipe', 'pipe', 'inherit', file],
  });
  closeSync(file);
  await once(guest.stdout as Readable, 'data');
  expect(await removeUnused(cache)).toEqual([]);
  guest.stdin?.end();
  await once(guest, 'close');
  expect(await removeUnused(cache)).toEqual([path]);
});

test('there is a look once a day', async () => {
  await make('old', 300);
  expect(hasUnused(cache)).toBe(true);
  expect(hasUnused(cache)).toBe(false);
  const yesterday = new Date(Date.now() - 1.1 * DAY);
  utimesSync(join(cache.path, 'looked-through'), yesterday, yesterday);
  expect(hasUnused(cache)).toBe(true);
});

test.each([
  [undefined, 30 * DAY],
  ['', 30 * DAY],
  ['7', 7 * DAY],
  ['1.5', 1.5 * DAY],
  ['never', Infinity],
])('NODE_OPTEE_CACHE_DAYS=%s', (text, age) => {
  expect(maxAge(text)).toBe(age);
});

test.each(['0', '0.5', '-3', 'soon'])('NODE_OPTEE_CACHE_DAYS=%s is refused', (text) => {
  expect(() => maxAge(text)).toThrow(
    `NODE_OPTEE_CACHE_DAYS must be a number of days, 1 or more, or never, but is '${text}'`,
  );
});

test('a run that finds all it needs keeps that, and removes the rest', async () => {
  const before = process.env['XDG_CACHE_HOME'];
  process.env['XDG_CACHE_HOME'] = folder;
  try {
    const parts: Record<string, { name: string; key: string; recipe: string; sources: object }> = {};
    for (const part of Object.values(declaredParts('dynamic', 24))) {
      const path = await make(part.name, 300);
      const recipe = partKey(part.inputs);
      parts[path.slice(path.lastIndexOf('/') + 1)] = {
        name: part.name,
        key: partKey(1),
        recipe,
        sources: {},
      };
    }
    new Imports(cache).add({
      archive: 'a',
      sha256: '',
      writtenBy: '1',
      importedAt: '',
      parts: parts as never,
    });
    const old = await make('old', 300);
    const { kernel } = await prepareMachine({ progress: silentProgress });
    expect(existsSync(dirname(kernel))).toBe(true);
    expect(existsSync(old)).toBe(false);
    expect(readdirSync(join(cache.path, 'parts'))).toHaveLength(Object.keys(parts).length);
    expect(existsSync(join(cache.path, 'work'))).toBe(false);
  } finally {
    if (before === undefined) delete process.env['XDG_CACHE_HOME'];
    else process.env['XDG_CACHE_HOME'] = before;
  }
});
