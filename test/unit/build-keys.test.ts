import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  appendFileSync,
  cpSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { partKey } from '#lib/qemu/build/cache';
import { Snapshot } from '#lib/qemu/build/snapshot';
import type { SourceList } from '#lib/qemu/build/sources';

const ROOT = dirname(require.resolve('node-optee/package.json'));
const TOOLS = { compiler: 'gcc 12', qemu: 'QEMU 7.2', mke2fs: 'mke2fs 1.47' };
const NO_SOURCES: SourceList = { get: () => undefined };

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'node-optee-keys-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

type Keys = Record<'linux' | 'devKit' | 'optee' | 'firmware' | 'rootfs' | 'deviceTree' | 'node', string>;

/** Keys of the parts that a copy of the package makes. */
function keys(
  root: string,
  tools = TOOLS,
  variant: 'dynamic' | 'static' = 'dynamic',
  sources = NO_SOURCES,
): Keys {
  // Its own data files are where the code is.
  const load = createRequire(join(root, 'package.json'));
  const from = <T>(name: string): T => load(`./dist/qemu/build/${name}.js`) as T;
  const { linuxPart } = from<typeof import('#lib/qemu/build/linux')>('linux');
  const { devKitPart } = from<typeof import('#lib/qemu/build/dev-kit')>('dev-kit');
  const { opteePart } = from<typeof import('#lib/qemu/build/optee')>('optee');
  const { firmwarePart } = from<typeof import('#lib/qemu/build/firmware')>('firmware');
  const { rootfsPart } = from<typeof import('#lib/qemu/build/rootfs')>('rootfs');
  const { deviceTreePart } = from<typeof import('#lib/qemu/build/device-tree')>('device-tree');
  const { nodePart } = from<typeof import('#lib/qemu/build/node')>('node');
  const linux = linuxPart(sources, tools);
  const devKit = devKitPart(sources, tools);
  const optee = opteePart(variant, sources, tools);
  const firmware = firmwarePart(sources, tools, linux, optee);
  const rootfs = rootfsPart(sources, tools, devKit);
  const deviceTree = deviceTreePart('static', { memory: 1024, cpus: 2 }, tools, linux, firmware);
  const node = nodePart(24, sources, tools);
  const parts = { linux, devKit, optee, firmware, rootfs, deviceTree, node };
  return Object.fromEntries(
    Object.entries(parts).map(([name, { inputs }]) => [name, partKey(inputs)]),
  ) as Keys;
}

function changed(before: Keys, after: Keys): string[] {
  return Object.keys(before).filter((name) => before[name as keyof Keys] !== after[name as keyof Keys]);
}

describe('a change of', () => {
  test.each([
    ["the guest's init", 'qemu/agent/init.c', ['rootfs']],
    ['a file of the root file system', 'qemu/rootfs/etc/passwd', ['rootfs']],
    ["the kernel's options", 'qemu/kernel/guest.config', ['linux', 'firmware', 'deviceTree']],
    [
      'a patch',
      'qemu/kernel/0001-tee-register-any-contiguous-dma-buf.patch',
      ['linux', 'firmware', 'deviceTree'],
    ],
    [
      'another patch',
      'qemu/kernel/0002-tee-pin-shared-pages-outside-of-cma.patch',
      ['linux', 'firmware', 'deviceTree'],
    ],
    ['the tested versions', 'qemu/tested.json', []],
    ['the way in which the kernel is built', 'dist/qemu/build/linux.js', ['linux', 'firmware', 'deviceTree']],
    ['the way in which the kit is built', 'dist/qemu/build/dev-kit.js', ['devKit', 'rootfs']],
    ["the options of OP-TEE's images", 'dist/qemu/build/optee.js', ['optee', 'firmware', 'deviceTree']],
    ['the way in which TF-A is built', 'dist/qemu/build/firmware.js', ['firmware', 'deviceTree']],
    ['the way in which the root file system is made', 'dist/qemu/build/rootfs.js', ['rootfs']],
    ['the way in which device trees are made', 'dist/qemu/build/device-tree.js', ['deviceTree']],
    ['the way in which images are made', 'dist/qemu/build/ext4.js', ['rootfs', 'node']],
    ['the way in which Node.js is unpacked', 'dist/qemu/build/node.js', ['node']],
  ])('%s builds nothing anew but what contains it', (_, file, parts) => {
    for (const name of ['package.json', 'dist', 'qemu', 'scripts']) {
      cpSync(join(ROOT, name), join(folder, name), { recursive: true });
    }
    const before = keys(folder);
    expect(before).toEqual(keys(ROOT));
    const isCode = file.endsWith('.js');
    appendFileSync(join(folder, file), isCode ? '// a comment\n' : '\n');
    if (isCode) {
      expect(changed(before, keys(folder))).toEqual([]);
      appendFileSync(join(folder, file), 'void 0;\n');
    }
    expect(changed(before, keys(folder))).toEqual(parts);
  });

  test.each([
    [
      'the compiler',
      { compiler: 'gcc 14' },
      ['linux', 'devKit', 'optee', 'firmware', 'rootfs', 'deviceTree'],
    ],
    ['QEMU', { qemu: 'QEMU 10' }, ['deviceTree']],
    ['mke2fs', { mke2fs: 'mke2fs 1.48' }, ['rootfs', 'node']],
  ])("%s's version builds anew what it makes", (_, tool, parts) => {
    expect(changed(keys(ROOT), keys(ROOT, { ...TOOLS, ...tool }))).toEqual(parts);
  });

  test("OP-TEE's options builds the firmware anew, not the kernel", () => {
    const static_ = keys(ROOT, TOOLS, 'static');
    expect(changed(keys(ROOT), static_)).toEqual(['optee', 'firmware', 'deviceTree']);
  });

  test("a package's files builds anew what is made from it", () => {
    const sources = (digest: string): SourceList => ({
      get: ({ name }) => ({
        package: name,
        version: '1',
        files: { [name]: name === 'optee-os' ? digest : '' },
      }),
    });
    const before = keys(ROOT, TOOLS, 'dynamic', sources('a'));
    expect(changed(before, keys(ROOT, TOOLS, 'dynamic', sources('b')))).toEqual([
      'devKit',
      'optee',
      'firmware',
      'rootfs',
      'deviceTree',
    ]);
  });
});

describe('a snapshot', () => {
  test('is of all names and contents', () => {
    const digests = new Set<string>();
    const add = (): unknown => digests.add(new Snapshot(folder).digest);
    add();
    writeFileSync(join(folder, 'a'), 'x');
    add();
    writeFileSync(join(folder, 'a'), 'y');
    add();
    writeFileSync(join(folder, 'b'), '');
    add();
    rmSync(join(folder, 'a'));
    add();
    expect(digests.size).toBe(5);
    // What is executable differs between a clone and an installed package.
    rmSync(join(folder, 'b'));
    writeFileSync(join(folder, 'b'), '', { mode: 0o755 });
    add();
    expect(digests.size).toBe(5);
  });

  test('writes the files as they were', () => {
    cpSync(join(ROOT, 'qemu/rootfs'), join(folder, 'from'), { recursive: true });
    const snapshot = new Snapshot(join(folder, 'from'));
    const names = snapshot.names;
    expect(names).toContain('etc/passwd');
    const { digest } = snapshot;
    writeFileSync(join(folder, 'from/etc/passwd'), 'edited meanwhile');
    snapshot.write(join(folder, 'to'));
    expect(new Snapshot(join(folder, 'to')).digest).toBe(digest);
    expect(readdirSync(join(folder, 'to/etc')).map((name) => `etc/${name}`)).toEqual(names);
    expect(readFileSync(join(folder, 'to/etc/passwd'), 'utf8')).toBe(
      readFileSync(join(ROOT, 'qemu/rootfs/etc/passwd'), 'utf8'),
    );
  });
});
