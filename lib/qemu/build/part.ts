import { join } from 'node:path';
import { type Cache, partKey } from './cache.js';
import { command, type BuildLog } from './command.js';
import type { Requirement, Sources } from './sources.js';

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
  /** Debian packages of the host's that its build takes; without them all that `scripts/host-packages.cjs` lists. */
  readonly hostPackages?: readonly string[];
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

/** Data of the guest in the package: `qemu/`. */
export function dataFile(...names: string[]): string {
  return join(__dirname, '..', '..', '..', 'qemu', ...names);
}

/** What stands for a requirement in a key: its version and its files' checksums. */
export function sourceInputs(sources: Sources, ...requirements: readonly Requirement[]): unknown {
  return requirements.map((requirement) => {
    const resolved = sources.get(requirement);
    return resolved && { package: resolved.package, version: resolved.version, files: resolved.files };
  });
}

/** What a debugger needs of a program, without the program. */
export async function keepSymbols(elf: string, target: string, shop: Pick<Workshop, 'run'>): Promise<void> {
  await shop.run('aarch64-linux-gnu-objcopy', ['--only-keep-debug', elf, target]);
}

/** Makes an ext4 image of a folder, all files root's. `free` is in MiB. */
export async function makeExt4(
  folder: string,
  image: string,
  free: number,
  shop: Pick<Workshop, 'run' | 'signal'>,
): Promise<void> {
  const used = Number((await command('du', ['-sm', '--apparent-size', folder])).split('\t')[0]);
  const inodes = Number((await command('sh', ['-c', 'find "$1" | wc -l', 'sh', folder])).trim());
  // A block of 4 KiB for the tail of each file, and room for ext4's own tables.
  const size = Math.ceil(used * 1.05 + inodes / 200) + 16 + free;
  const options = [
    '-q',
    '-F',
    '-t',
    'ext4',
    '-O',
    '^has_journal',
    '-E',
    'root_owner=0:0,lazy_itable_init=1',
    '-m',
    '0',
  ];
  const count = ['-N', String(inodes + 1024 + free * 16)];
  // fakeroot: files of an ordinary user's build are root's in the guest. Who builds with a umask of 077 gets the same.
  await shop.run('fakeroot', [
    '--',
    'sh',
    '-c',
    'chown -R 0:0 "$1" && chmod -R go+rX,go-w "$1" && shift && exec mke2fs "$@"',
    'sh',
    folder,
    ...options,
    ...count,
    '-d',
    folder,
    image,
    `${size}M`,
  ]);
}
