import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type Cache, partKey } from './cache.js';
import type { BuildLog } from './command.js';
export { dataFile } from './folder.js';
import type { Requirement, SourceList, Sources } from './sources.js';

/** What a part has at hand while it is built. */
export interface Workshop {
  readonly cache: Cache;
  readonly sources: Sources;
  readonly log: BuildLog;
  readonly signal: AbortSignal | undefined;
  /** An empty folder, removed afterwards. */
  readonly scratch: string;
  /** Runs a program in the step's log. */
  run(program: string, args: readonly string[], cwd?: string, env?: Record<string, string>): Promise<void>;
}

/** One thing that is built and kept: its key is a digest of its inputs. */
export interface Part {
  readonly name: string;
  /** For people: what the step does. */
  readonly title: string;
  readonly needs: readonly Requirement[];
  /** The parts that it is made from. */
  readonly after: readonly Part[];
  /** Debian packages of the host's that its build takes; without them all that `scripts/host-packages.cjs` lists. */
  readonly hostPackages?: readonly string[];
  /** All that it is built from: packages, our files, options, versions of tools, the recipe itself. */
  readonly inputs: unknown;
  build(folder: string, shop: Workshop): Promise<void>;
}

/** The folder of a part, which is there once the part was built. */
export function partFolder(cache: Cache, part: Part): string {
  return cache.partFolder(part.name, partKey(part.inputs));
}

export function isBuilt(cache: Cache, part: Part): boolean {
  return cache.record(part.name, partKey(part.inputs)) !== undefined;
}

/** What stands for a requirement in a key: its version and its files' checksums. */
export function sourceInputs(sources: SourceList, ...requirements: readonly Requirement[]): unknown {
  return requirements.map((requirement) => {
    const resolved = sources.get(requirement);
    return resolved && { package: resolved.package, version: resolved.version, files: resolved.files };
  });
}

/** What a debugger needs of a program, without the program. */
export async function keepSymbols(elf: string, target: string, shop: Pick<Workshop, 'run'>): Promise<void> {
  await shop.run('aarch64-linux-gnu-objcopy', ['--only-keep-debug', elf, target]);
}

/**
 * What stands for the way in which a part is built: a digest of the compiled file that builds it, without comments and
 * white space.
 * @param file `__filename` of that file
 */
export function recipeOf(file: string): string {
  const lines = readFileSync(file, 'utf8')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !/^(\/\/|\/?\*)/.test(line));
  return createHash('sha256').update(lines.join('\n')).digest('hex').slice(0, 20);
}
