// Parts that go out in an archive and come in from one: lib/qemu/build/exchange.ts, archive.ts, imports.ts, tar.ts.
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  cpSync,
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
import { basename, dirname, join } from 'node:path';
import { Archive, packedPart, writeArchive, type Contents, type PackedPart } from '#lib/qemu/build/archive';
import { Cache, partKey } from '#lib/qemu/build/cache';
import { cacheKey, exportParts, importParts } from '#lib/qemu/build/exchange';
import { Imports } from '#lib/qemu/build/imports';
import { declaredParts, prepareDevKit, prepareMachine } from '#lib/qemu/build/index';
import { silentProgress } from '#lib/qemu/build/progress';
import { TAR_END, readTar, tarHeader, tarPadding } from '#lib/qemu/build/tar';
import { compressZstd } from '#lib/qemu/build/zstd';
import { decodeZstd } from '#lib/qemu/build/zstd-decoder';

const ROOT = dirname(require.resolve('node-optee/package.json'));

let folder: string;
let archive: string;
let before: string | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'node-optee-archive-'));
  archive = join(folder, 'parts.tar.zst');
  before = process.env['XDG_CACHE_HOME'];
  process.env['XDG_CACHE_HOME'] = join(folder, 'home');
});
afterEach(() => {
  if (before === undefined) delete process.env['XDG_CACHE_HOME'];
  else process.env['XDG_CACHE_HOME'] = before;
  rmSync(folder, { recursive: true });
});

const SOURCE = {
  package: 'made-up',
  version: '1.2-3',
  files: { 'made-up.dsc': 'a'.repeat(64) },
  passedOver: [],
};

/** Every part of `dynamic` with Node.js 24, of a few bytes each: an archive of them in `archive`. */
async function makeArchive(
  change: (contents: Contents) => Contents = (contents) => contents,
): Promise<Contents> {
  const from = new Cache(join(folder, 'from'));
  const parts: Record<string, PackedPart> = {};
  for (const part of Object.values(declaredParts('dynamic', 24))) {
    const inputs = { madeUp: part.name };
    const { key } = await from.make(part.name, inputs, async (into) => {
      writeFileSync(join(into, 'Image'), `the ${part.name}`);
      if (part.name !== 'ta-dev-kit') return;
      const kit = join(into, 'export-ta_arm64');
      mkdirSync(join(kit, 'a'.repeat(80), 'b'.repeat(60)), { recursive: true });
      writeFileSync(join(kit, 'a'.repeat(80), 'b'.repeat(60), 'long'), 'name');
      writeFileSync(join(kit, 'sign.py'), '#!/usr/bin/python3\n', { mode: 0o755 });
      mkdirSync(join(kit, 'lib'));
      symlinkSync('../sign.py', join(kit, 'lib/sign'));
      // 4 MB, of which a page and a byte are no hole.
      const image = join(into, 'image');
      writeFileSync(image, Buffer.alloc(4096, 1));
      truncateSync(image, 4_000_001);
      appendFileSync(image, 'x');
      writeFileSync(join(into, 'empty'), '');
    });
    const from_ = from.partFolder(part.name, key);
    const known = { name: part.name, key, recipe: partKey(part.inputs), sources: { [part.name]: SOURCE } };
    parts[basename(from_)] = await packedPart(known, from_);
  }
  const contents = change({ writtenBy: '0.0.1', machines: ['dynamic'], nodes: [24], parts });
  await writeArchive(archive, contents, (name) => join(from.path, 'parts', name));
  return contents;
}

/** All that is below a folder, with contents, but for what a lock leaves. */
function tree(path: string): string[] {
  if (!existsSync(path)) return [];
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .map((entry) => {
      const file = join(entry.parentPath, entry.name);
      return `${file} ${entry.isFile() && statSync(file).size < 1 << 20 ? readFileSync(file, 'latin1') : ''}`;
    })
    .sort();
}

const OPTIONS = { progress: silentProgress };

describe('an archive', () => {
  test('is found by every later run, and goes out again as it came', async () => {
    const { parts } = await makeArchive();
    const cache = new Cache();
    const info = await importParts(archive, OPTIONS);
    expect(info).toMatchObject({ machines: ['dynamic'], nodes: [24], writtenBy: '0.0.1' });
    expect(info.sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(readdirSync(join(cache.path, 'parts')).sort()).toEqual(Object.keys(parts).sort());
    expect(existsSync(join(cache.path, 'work'))).toBe(false);

    const machine = await prepareMachine(OPTIONS);
    expect(readFileSync(machine.kernel, 'utf8')).toBe('the linux');
    const kit = await prepareDevKit(OPTIONS);
    expect(kit).toBe(machine.taDevKit);
    expect(statSync(join(kit, 'sign.py')).mode & 0o777).toBe(0o755);
    expect(readlinkSync(join(kit, 'lib/sign'))).toBe('../sign.py');
    expect(readFileSync(join(kit, 'a'.repeat(80), 'b'.repeat(60), 'long'), 'utf8')).toBe('name');
    const image = statSync(join(kit, '../image'));
    expect(image.size).toBe(4_000_002);
    expect(image.blocks * 512).toBeLessThan(1 << 20);

    const again = join(folder, 'again.tar.zst');
    const exported = await exportParts(again, OPTIONS);
    expect(exported).toMatchObject({ machines: ['dynamic'], nodes: [24] });
    expect((await Archive.open(again)).contents.parts).toEqual(parts);
    await importParts(again, OPTIONS);
    expect(new Imports(cache).sets).toHaveLength(1);
    expect(new Imports(cache).sets[0].parts).toMatchObject({
      [Object.keys(parts)[0]]: { sources: expect.anything() as unknown },
    });
  });

  test('is read by tar and zstd, and is the same each time', async () => {
    await makeArchive();
    const first = readFileSync(archive);
    const { stdout } = spawnSync('sh', ['-c', 'zstd -dc "$1" | tar tf -', 'sh', archive], {
      encoding: 'utf8',
    });
    expect(stdout.split('\n')[0]).toBe('contents.json');
    expect(stdout).toMatch(/^linux-[0-9a-f]{20}\/Image$/m);
    const { parts } = (await Archive.open(archive)).contents;
    await writeArchive(archive, { ...(await Archive.open(archive)).contents, parts }, (name) =>
      join(folder, 'from/parts', name),
    );
    expect(readFileSync(archive).equals(first)).toBe(true);
  });

  test('mends a part that is broken here', async () => {
    const { parts } = await makeArchive();
    await importParts(archive, OPTIONS);
    const [linux = ''] = Object.keys(parts).filter((name) => name.startsWith('linux-'));
    const image = join(new Cache().path, 'parts', linux, 'Image');
    truncateSync(image, 3);
    await importParts(archive, OPTIONS);
    expect(readFileSync(image, 'utf8')).toBe('the linux');
  });

  test('cannot be written where there is no folder, and nothing is left', async () => {
    await makeArchive();
    await importParts(archive, OPTIONS);
    const file = join(folder, 'none/parts.tar.zst');
    await expect(exportParts(file, OPTIONS)).rejects.toThrow(`${file} cannot be written: ENOENT`);
    mkdirSync(join(folder, 'is-a-folder'));
    await expect(exportParts(join(folder, 'is-a-folder'), OPTIONS)).rejects.toThrow(
      'cannot be written: EISDIR',
    );
    expect(readdirSync(folder).sort()).toEqual(['from', 'home', 'is-a-folder', 'parts.tar.zst']);
  });

  test.each([
    [{ machines: ['riscv'] }, 'machine'],
    [{ machines: [] }, 'machines'],
    [{ nodes: [18] }, 'node'],
    [{ nodes: 24 }, 'nodes'],
    [{ machine: 'static' }, 'has no machine'],
  ])('with %j is refused', async (options, message) => {
    await expect(exportParts(archive, options as never)).rejects.toThrow(message);
    await expect(async () => cacheKey(options as never)).rejects.toThrow(message);
    expect(existsSync(join(folder, 'home'))).toBe(false);
  });
});

describe('refused by name, with the cache as it was:', () => {
  /** Another part, so that there is something to lose. */
  async function expectRefused(reason: string | RegExp): Promise<void> {
    const cache = new Cache();
    await cache.make('thing', 1, async (into) => writeFileSync(join(into, 'out'), 'hello'));
    await cache.locked(() => cache.sweep());
    const home = tree(cache.path);
    const error = await importParts(archive, OPTIONS).catch((error: unknown) => error);
    expect(error).toMatchObject({ name: 'BuildError', message: expect.stringContaining(archive) as unknown });
    expect((error as Error).message).toMatch(reason);
    expect(tree(cache.path)).toEqual(home);
    expect(readdirSync(folder).sort()).toEqual(expect.arrayContaining(['home']));
    expect(existsSync(join(folder, 'evil'))).toBe(false);
  }

  test('what is not there, or no archive', async () => {
    await expectRefused('cannot be read: ENOENT');
    writeFileSync(archive, 'no archive');
    await expectRefused(/is no archive of node-optee's: /);
    writeFileSync(archive, '');
    await expectRefused(/is no archive of node-optee's: /);
    const words = ['-c', 'echo hi > "$1/hi" && tar c -C "$1" hi | zstd -qf -o "$2"', 'sh', folder, archive];
    spawnSync('sh', words);
    await expectRefused(/is no archive of node-optee's: /);
  });

  test('what is cut', async () => {
    await makeArchive();
    const whole = readFileSync(archive);
    for (const length of [
      10,
      200,
      whole.length >> 1,
      whole.length - 60,
      whole.length - 4,
      whole.length - 1,
    ]) {
      writeFileSync(archive, whole.subarray(0, length));
      await expectRefused(/ cut|damaged/);
    }
  });

  test('what has a bit turned over', async () => {
    await makeArchive();
    const whole = readFileSync(archive);
    let refused = 0;
    for (let at = 0; at < whole.length - 4; at += 1 + (whole.length >> 4)) {
      const bytes = Buffer.from(whole);
      bytes[at] ^= 4;
      writeFileSync(archive, bytes);
      // Some bits say nothing: which of two equal bytes a copy is of, say.
      const same = await Promise.resolve()
        .then(() => Buffer.concat([...decodeZstd(bytes)].map((piece) => Buffer.from(piece))))
        .then(
          (plain) => plain.equals(Buffer.concat([...decodeZstd(whole)].map((piece) => Buffer.from(piece)))),
          () => false,
        );
      if (same) continue;
      await expectRefused(/./);
      refused++;
    }
    expect(refused).toBeGreaterThan(10);
  });

  interface Entry {
    name: string;
    bytes?: Buffer;
    target?: string;
    type?: 'file' | 'link';
    executable?: boolean;
  }

  /** Writes the archive anew with other entries. */
  async function rewrite(change: (entries: Entry[]) => Entry[]): Promise<void> {
    const entries: Entry[] = [];
    for (const [{ name, type, target, executable }, bytes] of readTar(decodeZstd(readFileSync(archive)))) {
      const all = Buffer.concat([...bytes].map((piece) => Buffer.from(piece)));
      entries.push({ name, bytes: all, target, type: type as 'file', executable });
    }
    rmSync(archive);
    async function* pieces(): AsyncGenerator<Buffer> {
      for (const entry of change(entries)) {
        const { name, bytes = Buffer.alloc(0), target = '', type = 'file', executable = false } = entry;
        yield tarHeader({ name, type, size: bytes.length, target, executable });
        yield bytes;
        yield tarPadding(bytes.length);
      }
      yield TAR_END;
    }
    await compressZstd(pieces(), archive);
  }

  const linux = ({ name }: Entry): boolean => /^linux-.*Image$/.test(name);

  test.each<[string, (entries: Entry[]) => Entry[], RegExp]>([
    [
      'a file with other bytes',
      (all) => all.map((entry) => (linux(entry) ? { ...entry, bytes: Buffer.from('the limux') } : entry)),
      /linux-\w+\/Image was altered/,
    ],
    [
      'a file with more bytes',
      (all) => all.map((entry) => (linux(entry) ? { ...entry, bytes: Buffer.from('the linux!') } : entry)),
      /Image is not what/,
    ],
    ['a file less', (all) => all.filter((entry) => !linux(entry)), /it lacks linux-\w+\/Image/],
    ['a file more', (all) => [...all, { name: 'linux-0/evil' }], /it has a "linux-0\/evil" that its list/],
    ['a file twice', (all) => [...all, ...all.filter(linux)], /it has a "linux-\w+\/Image" that its list/],
    [
      'a link in the place of a file',
      (all) =>
        all.map((entry) =>
          linux(entry) ? { name: entry.name, type: 'link', target: '/etc/passwd' } : entry,
        ),
      /Image is not what/,
    ],
    ['a name with ..', (all) => [...all, { name: '../../evil', bytes: Buffer.from('x') }], /"..\/..\/evil"/],
    ['an absolute name', (all) => [...all, { name: '/tmp/evil', bytes: Buffer.from('x') }], /"\/tmp\/evil"/],
    [
      'a program that was none',
      (all) => all.map((entry) => (linux(entry) ? { ...entry, executable: true } : entry)),
      /Image is not what/,
    ],
    [
      'an altered list of contents',
      ([contents, ...all]) => [
        { ...contents, bytes: Buffer.from(String(contents.bytes).replace('1.2-3', '1.2-4')) },
        ...all,
      ],
      /its list of contents was altered/,
    ],
    [
      'a list of contents of another format',
      ([contents, ...all]) => [
        { ...contents, bytes: Buffer.from(String(contents.bytes).replace('"format": 1', '"format": 2')) },
        ...all,
      ],
      /its format is 2, and this version of node-optee reads 1 only/,
    ],
    ['no list of contents', ([, ...all]) => all, /it has no list of contents/],
    [
      'a list of contents that is none',
      ([contents, ...all]) => [{ ...contents, bytes: Buffer.from('{}') }, ...all],
      /its format is undefined/,
    ],
  ])('%s', async (_, change, reason) => {
    await makeArchive();
    await rewrite(change);
    await expectRefused(reason);
  });

  /** The list of contents itself, well made, is somebody else's. */
  const listed = (change: (part: PackedPart) => Partial<PackedPart>) => (contents: Contents) => ({
    ...contents,
    parts: Object.fromEntries(
      Object.entries(contents.parts).map(([name, part]) => [
        name,
        part.name === 'ta-dev-kit' ? { ...part, ...change(part) } : part,
      ]),
    ),
  });
  const file = { size: 1, sha256: '0'.repeat(64) };

  test.each<[string, (contents: Contents) => Contents, RegExp]>([
    [
      'another recipe',
      listed(() => ({ recipe: '0'.repeat(20) })),
      /0\.0\.1 wrote it, .* builds ta-dev-kit otherwise/,
    ],
    ['a part that nobody knows', listed(() => ({ name: 'evil' })), /wrong part/],
    ['a key with ..', listed(() => ({ key: '../../../evil' })), /wrong part/],
    [
      'a file with .. in its path',
      listed(({ files }) => ({ files: { ...files, '../evil': file } })),
      /wrong path/,
    ],
    [
      'a file with an absolute path',
      listed(({ files }) => ({ files: { ...files, '/evil': file } })),
      /wrong path/,
    ],
    ['an empty name in a path', listed(({ files }) => ({ files: { ...files, 'a//b': file } })), /wrong path/],
    [
      'a size below zero',
      listed(({ files }) => ({ files: { ...files, a: { ...file, size: -1 } } })),
      /wrong size/,
    ],
    [
      'a file below a link',
      listed(({ files }) => ({ files: { ...files, 'd/evil': file }, links: { d: 'export-ta_arm64' } })),
      /wrong path/,
    ],
    ['a link below a link', listed(() => ({ links: { d: 'export-ta_arm64', 'd/e': 'x' } })), /wrong path/],
    ['an absolute link', listed(() => ({ links: { evil: '/etc/passwd' } })), /wrong link/],
    ['a link out of the folder', listed(() => ({ links: { 'a/evil': '../../x' } })), /wrong link/],
    [
      'a link that goes up behind a link',
      listed(() => ({ links: { a: 'b/../../x', b: 'c/d' } })),
      /wrong link/,
    ],
    ['a link to the folder itself', listed(() => ({ links: { evil: '.' } })), /wrong link/],
    [
      'a version with control characters',
      (contents) => ({ ...contents, writtenBy: '\u001b[2J' }),
      /wrong version/,
    ],
  ])('a list of contents with %s', async (_, change, reason) => {
    await makeArchive();
    const { contents } = await Archive.open(archive);
    const changed = change(contents);
    const text = { format: 1, digest: partKey(changed), ...changed };
    await rewrite(([list, ...all]) => [
      { ...list, bytes: Buffer.from(JSON.stringify(text, null, 2) + '\n') },
      ...all,
    ]);
    await expectRefused(reason);
    expect(existsSync('/tmp/evil')).toBe(false);
  });

  test('a record that is not of its part', async () => {
    await makeArchive();
    const { contents } = await Archive.open(archive);
    const [name = ''] = Object.keys(contents.parts).filter((part) => part.startsWith('linux-'));
    const path = join(folder, 'from/parts', name, 'part.json');
    writeFileSync(path, readFileSync(path, 'utf8').replace('"madeUp": "linux"', '"madeUp": "limux"'));
    const part = await packedPart(contents.parts[name], join(folder, 'from/parts', name));
    const parts = { ...contents.parts, [name]: part };
    await writeArchive(archive, { ...contents, parts }, (of) => join(folder, 'from/parts', of));
    await expectRefused(/the record of linux is not that of its files/);
  });

  test('one that is ended', async () => {
    await makeArchive();
    const over = new AbortController();
    const cache = new Cache();
    const importing = importParts(archive, { ...OPTIONS, signal: over.signal });
    setTimeout(() => over.abort(new Error('enough')), 20);
    await expect(importing).rejects.toThrow('enough');
    expect(existsSync(join(cache.path, 'imported.json'))).toBe(false);
  });
});

describe('the key of a cache', () => {
  test('is one word, and the same for the same machines in any order', () => {
    expect(cacheKey()).toMatch(/^node-optee-dynamic-node24-[0-9a-f]{20}$/);
    expect(cacheKey({ machines: ['dynamic'], nodes: [24] })).toBe(cacheKey());
    const several = cacheKey({ machines: ['static', 'dynamic', 'static'], nodes: [26, 22] });
    expect(several).toMatch(/^node-optee-dynamic-static-node22-26-[0-9a-f]{20}$/);
    expect(cacheKey({ machines: ['dynamic', 'static'], nodes: [22, 26] })).toBe(several);
  });

  test('changes with what the machines are built from, and with nothing else', () => {
    const root = join(folder, 'package');
    for (const name of ['package.json', 'dist', 'qemu', 'scripts'])
      cpSync(join(ROOT, name), join(root, name), { recursive: true });
    const key = (): string =>
      spawnSync(process.execPath, [join(root, 'dist/cli.js'), 'qemu', '--cache-key'], { encoding: 'utf8' })
        .stdout;
    const before = key();
    expect(before).toBe(`${cacheKey()}\n`);
    writeFileSync(join(root, 'README.md'), 'new');
    appendFileSync(join(root, 'dist/commands/qemu.js'), '// new');
    expect(key()).toBe(before);
    for (const name of ['kernel/guest.config', 'agent/init.c', 'tested.json']) {
      const path = join(root, 'qemu', name);
      if (!existsSync(path)) continue;
      const text = readFileSync(path, 'utf8');
      writeFileSync(
        path,
        text.replace(/\d/, (digit) => String((Number(digit) + 1) % 10)),
      );
      expect({ name, same: key() === before }).toEqual({ name, same: false });
      writeFileSync(path, text);
    }
    expect(key()).toBe(before);
  });

  test('is printed without a cache, a network or a tool of the host', () => {
    const cli = join(__dirname, '../../../dist/cli.js');
    const env = { PATH: join(folder, 'empty'), XDG_CACHE_HOME: join(folder, 'home') };
    const words = [cli, 'qemu', '--cache-key', '--machine', 'dynamic,static', '--node', '22', '--node=26'];
    const { status, stdout, stderr } = spawnSync(process.execPath, words, { encoding: 'utf8', env });
    expect({ status, stdout, stderr }).toEqual({
      status: 0,
      stdout: `${cacheKey({ machines: ['dynamic', 'static'], nodes: [22, 26] })}\n`,
      stderr: '',
    });
    expect(existsSync(join(folder, 'home'))).toBe(false);
  });
});
