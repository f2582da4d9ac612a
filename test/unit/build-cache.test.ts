import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Cache, LockTakenError, canonical, partKey, sha256 } from '#lib/qemu/build/cache';
import { Snapshot } from '#lib/qemu/build/snapshot';

let folder: string;
let cache: Cache;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'node-optee-cache-'));
  cache = new Cache(join(folder, 'cache'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** The process that has a file open. */
function holderOf(path: string): number {
  const has = (pid: string) => {
    try {
      return readdirSync(`/proc/${pid}/fd`).some((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`) === path);
    } catch {
      return false; // it has ended
    }
  };
  return Number(readdirSync('/proc').find((name) => /^\d+$/.test(name) && has(name)));
}

describe('keys', () => {
  test('do not depend on the order of properties', () => {
    expect(partKey({ a: 1, b: { c: [1, 2], d: 'x' } })).toBe(partKey({ b: { d: 'x', c: [1, 2] }, a: 1 }));
    expect(canonical({ b: 1, a: undefined })).toBe('{"b":1}');
  });

  test('depend on every value and on the order of lists', () => {
    const keys = [{ a: 1 }, { a: 2 }, { a: '1' }, { b: 1 }, { a: [1, 2] }, { a: [2, 1] }].map(partKey);
    expect(new Set(keys).size).toBe(keys.length);
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

  test('work is closed to others, a finished part is not; copies of files are for this user only', async () => {
    const mode = (path: string) => statSync(path).mode & 0o777;
    writeFileSync(join(folder, '.npmrc'), '//registry/:_authToken=secret\n', { mode: 0o644 });
    const modes: number[] = [];
    const { key } = await cache.make('thing', 1, async (into) => {
      new Snapshot(folder, ['.npmrc']).write(into);
      modes.push(mode(into), mode(join(into, '.npmrc')), mode(cache.workFolder('scratch')));
      rmSync(join(into, '.npmrc'));
    });
    expect(modes).toEqual([0o700, 0o600, 0o700]);
    expect(mode(cache.partFolder('thing', key))).toBe(0o755);
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

  test.each([
    ['a file', 'out'],
    ['a folder', 'kit'],
    ['a file in a folder', 'kit/include/header.h'],
  ])('that lost %s is built again', async (_, name) => {
    const { key } = await cache.make('thing', 1, async (into) => {
      writeFileSync(join(into, 'out'), 'hello');
      mkdirSync(join(into, 'kit/include'), { recursive: true });
      writeFileSync(join(into, 'kit/include/header.h'), '#define A 1');
      symlinkSync('include', join(into, 'kit/link'));
    });
    expect(cache.record('thing', key)).toBeDefined();
    rmSync(join(cache.partFolder('thing', key), name), { recursive: true });
    expect(cache.record('thing', key)).toBeUndefined();
  });

  test('that was cut short is built again', async () => {
    const { key } = await cache.make('thing', 1, async (into) => writeFileSync(join(into, 'out'), 'hello'));
    truncateSync(join(cache.partFolder('thing', key), 'out'), 3);
    expect(cache.record('thing', key)).toBeUndefined();
  });

  test('with the record of an older version is good', async () => {
    const { key } = await cache.make('thing', 1, async (into) => writeFileSync(join(into, 'out'), 'hello'));
    const path = join(cache.partFolder('thing', key), 'part.json');
    const { sizes, ...older } = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
    expect(sizes).toEqual({ out: 5 });
    writeFileSync(path, JSON.stringify(older));
    expect(cache.record('thing', key)).toEqual(older);
  });

  test('are told of before they are in place', async () => {
    const make = cache.make(
      'thing',
      1,
      async (into) => writeFileSync(join(into, 'out'), 'hello'),
      (record, folder) => {
        expect(existsSync(cache.partFolder('thing', record.key))).toBe(false);
        expect(readFileSync(join(folder, 'out'), 'utf8')).toBe('hello');
        throw new Error('the disk is full');
      },
    );
    await expect(make).rejects.toThrow('the disk is full');
    expect(cache.record('thing', partKey(1))).toBeUndefined();
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

  test('sweep can do with a program that still writes', async () => {
    const work = cache.workFolder('left');
    const script =
      'i=0; while [ $i -lt 300 ]; do mkdir -p "$1" && : > "$1/$i"; i=$((i+1)); done; echo done; sleep 0.2; rm -r "$1"';
    const writer = spawn('sh', ['-c', script, 'sh', work], { stdio: ['ignore', 'ignore', 'ignore'] });
    const closed = once(writer, 'close');
    await cache.sweep();
    await closed;
    await cache.sweep();
    expect(existsSync(join(cache.path, 'work'))).toBe(false);
  });

  test('a successor takes the place of all, and brings none of its unfinished work', async () => {
    await cache.make('thing', 1, async () => {});
    cache.writeFile('resolved.json', 'old');
    const successor = new Cache(cache.workFolder('successor'));
    successor.writeFile('resolved.json', 'new');
    writeFileSync(join(successor.downloads, 'package'), '');
    successor.workFolder('apt');
    await cache.locked(() => cache.clean(successor));
    expect(readdirSync(cache.path).sort()).toEqual(['downloads', 'lock', 'resolved.json']);
    expect(readFileSync(join(cache.path, 'resolved.json'), 'utf8')).toBe('new');
    expect(readdirSync(cache.downloads)).toEqual(['package']);
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

  test('work whose lock is lost, as flock was killed, is told', async () => {
    const work = cache.locked(
      (held) =>
        new Promise((_, reject) => {
          held.addEventListener('abort', () => reject(held.reason as Error));
          process.kill(holderOf(join(cache.path, 'lock')), 'SIGKILL');
        }),
    );
    await expect(work).rejects.toMatchObject({
      name: 'BuildError',
      message: `the lock of ${cache.path} was lost: flock, which held it, was ended`,
    });
    expect(await cache.locked(async ({ aborted }) => aborted)).toBe(false);
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

  test('that is taken is not waited for by whoever does not want to', async () => {
    await cache.locked(async () => {
      const second = cache.locked(async () => {}, undefined, undefined, false);
      await expect(second).rejects.toBeInstanceOf(LockTakenError);
    });
    expect(await cache.locked(async () => 1, undefined, undefined, false)).toBe(1);
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
