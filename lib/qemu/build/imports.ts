import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { folderOf, type KnownPart } from './archive.js';
import { type Cache, partKey } from './cache.js';
import type { Part } from './part.js';

const FILE = 'imported.json';

/** What came with one archive. */
export interface ImportedSet {
  /** The archive's name, and its SHA-256. */
  readonly archive: string;
  readonly sha256: string;
  /** Version of the package that wrote it. */
  readonly writtenBy: string;
  readonly importedAt: string;
  /** By their folders in `parts`. */
  readonly parts: Readonly<Record<string, KnownPart>>;
}

/**
 * Parts that came in archives: `imported.json`. They are found by what the package says of them alone. Which sources they
 * were built from, and with which tools, was another host's business.
 */
export class Imports {
  readonly #cache: Cache;
  /** The newest first. */
  readonly sets: readonly ImportedSet[];

  constructor(cache: Cache) {
    this.#cache = cache;
    this.sets = readSets(join(cache.path, FILE));
  }

  /**
   * Parts that belong together, all from one archive; undefined where none has them all.
   * @param declare gives the parts as the package declares them, without a host's tools and sources
   */
  find<T extends Readonly<Record<string, Part>>>(declare: () => T): T | undefined {
    for (const { parts } of this.sets) {
      const found = Object.entries(declare()).map(([name, part]) => {
        const recipe = partKey(part.inputs);
        const known = Object.values(parts).find((one) => one.name === part.name && one.recipe === recipe);
        const record = known && this.#cache.record(known.name, known.key);
        // Its key is that of its inputs, as with any other part. It needs no package any more.
        return record && [name, { ...part, inputs: record.inputs, needs: [] }];
      });
      if (found.every((entry) => entry !== undefined)) return Object.fromEntries(found) as T;
    }
    return undefined;
  }

  /** What an archive said of a part. */
  known(name: string, key: string): KnownPart | undefined {
    const folder = folderOf({ name, key });
    return this.sets.map(({ parts }) => parts[folder]).find((part) => part !== undefined);
  }

  /** Adds a set whose parts are in place, and forgets those that are gone or in the new one. Needs the lock. */
  add(set: ImportedSet): void {
    const isOf = ({ parts }: ImportedSet, { name, key }: KnownPart): boolean =>
      Object.hasOwn(parts, folderOf({ name, key }));
    const others = this.sets.filter(({ parts }) =>
      Object.values(parts).some(
        (part) => !isOf(set, part) && this.#cache.record(part.name, part.key) !== undefined,
      ),
    );
    this.#cache.writeFile(FILE, JSON.stringify({ sets: [set, ...others] }, null, 2) + '\n');
  }
}

function readSets(path: string): readonly ImportedSet[] {
  try {
    return (JSON.parse(readFileSync(path, 'utf8')) as { sets: ImportedSet[] }).sets;
  } catch {
    return [];
  }
}
