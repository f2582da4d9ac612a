import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Cache, canonical, partKey, sha256, treeDigest } from '#lib/qemu/build/cache';

let folder: string;
let cache: Cache;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'node-optee-cache-'));
  cache = new Cache(join(folder, 'cache'));
});
afterEach(() => rmSync(folder, { recursive: true }));

describe('keys', () => {
  test('do not depend on the order of properties', () => {
    expect(partKey({ a: 1, b: { c: [1, 2], d: 'x' } })).toBe(partKey({ b: { d: 'x', c: [1, 2] }, a: 1 }));
    expect(canonical({ b: 1, a: undefined })).toBe('{"b":1}');
  });

  test('depend on every value and on the order of lists', () => {
    const keys = [{ a: 1 }, { a: 2 }, { a: '1' }, { b: 1 }, { a: [1, 2] }, { a: [2, 1] }].map(partKey);
    expect(new Set(keys).size).toBe(keys.length);
  });

  test('a tree digest sees names, contents and the executable bit', () => {
    const digests = new Set<string>();
    writeFileSync(join(folder, 'a'), 'x');
    digests.add(treeDigest(folder));
    writeFileSync(join(folder, 'a'), 'y');
    digests.add(treeDigest(folder));
    writeFileSync(join(folder, 'a'), 'y', { mode: 0o755 });
    rmSync(join(folder, 'a'));
    writeFileSync(join(folder, 'a'), 'y', { mode: 0o755 });
    digests.add(treeDigest(folder));
    writeFileSync(join(folder, 'b'), '');
    digests.add(treeDigest(folder));
    expect(digests.size).toBe(4);
  });
});

describe('parts', () => {
  test('a finished part has a record with its inputs and checksums', async () => {
    const made = await cache.make('thing', { version: 1 }, async (into) => {
      writeFileSync(join(into, 'out'), 'hello');
    });
    expect(cache.record('thing', partKey({ version: 1 }))).toEqual(made);
    expect(made.files).toEqual({ out: await sha256(join(cache.partFolder('thing', made.key), 'out')) });
    expect(made.inputs).toEqual({ version: 1 });
    expect(cache.record('thing', partKey({ version: 2 }))).toBeUndefined();
  });

  test('a failed build leaves nothing that is taken for good', async () => {
    const build = cache.make('thing', 1, async (into) => {
      writeFileSync(join(into, 'out'), 'half');
      throw new Error('the compiler stopped');
    });
    await expect(build).rejects.toThrow('the compiler stopped');
    expect(cache.record('thing', partKey(1))).toBeUndefined();
    expect(existsSync(cache.partFolder('thing', partKey(1)))).toBe(false);
    expect(readdirSync(join(cache.path, 'work'))).toEqual([]);
  });

  test('a folder that lost its record is built again', async () => {
    const { key } = await cache.make('thing', 1, async (into) => writeFileSync(join(into, 'out'), 'old'));
    const record = join(cache.partFolder('thing', key), 'part.json');
    writeFileSync(record, readFileSync(record, 'utf8').slice(0, 20));
    expect(cache.record('thing', key)).toBeUndefined();
    await cache.make('thing', 1, async (into) => writeFileSync(join(into, 'out'), 'new'));
    expect(readFileSync(join(cache.partFolder('thing', key), 'out'), 'utf8')).toBe('new');
  });

  test('sweep removes what an interrupted build left, clean removes all', async () => {
    writeFileSync(join(cache.workFolder('left'), 'file'), '');
    await cache.make('thing', 1, async () => {});
    await cache.sweep();
    expect(existsSync(join(cache.path, 'work'))).toBe(false);
    expect(cache.record('thing', partKey(1))).toBeDefined();
    await cache.locked(() => cache.clean());
    expect(readdirSync(cache.path)).toEqual(['lock']);
  });
});

describe('lock', () => {
  test('a second holder waits for the first and is told so', async () => {
    const order: string[] = [];
    let release = (): void => {};
    const held = new Promise<void>((resolve) => (release = resolve));
    let taken = (): void => {};
    const first = new Promise<void>((resolve) => (taken = resolve));
    const one = cache.locked(async () => {
      taken();
      await held;
      order.push('first');
    });
    await first;
    const two = cache.locked(
      async () => void order.push('second'),
      () => {
        order.push('waiting');
        release();
      },
    );
    await Promise.all([one, two]);
    expect(order).toEqual(['waiting', 'first', 'second']);
  });

  test('a holder that is killed leaves no lock behind', async () => {
    const script = `
      const { Cache } = require(process.argv[1]);
      new Cache(process.argv[2]).locked(() => new Promise(() => { console.log('held'); setInterval(() => {}, 1000); }));`;
    const holder = spawn(
      process.execPath,
      ['-e', script, require.resolve('#lib/qemu/build/cache'), cache.path],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    await once(holder.stdout, 'data');
    holder.kill('SIGKILL');
    await once(holder, 'close');
    expect(await cache.locked(async () => 'mine')).toBe('mine');
  });

  test('a wait can be aborted', async () => {
    await cache.locked(async () => {
      const waiting = cache.locked(async () => {}, undefined, AbortSignal.timeout(100));
      await expect(waiting).rejects.toMatchObject({ name: 'TimeoutError' });
    });
  });

  test('is free again after work that failed', async () => {
    await expect(cache.locked(() => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(await cache.locked(async () => 1)).toBe(1);
  });
});

test('the cache follows XDG_CACHE_HOME, unless that is not absolute', () => {
  const before = process.env['XDG_CACHE_HOME'];
  try {
    process.env['XDG_CACHE_HOME'] = '/somewhere';
    expect(new Cache().path).toBe('/somewhere/node-optee');
    process.env['XDG_CACHE_HOME'] = 'relative';
    expect(new Cache().path).toMatch(/\/\.cache\/node-optee$/);
  } finally {
    if (before === undefined) delete process.env['XDG_CACHE_HOME'];
    else process.env['XDG_CACHE_HOME'] = before;
  }
});
