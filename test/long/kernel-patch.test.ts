import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { copyFileSync, cpSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { Guest, prepareMachine } from 'node-optee/qemu';
import { Cache, partKey } from '#lib/qemu/build/cache';
import { BuildError, BuildLog, command } from '#lib/qemu/build/command';
import { type Candidate, DebianArchive } from '#lib/qemu/build/debian';
import { KERNEL_PATCHES } from '#lib/qemu/build/linux';
import { dataFile } from '#lib/qemu/build/part';
import { LINUX, Sources, debianCandidates } from '#lib/qemu/build/sources';

const PATCHES = KERNEL_PATCHES.map((name) => dataFile('kernel', name));

/** What the patches touch, and what checks them. */
const WANTED = [
  '*/drivers/tee/*.[ch]',
  '*/include/linux/tee_core.h',
  '*/Documentation/admin-guide/kernel-parameters.txt',
  '*/Documentation/userspace-api/tee.rst',
  '*/scripts/checkpatch.pl',
  '*/scripts/spelling.txt',
  '*/scripts/const_structs.checkpatch',
];

let folder: string;
let log: BuildLog;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'node-optee-patch-'));
  log = new BuildLog(join(folder, 'log'));
});
afterAll(() => {
  log.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Parts of this test: those files of one version. Kept: a version never changes. */
const PART = 'linux-tee';

type Version = Pick<Candidate, 'package' | 'version'>;

function inputsOf({ package: name, version }: Version): { wanted: string[]; candidate: Version } {
  return { wanted: WANTED, candidate: { package: name, version } };
}

/** What was looked at before, for where there is no network. */
function known(cache: Cache): Version[] {
  return readdirSync(join(cache.path, 'parts'))
    .filter((name) => name.startsWith(`${PART}-`))
    .map((name) => cache.record(PART, name.slice(PART.length + 1))?.inputs as ReturnType<typeof inputsOf>)
    .filter(({ wanted }) => isDeepStrictEqual(wanted, WANTED))
    .map(({ candidate }) => candidate);
}

/** The .deb of a version: the builder's own download, or one from the mirror. */
async function download(
  cache: Cache,
  archive: DebianArchive | undefined,
  candidate: Version,
  into: string,
): Promise<void> {
  const sources = new Sources(cache);
  if (sources.get(LINUX)?.version === candidate.version) {
    const [deb = ''] = await sources.files(LINUX, log);
    copyFileSync(deb, join(into, 'linux.deb'));
  } else await archive?.downloadBinaries([{ ...candidate, suites: [] }], into);
}

function why(error: BuildError): string {
  return /^E:.*/m.exec(error.message)?.[0] ?? error.message;
}

async function teeDriver(
  cache: Cache,
  archive: DebianArchive | undefined,
  candidate: Version,
): Promise<string | undefined> {
  const inputs = inputsOf(candidate);
  const path = cache.partFolder(PART, partKey(inputs));
  if (cache.record(PART, partKey(inputs))) return path;
  const scratch = mkdtempSync(join(folder, 'unpack-'));
  try {
    await download(cache, archive, candidate, scratch);
  } catch (error) {
    // A mirror can lack a file that its index names, or fail; what cannot be had cannot be built either.
    if (!(error instanceof BuildError)) throw error;
    process.stderr.write(`${candidate.package} ${candidate.version} could not be had: ${why(error)}\n`);
    return undefined;
  }
  await command('sh', ['-c', 'dpkg-deb -x *.deb . && rm *.deb'], { cwd: scratch, log });
  const source = join(scratch, 'usr/src');
  const tarball = readdirSync(source).find((name) => name.endsWith('.tar.xz')) ?? '';
  await command('tar', ['-xf', join(source, tarball), '--strip-components=1', '--wildcards', ...WANTED], {
    cwd: scratch,
    log,
  });
  rmSync(join(scratch, 'usr'), { recursive: true });
  await cache.locked(() =>
    cache.make(PART, inputs, async (into) => cpSync(scratch, into, { recursive: true })),
  );
  rmSync(scratch, { recursive: true });
  return path;
}

describe('the kernel patches', () => {
  test('apply to every linux-source on offer that has SHM_REGISTER_FD, and are clean by its checkpatch', async () => {
    const cache = new Cache();
    const built = new Sources(cache).get(LINUX);
    if (!built) throw new Error('no Linux was built');
    let archive: DebianArchive | undefined;
    let candidates: Version[];
    try {
      archive = await DebianArchive.open(mkdtempSync(join(folder, 'apt-')), log);
      candidates = await debianCandidates(archive, LINUX);
    } catch (error) {
      if (!(error instanceof BuildError)) throw error;
      process.stderr.write(`No mirror, so only what is in the cache: ${why(error)}\n`);
      candidates = known(cache);
    }
    // What we boot is there whatever happens on the way to the mirror.
    if (!candidates.some(({ version }) => version === built.version)) candidates.push(built);
    const applied: string[] = [];
    for (const candidate of candidates) {
      const tree = await teeDriver(cache, archive, candidate);
      if (tree === undefined) continue;
      expect(readFileSync(join(tree, 'drivers/tee/tee_shm.c'), 'utf8')).toContain('tee_shm_register_fd');
      const copy = mkdtempSync(join(folder, 'apply-'));
      cpSync(tree, copy, { recursive: true });
      for (const path of PATCHES) {
        const patch = spawnSync(
          'patch',
          ['-p1', '--forward', '--batch', '--fuzz=0', '-d', copy, '-i', path],
          {
            encoding: 'utf8',
          },
        );
        const output = patch.status === 0 ? '' : patch.stdout;
        expect({ ...candidate, status: patch.status, output }).toEqual({
          ...candidate,
          status: 0,
          output: '',
        });
      }
      rmSync(copy, { recursive: true });
      applied.push(candidate.version);
      const checkpatch = join(tree, 'scripts/checkpatch.pl');
      expect(existsSync(checkpatch)).toBe(true);
      // On standard input: given the path of a tracked file, checkpatch takes it for a source file.
      for (const path of PATCHES) {
        const style = spawnSync('perl', [checkpatch, '--no-tree', '--strict', '-'], {
          encoding: 'utf8',
          input: readFileSync(path),
        });
        expect(style.stdout).toMatch(/total: 0 errors, 0 warnings, 0 checks/);
      }
    }
    expect(applied).toContain(built.version);
  }, 900_000);

  test.each(PATCHES)('%s says its licence, and who answers for it', (path) => {
    const text = readFileSync(path, 'utf8');
    expect(text).toMatch(/^# SPDX-License-Identifier: GPL-2\.0-only$/m);
    expect(text).toMatch(/^Signed-off-by: /m);
  });
});

describe('the switch, in a guest', () => {
  const ROOT = dirname(require.resolve('node-optee/package.json'));

  /** How many dma-bufs of the system heap can be registered, by their sizes. */
  async function registered(kernelArgument?: string): Promise<Record<string, number>> {
    const machine = await prepareMachine({ machine: 'dmabuf' });
    const kernelArguments = [...machine.kernelArguments, ...(kernelArgument ? [kernelArgument] : [])];
    await using guest = await Guest.boot({ machine: { ...machine, kernelArguments }, share: ROOT });
    const script = `
      const { DmaHeap, TeeContext } = require(${JSON.stringify(ROOT)});
      const tee = TeeContext.open();
      const heap = DmaHeap.open('system');
      const registered = {};
      for (const [size, count] of [[65536, 8], [2 << 20, 24]]) {
        registered[size] = 0;
        const all = Array.from({ length: count }, () => heap.allocSync(size));
        for (const dma of all) {
          try {
            const shm = tee.registerDmaBufSync(dma);
            if (shm.size === size) registered[size]++;
            shm.close();
          } catch (error) {
            if (error.code !== 'EINVAL') throw error;
          }
          dma.close();
        }
      }
      heap.close();
      console.log(JSON.stringify(registered));
      tee.close();`;
    const { status, stdout, stderr } = await guest.run(['node', '-e', script], { timeout: 120_000 });
    expect({ status, stderr: stderr.toString() }).toEqual({ status: 0, stderr: '' });
    return JSON.parse(stdout.toString()) as Record<string, number>;
  }

  test('takes contiguous memory, also where its exporter describes it by several entries', async () => {
    const found = await registered();
    expect(found['65536']).toBe(8);
    // Two pieces of 1 MiB each. That they lie side by side is likely for some, and for all only by chance.
    expect(found[String(2 << 20)]).toBeGreaterThan(0);
  }, 900_000);

  test('takes nothing where a DMA address can be that of a bounce buffer', async () => {
    expect(await registered('swiotlb=force')).toEqual({ 65536: 0, [2 << 20]: 0 });
  }, 900_000);
});
