import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Cache, partKey } from '#lib/qemu/build/cache';
import { BuildLog, command } from '#lib/qemu/build/command';
import { type Candidate, DebianArchive } from '#lib/qemu/build/debian';
import { KERNEL_PATCH } from '#lib/qemu/build/linux';
import { dataFile } from '#lib/qemu/build/part';
import { LINUX, debianCandidates } from '#lib/qemu/build/sources';

const PATCH = dataFile('kernel', KERNEL_PATCH);

let folder: string;
let log: BuildLog;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'node-optee-patch-'));
  log = new BuildLog(join(folder, 'log'));
});
afterAll(async () => {
  log.close();
  rmSync(folder, { recursive: true, force: true });
});

/** The files that the patch touches, of one version. Kept in the cache: a version never changes. */
async function teeDriver(
  cache: Cache,
  archive: DebianArchive,
  candidate: Candidate,
): Promise<string | undefined> {
  const inputs = { recipe: 1, candidate };
  const path = cache.partFolder('linux-tee', partKey(inputs));
  if (cache.record('linux-tee', partKey(inputs))) return path;
  const scratch = mkdtempSync(join(folder, 'unpack-'));
  try {
    await archive.downloadBinaries([candidate], scratch);
  } catch (error) {
    // A mirror can lack a file that its index names; what cannot be had cannot be built either.
    if (!/\b404\b|Not Found/.test(String(error))) throw error;
    process.stderr.write(`${candidate.package} ${candidate.version}: the mirror has no such file\n`);
    return undefined;
  }
  await command('sh', ['-c', 'dpkg-deb -x *.deb . && rm *.deb'], { cwd: scratch, log });
  const source = join(scratch, 'usr/src');
  const tarball = readdirSync(source).find((name) => name.endsWith('.tar.xz')) ?? '';
  const wanted = [
    '*/drivers/tee/*.[ch]',
    '*/scripts/checkpatch.pl',
    '*/scripts/spelling.txt',
    '*/scripts/const_structs.checkpatch',
  ];
  await command('tar', ['-xf', join(source, tarball), '--strip-components=1', '--wildcards', ...wanted], {
    cwd: scratch,
    log,
  });
  rmSync(join(scratch, 'usr'), { recursive: true });
  await cache.locked(() =>
    cache.make('linux-tee', inputs, async (into) => cpSync(scratch, into, { recursive: true })),
  );
  rmSync(scratch, { recursive: true });
  return path;
}

describe('the kernel patch', () => {
  test('applies to every linux-source on offer that has SHM_REGISTER_FD, and is clean by its checkpatch', async () => {
    const cache = new Cache();
    const archive = await DebianArchive.open(mkdtempSync(join(folder, 'apt-')), log);
    const candidates = await debianCandidates(archive, LINUX);
    expect(candidates.length).toBeGreaterThan(0);
    const applied: string[] = [];
    for (const candidate of candidates) {
      const tree = await teeDriver(cache, archive, candidate);
      if (tree === undefined) continue;
      expect(readFileSync(join(tree, 'drivers/tee/tee_shm.c'), 'utf8')).toContain('tee_shm_register_fd');
      const patch = spawnSync(
        'patch',
        ['-p1', '--dry-run', '--forward', '--batch', '--fuzz=0', '-d', tree, '-i', PATCH],
        {
          encoding: 'utf8',
        },
      );
      expect({ ...candidate, status: patch.status, output: patch.status === 0 ? '' : patch.stdout }).toEqual({
        ...candidate,
        status: 0,
        output: '',
      });
      applied.push(candidate.version);
      const checkpatch = join(tree, 'scripts/checkpatch.pl');
      expect(existsSync(checkpatch)).toBe(true);
      // On standard input: given the path of a tracked file, checkpatch takes it for a source file.
      const style = spawnSync('perl', [checkpatch, '--no-tree', '--strict', '-'], {
        encoding: 'utf8',
        input: readFileSync(PATCH),
      });
      expect(style.stdout).toMatch(/total: 0 errors, 0 warnings, 0 checks/);
    }
    expect(applied.length).toBeGreaterThan(0);
  }, 900_000);

  test('says its licence, and who answers for it', () => {
    const text = readFileSync(PATCH, 'utf8');
    expect(text).toMatch(/^# SPDX-License-Identifier: GPL-2\.0-only$/m);
    expect(text).toMatch(/^Signed-off-by: /m);
  });
});
