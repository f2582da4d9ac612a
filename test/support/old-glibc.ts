/** The oldest C library that the Debian mirror carries, to run Node with in place of the system's. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { BuildLog } from '#lib/qemu/build/command';
import { DebianArchive, newestFirst, type Candidate } from '#lib/qemu/build/debian';

const ROOT = join(require.resolve('node-optee/package.json'), '..');
const DEBIAN = { arm64: 'arm64', x64: 'amd64' } as const;
const LOADER = { arm64: 'ld-linux-aarch64.so.1', x64: 'ld-linux-x86-64.so.2' };
/** Debian 10 has glibc 2.28, 11 has 2.31; 12 has 2.36, which would prove nothing. */
const SUITES = ['buster', 'bullseye'];
const PACKAGES = ['libc6', 'libgcc-s1', 'libstdc++6'];

/**
 * Fetches it, once for a clone. Resolves with what a command begins with to run with it: the loader and its options, a
 * program's full path and arguments to follow.
 */
export async function oldGlibc(arch: 'arm64' | 'x64'): Promise<string[]> {
  const folder = join(ROOT, 'build', 'old-glibc', arch);
  if (!existsSync(folder)) {
    mkdirSync(join(folder, '..'), { recursive: true });
    const work = mkdtempSync(`${folder}-`);
    try {
      await fetchInto(work, arch);
      renameSync(join(work, 'root'), folder);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  }
  const triplet = { arm64: 'aarch64-linux-gnu', x64: 'x86_64-linux-gnu' }[arch];
  const libraries = [join(folder, 'lib', triplet), join(folder, 'usr/lib', triplet)];
  return [join(folder, 'lib', triplet, LOADER[arch]), '--library-path', libraries.join(':')];
}

async function fetchInto(work: string, arch: 'arm64' | 'x64'): Promise<void> {
  const log = new BuildLog(join(work, 'log'));
  try {
    const offer = { suites: SUITES, architecture: DEBIAN[arch], types: ['deb'] as const };
    mkdirSync(join(work, 'apt'));
    const archive = await DebianArchive.open(join(work, 'apt'), log, undefined, offer);
    const chosen: Candidate[] = [];
    for (const name of PACKAGES) {
      const oldest = (await newestFirst(await archive.binaries(name))).at(-1);
      if (oldest === undefined) throw new Error(`The Debian mirror has no ${name} of ${SUITES.join(' or ')}`);
      chosen.push(oldest);
    }
    await archive.downloadBinaries(chosen, work);
    for (const name of readdirSync(work).filter((name) => name.endsWith('.deb'))) {
      execFileSync('dpkg-deb', ['-x', join(work, name), join(work, 'root')]);
    }
  } finally {
    log.close();
  }
}
