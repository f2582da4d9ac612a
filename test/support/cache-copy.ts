import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Cache } from '#lib/qemu/build/cache';

/**
 * A copy of the cache without some parts, for a build that may do with it what it wants. Remove `home` afterwards.
 * Its large files are hard links, so it lies beside the cache: they do not lead from one file system to another.
 */
export function copyCache(without: RegExp): { home: string; cache: Cache } {
  const from = new Cache().path;
  const home = mkdtempSync(join(dirname(from), 'node-optee-test-'));
  const to = join(home, 'node-optee');
  mkdirSync(to);
  for (const name of ['resolved.json', 'manifest.json', 'toolchain.json']) {
    copyFileSync(join(from, name), join(to, name));
  }
  for (const name of ['downloads', 'parts']) {
    const { status, stderr } = spawnSync('cp', ['-al', join(from, name), to], { encoding: 'utf8' });
    if (status !== 0) throw new Error(`the cache could not be copied: ${stderr}`);
  }
  for (const part of readdirSync(join(to, 'parts'))) {
    if (without.test(part)) rmSync(join(to, 'parts', part), { recursive: true });
  }
  return { home, cache: new Cache(to) };
}
