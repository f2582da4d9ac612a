/** What is built once for many hosts: parts go out in an archive and come in from one, and have a name before they are built. */
import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { invalidArgType } from '../../client/errors.js';
import { checkKnown, checkSignal, checkString } from '../../client/validate.js';
import { MACHINES, NODE_VERSIONS, type MachineName, type NodeVersion } from '../machine.js';
import { Archive, packedPart, writeArchive, type KnownPart, type PackedPart } from './archive.js';
import { Cache, partKey, sha256 } from './cache.js';
import { BuildError } from './command.js';
import { Imports } from './imports.js';
import {
  DEFAULT_NODE,
  WAITING,
  checkOptions,
  declaredParts,
  prepareParts,
  type Configuration,
  type PrepareOptions,
} from './index.js';
import { debianPatches } from './optee.js';
import { partFolder, type Part } from './part.js';
import { streamProgress } from './progress.js';
import { Sources, type Resolved } from './sources.js';
import { maxAge, removeUnused } from './unused.js';
import { checkCompressor } from './zstd.js';

/** Which machines, with which versions of Node.js. */
export interface MachineSet {
  /** Default: `dynamic` alone. */
  machines?: readonly MachineName[] | undefined;
  /** Default: 24 alone. */
  nodes?: readonly NodeVersion[] | undefined;
}

export interface ExportOptions extends MachineSet {
  /** Where it tells of what has to be built first; as in `prepareMachine`. */
  progress?: PrepareOptions['progress'];
  /** Ends it; no archive is left then. */
  signal?: AbortSignal | undefined;
}

/** What is in an archive. */
export interface ArchiveInfo {
  readonly machines: readonly MachineName[];
  readonly nodes: readonly NodeVersion[];
  /** Version of node-optee that wrote it. */
  readonly writtenBy: string;
  /** Of the whole file, in hexadecimal digits. */
  readonly sha256: string;
}

/**
 * Writes what machines need into one archive, for hosts that have QEMU alone. What is not built yet is built first.
 * @param file the archive, a tar file in Zstandard; one that is there is replaced
 * @returns what is in it
 * @throws BuildError where a step of the build fails, or the file cannot be written: then there is none, or the old one.
 *   TypeError and RangeError that name the option
 */
export async function exportParts(file: string, options: ExportOptions = {}): Promise<ArchiveInfo> {
  checkString(file, 'file');
  checkKnown(options, 'options', ['machines', 'nodes', 'progress', 'signal']);
  const { machines, nodes } = checkSet(options);
  const { signal } = options;
  if (signal !== undefined) checkSignal(signal, 'signal');
  await checkCompressor();
  const path = resolve(file);
  const cache = new Cache();
  const parts = new Map<string, PackedPart>();
  const folders = new Map<string, string>();
  for (const configuration of configurations(machines, nodes)) {
    const { deviceTree: _, ...built } = await prepareParts(cache, configuration, options);
    const declared = declaredParts(configuration.machine, configuration.node);
    const sources = new Sources(cache);
    const imports = new Imports(cache);
    for (const [role, part] of Object.entries(built)) {
      const folder = partFolder(cache, part);
      if (parts.has(basename(folder))) continue;
      const recipe = partKey(declared[role as keyof typeof declared].inputs);
      const known = knownPart(part, recipe, folder, sources, imports);
      parts.set(basename(folder), await packedPart(known, folder));
      folders.set(basename(folder), folder);
      signal?.throwIfAborted();
    }
  }
  const contents = { writtenBy: packageVersion(), machines, nodes, parts: Object.fromEntries(parts) };
  await writeArchive(path, contents, (name) => folders.get(name) ?? '', signal);
  return { machines, nodes, writtenBy: contents.writtenBy, sha256: await sha256(path) };
}

/**
 * Puts what is in an archive into the cache, where every later run finds it: it needs QEMU then, and nothing else that
 * builds take. An archive has programs that this host and its guests run; import none that you would not install.
 * @param file an archive that `exportParts` of the same version of node-optee wrote, or of one that builds the same
 * @returns what was in it
 * @throws BuildError that names the file, where it cannot be read, or is cut, damaged, altered, or of a version that
 *   builds something else: the cache is then as it was
 */
export async function importParts(
  file: string,
  options: Pick<ExportOptions, 'progress' | 'signal'> = {},
): Promise<ArchiveInfo> {
  checkString(file, 'file');
  checkKnown(options, 'options', ['progress', 'signal']);
  const { signal, progress = streamProgress() } = options;
  if (signal !== undefined) checkSignal(signal, 'signal');
  const age = maxAge();
  const archive = await Archive.open(file);
  checkRecipes(archive);
  const digest = archive.sha256;
  const cache = new Cache();
  if (!isNewest(cache, archive, digest)) {
    await cache.locked(
      async (held) => {
        await cache.sweep();
        try {
          await placeParts(cache, archive, held);
          noteImport(cache, archive, basename(file), digest);
          await removeUnused(cache, age);
        } finally {
          await cache.sweep();
        }
      },
      () => progress.note(WAITING),
      signal,
    );
  }
  const { machines, nodes, writtenBy } = archive.contents;
  return {
    machines: machines as readonly MachineName[],
    nodes: nodes as readonly NodeVersion[],
    writtenBy,
    sha256: digest,
  };
}

/** Whether that very file was the last that was imported, and all that it had is still there. */
function isNewest(cache: Cache, archive: Archive, digest: string): boolean {
  const parts = Object.values(archive.contents.parts);
  for (const { name, key } of parts) cache.touch(name, key);
  return (
    new Imports(cache).sets[0]?.sha256 === digest && parts.every(({ name, key }) => cache.record(name, key))
  );
}

function noteImport(cache: Cache, { contents }: Archive, name: string, digest: string): void {
  const parts = Object.entries(contents.parts).map(([folder, { files: _, links: __, ...part }]) => [
    folder,
    part,
  ]);
  new Imports(cache).add({
    archive: name,
    sha256: digest,
    writtenBy: contents.writtenBy,
    importedAt: new Date().toISOString(),
    parts: Object.fromEntries(parts) as Record<string, KnownPart>,
  });
}

/** Unpacks aside and looks at all of it; only then is the cache changed. Needs the lock. */
export async function placeParts(cache: Cache, archive: Archive, signal: AbortSignal): Promise<void> {
  const aside = cache.workFolder('import');
  try {
    await archive.unpack(aside, signal);
    for (const [folder, { name, key }] of Object.entries(archive.contents.parts)) {
      if (!cache.record(name, key)) await cache.place(join(aside, folder), name, key);
      cache.touch(name, key);
    }
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof BuildError) throw error;
    archive.refuse((error as Error).message, error);
  } finally {
    await rm(aside, { recursive: true, force: true });
  }
}

/**
 * What machines are built from, as one word: the same for the same version of node-optee on every host, before anything
 * is built and without a network. A CI can name its cache by it.
 * @throws TypeError that names the option
 */
export function cacheKey(options: MachineSet = {}): string {
  checkKnown(options, 'options', ['machines', 'nodes']);
  const { machines, nodes } = checkSet(options);
  const recipes = new Map<string, unknown>();
  for (const { machine, node } of configurations(machines, nodes)) {
    for (const part of Object.values<Part>(declaredParts(machine, node)))
      recipes.set(part.name, [partKey(part.inputs), part.needs.map(declaration)]);
  }
  const digest = partKey(Object.fromEntries(recipes));
  return `node-optee-${machines.join('-')}-node${nodes.join('-')}-${digest}`;
}

/** What the package says of a package that it takes. */
function declaration(need: Part['needs'][number]): unknown {
  return { ...need, package: String(need.package) };
}

function configurations(
  machines: readonly MachineName[],
  nodes: readonly NodeVersion[],
): Required<Configuration>[] {
  return machines.flatMap((machine) => nodes.map((node) => checkOptions({ machine, node })));
}

/** Each once, in the order of the lists of all, so that one set has one name. */
function checkSet({ machines = ['dynamic'], nodes = [DEFAULT_NODE] }: MachineSet): Required<{
  machines: readonly MachineName[];
  nodes: readonly NodeVersion[];
}> {
  for (const [name, list] of Object.entries({ machines, nodes }))
    if (!Array.isArray(list) || list.length === 0)
      throw invalidArgType(name, 'an array of one at least', list);
  for (const machine of machines) checkOptions({ machine });
  for (const node of nodes) checkOptions({ node });
  return {
    machines: MACHINES.filter((name) => machines.includes(name)),
    nodes: NODE_VERSIONS.filter((version) => nodes.includes(version)),
  };
}

function knownPart(
  part: Part,
  recipe: string,
  folder: string,
  sources: Sources,
  imports: Imports,
): KnownPart {
  const { name } = part;
  const key = partKey(part.inputs);
  const known = imports.known(name, key);
  // One that came in an archive goes out with what that said of its sources.
  if (known && part.needs.length === 0) return { ...known, recipe };
  const taken = part.needs.map((need): [string, Resolved | undefined] => [need.name, sources.get(need)]);
  const patches = debianPatches(folder);
  return {
    name,
    key,
    recipe,
    sources: Object.fromEntries(taken.filter((entry): entry is [string, Resolved] => entry[1] !== undefined)),
    ...(patches.length > 0 && { debianPatches: patches }),
  };
}

/** An archive of a version that builds something else would lie in the cache and never be used. */
function checkRecipes(archive: Archive): void {
  const recipes = new Map<string, string>();
  for (const { machine, node } of configurations(MACHINES, NODE_VERSIONS)) {
    for (const part of Object.values<Part>(declaredParts(machine, node)))
      recipes.set(part.name, partKey(part.inputs));
  }
  const { writtenBy, parts } = archive.contents;
  const others = Object.values(parts).filter(({ name, recipe }) => recipes.get(name) !== recipe);
  if (others.length === 0) return;
  archive.refuse(
    `node-optee ${writtenBy} wrote it, and this version, ${packageVersion()}, builds ` +
      `${others.map(({ name }) => name).join(', ')} otherwise. Export it anew with this version`,
  );
}

function packageVersion(): string {
  const path = join(__dirname, '..', '..', '..', 'package.json');
  return (JSON.parse(readFileSync(path, 'utf8')) as { version: string }).version;
}
