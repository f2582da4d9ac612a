import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Cache, type PartRecord, partKey } from './cache.js';
import { debianPatches } from './optee.js';
import { type Part, partFolder } from './part.js';
import type { Sources } from './sources.js';

export const MANIFEST = 'manifest.json';

/** What the cached images are made of. */
export interface Manifest {
  readonly writtenAt: string;
  /** Every package and source, with its version, checksums, and the newer versions that could not be had. */
  readonly sources: Sources['all'];
  /** Every part, with all that it was built from, its files' checksums and its build time. */
  readonly parts: Readonly<Record<string, PartRecord & { readonly debianPatches?: readonly string[] }>>;
}

/** Adds the parts of a finished build to the cache's manifest; a part that was built anew takes the old one's place. */
export function writeManifest(cache: Cache, sources: Sources, parts: readonly Part[]): void {
  const entries = { ...readManifest(cache)?.parts };
  for (const part of parts) {
    const record = cache.record(part.name, partKey(part.inputs));
    if (!record) continue;
    const patches = debianPatches(partFolder(cache, part));
    entries[part.name] = patches.length > 0 ? { ...record, debianPatches: patches } : record;
  }
  const manifest: Manifest = { writtenAt: new Date().toISOString(), sources: sources.all, parts: entries };
  cache.writeFile(MANIFEST, JSON.stringify(manifest, null, 2) + '\n');
}

export function readManifest(cache: Cache): Manifest | undefined {
  try {
    return JSON.parse(readFileSync(join(cache.path, MANIFEST), 'utf8')) as Manifest;
  } catch {
    return undefined;
  }
}
