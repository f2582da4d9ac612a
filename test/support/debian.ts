/** Debian's arm64 packages for what runs in the guest. */
import { mkdir, rm } from 'node:fs/promises';
import { Cache } from '#lib/qemu/build/cache';
import { command } from '#lib/qemu/build/command';
import type { BuildLog } from '#lib/qemu/build/command';
import { Sources } from '#lib/qemu/build/sources';

/**
 * Unpacks packages into `folder`, which is emptied before. They are downloaded once and kept in the cache.
 * @param names a package, or what matches several as apt-cache takes it: of these the newest version
 * @returns the packages' names
 */
export async function unpackDebian(
  names: readonly (string | RegExp)[],
  folder: string,
  log: BuildLog,
): Promise<string[]> {
  const requirements = names.map((name) => ({
    name: typeof name === 'string' ? name : name.source,
    kind: 'binary' as const,
    package: name,
  }));
  const cache = new Cache();
  return cache.locked(async () => {
    const sources = new Sources(cache);
    await sources.resolve(requirements, log);
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder, { recursive: true });
    for (const requirement of requirements) {
      for (const deb of await sources.files(requirement, log)) {
        await command('dpkg-deb', ['-x', deb, folder], { log });
      }
    }
    await cache.sweep();
    return requirements.map((requirement) => sources.get(requirement)?.package ?? '');
  });
}

/** libteec with its headers. */
export const LIBTEEC = ['libteec2', 'optee-client-dev'];
