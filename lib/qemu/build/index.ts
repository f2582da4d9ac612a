import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { invalidArgValue } from '../../client/errors.js';
import { checkInteger, checkKnown, checkString } from '../../client/validate.js';
import { MACHINES, NODE_VERSIONS, type Machine, type MachineName, type NodeVersion } from '../machine.js';
import { Cache, LockTakenError, partKey } from './cache.js';
import { BuildError, type BuildLog, command } from './command.js';
import { findMirror } from './debian.js';
import { DEVICE_TREE, deviceTreePart } from './device-tree.js';
import { devKitPart, kitFolder } from './dev-kit.js';
import { FIRMWARE, firmwarePart } from './firmware.js';
import { requireHostPackages } from './host.js';
import { Imports } from './imports.js';
import { LINUX_SYMBOLS, linuxPart } from './linux.js';
import { addToManifest } from './manifest.js';
import { NODE_IMAGE, nodePart } from './node.js';
import { NODE_MODULES_IMAGE, nodeModulesPart } from './node-modules.js';
import { OPTEE_SYMBOLS, STATIC_POOL, opteePart, opteeVariant } from './optee.js';
import { type Part, isBuilt, partFolder } from './part.js';
import { type Progress, streamProgress } from './progress.js';
import { ROOTFS, rootfsPart } from './rootfs.js';
import { buildInOrder, unsuitable } from './schedule.js';
import { Steps } from './steps.js';
import {
  GUEST,
  LINUX,
  NODE,
  OPTEE_OS,
  type Requirement,
  type SourceList,
  Sources,
  TRUSTED_FIRMWARE,
  readTested,
} from './sources.js';
import { NO_TOOLCHAIN, hasQemu, readToolchain, writeToolchain, type Toolchain } from './toolchain.js';
import { hasUnused, maxAge, removeUnused } from './unused.js';

export { BuildError } from './command.js';
export { type Progress, silentProgress, streamProgress } from './progress.js';

export interface PrepareOptions {
  /** Which road of a dma-buf; default `dynamic`. */
  machine?: MachineName | undefined;
  /** Major version of the guest's Node.js; default 24. */
  node?: NodeVersion | undefined;
  /**
   * Memory of the guest in MiB, 576 at least (the firmware loads the kernel above 512), 1024 at least for `static` and
   * `dmabuf`; default 1024.
   */
  memory?: number | undefined;
  /** Processors of the guest, 1 to 4, which is what OP-TEE and TF-A have room for; default 2. */
  cpus?: number | undefined;
  /** Default: lines, or one live line on a terminal, on stderr. */
  progress?: Progress | undefined;
  /** Ends the build; what was under way leaves nothing behind. */
  signal?: AbortSignal | undefined;
}

/** Options of all builds. */
const BUILD_OPTIONS = ['progress', 'signal'];

export const DEFAULT_NODE: NodeVersion = 24;

/** Where everything is kept: `node-optee` in the user's cache folder. */
export function cacheFolder(): string {
  return new Cache().path;
}

/**
 * Builds whatever of a machine is not in the cache yet, and returns what QEMU needs to boot it.
 *
 * The first time takes ten minutes to half an hour, and the network; afterwards nothing but a few look-ups.
 * @throws RangeError or TypeError for options out of range; BuildError where a step fails or a package is missing
 */
export async function prepareMachine(options: PrepareOptions = {}): Promise<Machine> {
  checkKnown(options, 'options', ['machine', 'node', 'memory', 'cpus', ...BUILD_OPTIONS]);
  const { machine, node, memory, cpus } = checkOptions(options);
  if (!hasQemu()) requireHostPackages(['qemu-system-arm']);
  const cache = new Cache();
  const parts = await prepareParts(cache, { machine, node, memory, cpus }, options);
  return describe(cache, parts, machine, memory, cpus);
}

/** Builds what of a machine's parts is not in the cache yet. */
export function prepareParts(
  cache: Cache,
  configuration: Configuration,
  options: Pick<PrepareOptions, 'progress' | 'signal'>,
): Promise<MachineParts> {
  return prepare(cache, (sources) => machineParts(cache, sources, configuration), options);
}

/** The TA development kit of OP-TEE, built where it is not in the cache yet; returns its folder. */
export async function prepareDevKit(
  options: Pick<PrepareOptions, 'progress' | 'signal'> = {},
): Promise<string> {
  checkKnown(options, 'options', BUILD_OPTIONS);
  const cache = new Cache();
  const plan = (sources: Sources): { devKit: Part } =>
    new Imports(cache).find(() => ({ devKit: devKitPart(DECLARED, NO_TOOLCHAIN) })) ?? {
      devKit: devKitPart(sources, readToolchain(cache)),
    };
  const { devKit } = await prepare(cache, plan, options);
  return kitFolder(cache, devKit);
}

/**
 * Installs a folder's locked dependencies for the guest and returns the ext4 image of its `node_modules`.
 * @param share folder with `package.json` and `package-lock.json`
 */
export async function prepareNodeModules(
  share: string,
  options: Pick<PrepareOptions, 'progress' | 'signal'> = {},
): Promise<string> {
  checkString(share, 'share');
  checkKnown(options, 'options', BUILD_OPTIONS);
  const cache = new Cache();
  const plan = (): { modules: Part } => ({ modules: nodeModulesPart(share, readToolchain(cache)) });
  const { modules } = await prepare(cache, plan, options);
  return join(partFolder(cache, modules), NODE_MODULES_IMAGE);
}

/** Empties the cache. Waits for a build that is under way. */
export async function cleanCache(options: Pick<PrepareOptions, 'progress' | 'signal'> = {}): Promise<void> {
  checkKnown(options, 'options', BUILD_OPTIONS);
  const cache = new Cache();
  const progress = options.progress ?? streamProgress();
  await cache.locked(
    () => cache.clean(),
    () => progress.note(WAITING),
    options.signal,
  );
}

/**
 * Empties the cache once the newest packages for a machine are there: without a network the old one stays.
 * Waits for a build that is under way.
 */
export async function renewCache(
  options: Pick<PrepareOptions, 'node' | 'progress' | 'signal'> = {},
): Promise<void> {
  const { node = DEFAULT_NODE, progress = streamProgress(), signal } = options;
  const cache = new Cache();
  await checkHost(cache, requirementsOf(node), [{}]);
  await cache.locked(
    async (held) => {
      await cache.sweep();
      const successor = new Cache(cache.workFolder('successor'));
      const steps = new Steps(cache, progress, 1, held);
      await resolveAll(steps, new Sources(successor), requirementsOf(node), progress, held, true);
      await cache.clean(successor);
    },
    () => progress.note(WAITING),
    signal,
  );
}

export const WAITING = 'Waiting for another build to end';

function requirementsOf(node: NodeVersion): readonly Requirement[] {
  return [LINUX, OPTEE_OS, TRUSTED_FIRMWARE, ...GUEST, NODE[node]];
}

/** What a machine is made for. */
export interface Configuration {
  readonly machine: MachineName;
  readonly node: NodeVersion;
  readonly memory: number;
  readonly cpus: number;
}

/** Parts that run on any host. */
interface SystemParts {
  linux: Part;
  optee: Part;
  devKit: Part;
  firmware: Part;
  rootfs: Part;
}

export interface MachineParts extends SystemParts {
  node: Part;
  /** Made on each host for its QEMU. */
  deviceTree?: Part;
}

/** Sources as the package alone declares them, which are those that were tested, whatever was resolved. */
const DECLARED: SourceList = { get: ({ name }) => readTested()[name] };

function systemParts(sources: SourceList, toolchain: Toolchain, machine: MachineName): SystemParts {
  const linux = linuxPart(sources, toolchain);
  const optee = opteePart(opteeVariant(machine), sources, toolchain);
  const firmware = firmwarePart(sources, toolchain, linux, optee);
  const devKit = devKitPart(sources, toolchain);
  // What takes longest first.
  return { linux, devKit, optee, rootfs: rootfsPart(sources, toolchain, devKit), firmware };
}

/** The parts that an archive has for a machine, as the package declares them: their keys are recipes. */
export function declaredParts(machine: MachineName, node: NodeVersion): Omit<MachineParts, 'deviceTree'> {
  return {
    ...systemParts(DECLARED, NO_TOOLCHAIN, machine),
    node: nodePart(node, DECLARED, NO_TOOLCHAIN),
  };
}

/** Those of an import where there is one, else those that are built here. */
function machineParts(
  cache: Cache,
  sources: Sources,
  { machine, node, memory, cpus }: Configuration,
): MachineParts {
  const toolchain = readToolchain(cache);
  const imports = new Imports(cache);
  const system =
    imports.find(() => ({ ...systemParts(DECLARED, NO_TOOLCHAIN, machine) })) ??
    systemParts(sources, toolchain, machine);
  const { node: image } = imports.find(() => ({ node: nodePart(node, DECLARED, NO_TOOLCHAIN) })) ?? {
    node: nodePart(node, sources, toolchain),
  };
  const { linux: first, ...others } = system;
  const parts: MachineParts = { linux: first, node: image, ...others };
  if (machine !== 'dynamic') {
    const { linux, firmware } = system;
    parts.deviceTree = deviceTreePart(machine, { memory, cpus }, toolchain, linux, firmware);
  }
  return parts;
}

/** Resolves, plans and builds what is missing. `plan` is called again once everything is resolved. */
async function prepare<T extends object>(
  cache: Cache,
  plan: (sources: Sources) => T,
  options: Pick<PrepareOptions, 'progress' | 'signal'>,
): Promise<T> {
  const { signal } = options;
  const age = maxAge();
  const partsOf = (parts: T): readonly Part[] => Object.values(parts) as Part[];
  const unresolvedOf = (sources: Sources): readonly Requirement[] => [
    ...new Set(partsOf(plan(sources)).flatMap(({ needs }) => needs.filter((need) => !sources.get(need)))),
  ];
  const complete = (): T | undefined => {
    const sources = new Sources(cache);
    const parts = plan(sources);
    // First, so that none goes that is there now.
    for (const part of partsOf(parts)) cache.touch(part.name, partKey(part.inputs));
    const isComplete = partsOf(parts).every(
      (part) => part.needs.every((need) => sources.get(need)) && isBuilt(cache, part),
    );
    return isComplete ? parts : undefined;
  };
  const ready = complete();
  if (ready) {
    if (hasUnused(cache, age)) await removeUnusedNow(cache, age);
    return ready;
  }

  const progress = options.progress ?? streamProgress();
  const missing = partsOf(plan(new Sources(cache))).filter((part) => !isBuilt(cache, part));
  await checkHost(cache, unresolvedOf(new Sources(cache)), missing);
  return cache.locked(
    async (held) => {
      // Another process may have built it while we waited.
      const now = complete();
      if (now) return now;
      await cache.sweep();
      const sources = new Sources(cache);
      const unresolved = unresolvedOf(sources);
      const planned = partsOf(plan(sources)).filter(
        (part) => !isBuilt(cache, part) || part.needs.some((need) => unresolved.includes(need)),
      );
      const count = planned.length + (unresolved.length > 0 ? 1 : 0);
      let steps = new Steps(cache, progress, count, held);
      if (unresolved.length > 0) await resolveAll(steps, sources, unresolved, progress, held);
      writeToolchain(cache);
      for (;;) {
        const parts = plan(sources);
        const missing = partsOf(parts).filter((part) => !isBuilt(cache, part));
        const make = (part: Part, ended: AbortSignal): Promise<void> =>
          steps.run(part.title, (log) => build(cache, sources, part, log, ended));
        try {
          await buildInOrder(missing, AT_ONCE, make, held);
          await removeUnused(cache, age);
          await cache.sweep();
          return parts;
        } catch (error) {
          const problem = unsuitable(error);
          if (!problem) throw error;
          const left = partsOf(parts).filter((part) => !isBuilt(cache, part));
          steps = new Steps(cache, progress, left.length + 1, held);
          await steps.run('Packages', (log) => sources.passOver(problem, log, held));
          tellOfSources(sources, [problem.requirement], progress);
        }
      }
    },
    () => progress.note(WAITING),
    signal,
  );
}

/** Parts that are built beside each other. More would gain nothing: the compilers of one use all processors. */
const AT_ONCE = 2;

/** Whoever cannot build at all is told so first. */
async function checkHost(
  cache: Cache,
  unresolved: readonly Requirement[],
  parts: readonly Pick<Part, 'hostPackages'>[],
): Promise<void> {
  checkCachePath(cache.path);
  if (unresolved.some(({ kind }) => kind !== 'npm')) await findMirror();
  const isAll = parts.some(({ hostPackages }) => hostPackages === undefined);
  requireHostPackages(isAll ? undefined : parts.flatMap(({ hostPackages = [] }) => hostPackages));
}

/** No run waits for that: whoever has the lock removes them, too. */
async function removeUnusedNow(cache: Cache, age: number): Promise<void> {
  const remove = async (): Promise<void> => {
    await removeUnused(cache, age);
    await cache.sweep();
  };
  await cache.locked(remove, undefined, undefined, false).catch((error: unknown) => {
    if (!(error instanceof LockTakenError)) throw error;
  });
}

async function resolveAll(
  steps: Steps,
  sources: Sources,
  requirements: readonly Requirement[],
  progress: Progress,
  signal: AbortSignal | undefined,
  newest = false,
): Promise<void> {
  await steps.run('Packages', (log) => sources.resolve(requirements, log, signal, newest));
  tellOfSources(sources, requirements, progress);
}

/** What a user should know of the packages that were taken. */
function tellOfSources(sources: Sources, requirements: readonly Requirement[], progress: Progress): void {
  const resolved = requirements.map((requirement) => sources.get(requirement));
  const all = (name: 'leftOut' | 'expired'): string =>
    [...new Set(resolved.flatMap((one) => one?.[name] ?? []))].join(', ');
  if (all('leftOut')) progress.note(`The mirror has no ${all('leftOut')}: taken from other suites`);
  if (all('expired'))
    progress.note(
      `The mirror's lists of ${all('expired')} are out of date: only tested versions taken from there`,
    );
  const tested = readTested();
  for (const [index, { name }] of requirements.entries()) {
    const { version, passedOver = [] } = resolved[index] ?? {};
    for (const other of passedOver)
      progress.note(`${name} ${other.version} was passed over: ${other.reason}`);
    if (version !== undefined && version !== tested[name]?.version)
      progress.note(`${name} ${version} was not tested with this version of node-optee`);
  }
}

async function build(
  cache: Cache,
  sources: Sources,
  part: Part,
  log: BuildLog,
  signal: AbortSignal | undefined,
): Promise<void> {
  const scratch = cache.workFolder(part.name);
  const run = async (program: string, args: readonly string[], cwd = scratch, env = {}): Promise<void> => {
    await command(program, args, { cwd, env, base: buildEnvironment(), log, signal });
  };
  try {
    await cache.make(
      part.name,
      part.inputs,
      (folder) => part.build(folder, { cache, sources, log, signal, scratch, run }),
      (record, folder) => addToManifest(cache, sources, record, folder),
    );
  } finally {
    // A kernel's tree takes seconds to remove: whoever interrupts does not wait for that, the next build sweeps.
    if (signal?.aborted !== true) await rm(scratch, { recursive: true, force: true });
  }
}

/** What the builds' tools get of this process's environment: nothing that changes what they make. */
function buildEnvironment(): NodeJS.ProcessEnv {
  const kept = /^(PATH|HOME|TMPDIR|USER|LOGNAME)$/;
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => kept.test(name)));
  // For mke2fs: an ordinary user's PATH need not lead there.
  return { ...env, PATH: `${env['PATH'] ?? ''}:/usr/sbin:/sbin` };
}

/** make cannot work below such a folder, and says so in riddles. */
function checkCachePath(path: string): void {
  if (/[\s:#$%"'\\]/.test(path)) {
    throw new BuildError(
      `The cache's path, ${path}, must be without white space and :#$%"'\\; set XDG_CACHE_HOME`,
    );
  }
}

function describe(
  cache: Cache,
  parts: MachineParts,
  machine: MachineName,
  memory: number,
  cpus: number,
): Machine {
  const file = (part: Part, name: string): string => join(partFolder(cache, part), name);
  return {
    name: machine,
    qemu: 'qemu-system-aarch64',
    firmware: file(parts.firmware, FIRMWARE),
    kernel: file(parts.linux, 'Image'),
    kernelArguments: machine === 'dmabuf' ? ['tee.any_dmabuf=1'] : [],
    ...(parts.deviceTree && { deviceTree: file(parts.deviceTree, DEVICE_TREE) }),
    rootfs: file(parts.rootfs, ROOTFS),
    node: file(parts.node, NODE_IMAGE),
    memory,
    cpus,
    taDevKit: kitFolder(cache, parts.devKit),
    symbols: { linux: file(parts.linux, LINUX_SYMBOLS), optee: file(parts.optee, OPTEE_SYMBOLS) },
  };
}

const MIB = 1 << 20;
const RAM_BASE = 0x40000000;

/** What is left out gets its default; throws RangeError or TypeError for what is out of range. */
export function checkOptions(options: PrepareOptions): Required<
  Pick<PrepareOptions, 'machine' | 'node' | 'memory' | 'cpus'>
> & {
  machine: MachineName;
  node: NodeVersion;
  memory: number;
  cpus: number;
} {
  const { machine = 'dynamic', node = DEFAULT_NODE, memory = 1024, cpus = 2 } = options;
  oneOf('machine', machine, MACHINES);
  oneOf('node', node, NODE_VERSIONS);
  // The fixed pool must lie within RAM.
  const least = machine === 'dynamic' ? 576 : (STATIC_POOL.base + STATIC_POOL.size - RAM_BASE) / MIB + 16;
  checkInteger(memory, 'memory', least, 65536);
  checkInteger(cpus, 'cpus', 1, 4);
  return { machine, node, memory, cpus };
}

function oneOf<T>(name: string, value: T, allowed: readonly T[]): void {
  if (!allowed.includes(value)) throw invalidArgValue(name, value, `must be one of ${allowed.join(', ')}`);
}
