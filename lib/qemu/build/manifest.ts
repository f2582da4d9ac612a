import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Cache, PartRecord } from './cache.js';
import { debianPatches } from './optee.js';
import type { Sources } from './sources.js';

export const MANIFEST = 'manifest.json';

/** What the cached images are made of. */
export interface Manifest {
  readonly writtenAt: string;
  /** Every package and source, with its version, checksums, and the newer versions that could not be had. */
  readonly sources: Sources['all'];
  /** Every part by its folder in `parts`, with all that it was built from, its files' checksums and its build time. */
  readonly parts: Readonly<Record<string, PartRecord & { readonly debianPatches?: readonly string[] }>>;
}

/**
 * Adds a part that is about to be in place, in `folder` until then, and forgets those that are gone.
 * Before and not after: a build that is killed in between leaves a part that is missing, not one that nothing tells of.
 */
export function addToManifest(cache: Cache, sources: Sources, record: PartRecord, folder: string): void {
  const patches = debianPatches(folder);
  const entry = patches.length > 0 ? { ...record, debianPatches: patches } : record;
  const before = Object.values(readManifest(cache)?.parts ?? {});
  const there = before.filter(({ name, key }) => existsSync(cache.partFolder(name, key)));
  const parts = Object.fromEntries(
    [...there, entry].map((part) => [basename(cache.partFolder(part.name, part.key)), part]),
  );
  const manifest: Manifest = { writtenAt: new Date().toISOString(), sources: sources.all, parts };
  cache.writeFile(MANIFEST, JSON.stringify(manifest, null, 2) + '\n');
}

export function readManifest(cache: Cache): Manifest | undefined {
  try {
    return JSON.parse(readFileSync(join(cache.path, MANIFEST), 'utf8')) as Manifest;
  } catch {
    return undefined;
  }
}
