import { readFileSync, readdirSync, readlinkSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import type { Cache } from './cache.js';
import { BuildError } from './command.js';

/** Days after which a part that no run has used goes. */
const DEFAULT_DAYS = 30;
const DAY = 24 * 60 * 60_000;

const VARIABLE = 'NODE_OPTEE_CACHE_DAYS';

/** When the cache was looked through last, by its time. */
const LOOKED = 'looked-through';

/**
 * Milliseconds after which an unused part goes. Not less than a day: whoever prepares a machine in the morning boots it
 * in the evening.
 * @throws BuildError that names the variable
 */
export function maxAge(text = process.env[VARIABLE]): number {
  if (text === undefined || text === '') return DEFAULT_DAYS * DAY;
  if (text === 'never') return Infinity;
  const days = /^\d+(\.\d+)?$/.test(text) ? Number(text) : 0;
  if (days < 1)
    throw new BuildError(`${VARIABLE} must be a number of days, 1 or more, or never, but is '${text}'`);
  return days * DAY;
}

/** Folders of parts that no run has used for that long. */
function unusedParts(cache: Cache, age: number): string[] {
  const limit = Date.now() - age;
  return [...cache.lastUses()].filter(([, time]) => time < limit).map(([folder]) => folder);
}

/**
 * Removes parts that no run has used for some time, and that no guest has. Needs the lock.
 * @returns their folders
 */
export async function removeUnused(cache: Cache, age = maxAge()): Promise<string[]> {
  const unused = unusedParts(cache, age);
  const used = unused.length > 0 ? openPaths() : [];
  const gone = unused.filter((folder) => !used.some((text) => text.includes(`${folder}/`)));
  if (gone.length > 0) await cache.setAside(gone);
  return gone;
}

/** Whether it is time to look for unused parts, and there are some: once a day, as a look costs each run. */
export function hasUnused(cache: Cache, age = maxAge()): boolean {
  const path = join(cache.path, LOOKED);
  const last = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (Date.now() - last < DAY) return false;
  try {
    if (last === 0) cache.writeFile(LOOKED, '');
    else utimesSync(path, new Date(), new Date());
  } catch {
    return false; // nothing can be removed, either
  }
  return unusedParts(cache, age).length > 0;
}

/** What processes have open, and the words that they were started with: a guest's QEMU has the files of its machine. */
function openPaths(): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      const fds = ofOther(() => readdirSync(`/proc/${pid}/fd`)) ?? [];
      const links = fds.map((fd) => ofOther(() => readlinkSync(`/proc/${pid}/fd/${fd}`)));
      return [ofOther(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8')), ...links];
    })
    .filter((text) => text !== undefined);
}

/** A process can have ended, and one of another user's is closed. */
function ofOther<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
