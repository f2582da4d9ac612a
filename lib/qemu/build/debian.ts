import { existsSync, readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BuildError, CommandError, command, type BuildLog } from './command.js';
import { isDebian } from './host.js';

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** What of the archive is looked at. A package's candidates come from all suites. */
export interface Offer {
  readonly suites: readonly string[];
  readonly architecture: 'amd64' | 'arm64';
  readonly types: readonly ('deb' | 'deb-src')[];
}

const GUEST_OFFER: Offer = {
  suites: ['sid', 'forky', 'trixie-backports', 'trixie'],
  architecture: 'arm64',
  types: ['deb', 'deb-src'],
};

const MIRROR_VARIABLE = 'NODE_OPTEE_DEBIAN_MIRROR';

const OTHER_HOST =
  `The image is built from Debian's packages, and this host is not Debian: set ${MIRROR_VARIABLE} to the URL of a ` +
  `Debian mirror (apt and debian-archive-keyring are needed), or run in the container image debian:12.`;

/** The base URL of the host's own Debian mirror in `apt-get indextargets` output (URI, origin, label; tabs). */
export function mirrorOf(indexTargets: string): string | undefined {
  for (const line of indexTargets.split('\n')) {
    const [uri, origin, label] = line.split('\t');
    if (uri && SCHEME.test(uri) && origin === 'Debian' && label === 'Debian') return uri.replace(/\/+$/, '');
  }
  return undefined;
}

/** What the builder's own apt can read: not a DVD, say. */
const SCHEME = /^(https?|ftp|file):\//;

/**
 * The same where apt has no lists yet, as in a container image that removed them: from what `apt-get update
 * --print-uris` would fetch of the host's own release. Nothing says there whose archive it is, but the path does.
 */
export function mirrorOfUris(text: string, codename: string): string | undefined {
  for (const [, base = '', suite] of text.matchAll(/^'(\S+?)\/dists\/(\S+?)\/InRelease'/gm)) {
    if (suite === codename && SCHEME.test(base) && /\/debian$/.test(base)) return base;
  }
  return undefined;
}

/** The Debian mirror: the host's own, or the one that was named. Throws a BuildError where there is none. */
export async function findMirror(): Promise<string> {
  const chosen = process.env[MIRROR_VARIABLE];
  if (chosen !== undefined && chosen !== '') {
    if (!SCHEME.test(chosen)) {
      throw new BuildError(`${MIRROR_VARIABLE} must be a URL, but is '${chosen}'`);
    }
    return chosen.replace(/\/+$/, '');
  }
  if (!isDebian()) throw new BuildError(OTHER_HOST);
  const format = '$(REPO_URI)\t$(ORIGIN)\t$(LABEL)';
  const mirror =
    mirrorOf(await command('apt-get', ['indextargets', '--format', format])) ??
    mirrorOfUris(await command('apt-get', ['update', '--print-uris']), codename());
  if (mirror === undefined) {
    throw new BuildError(
      `apt knows no Debian mirror on this host: run "apt-get update" once, or set ${MIRROR_VARIABLE} to the URL of one`,
    );
  }
  return mirror;
}

function codename(): string {
  return /^VERSION_CODENAME=(.*)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'sid';
}

/** A version of a package on offer. */
export interface Candidate {
  readonly package: string;
  readonly version: string;
  /** Debian's suites that have it. */
  readonly suites: readonly string[];
}

/** Lines of `apt-cache madison` as candidates; `kind` picks binary packages or sources. */
export function parseMadison(text: string, kind: 'Packages' | 'Sources'): Candidate[] {
  const found = new Map<string, Candidate>();
  for (const line of text.split('\n')) {
    const [name, version, origin] = line.split('|').map((field) => field.trim());
    if (!name || !version || !origin?.endsWith(` ${kind}`)) continue;
    const suite = /^\S+ ([^/\s]+)/.exec(origin)?.[1] ?? '';
    const suites = [...(found.get(`${name} ${version}`)?.suites ?? []), suite];
    found.set(`${name} ${version}`, { package: name, version, suites });
  }
  return [...found.values()];
}

/** Sorts by Debian's order of versions, the newest first. */
export async function newestFirst(candidates: readonly Candidate[]): Promise<Candidate[]> {
  const sorted: Candidate[] = [];
  for (const candidate of candidates) {
    let at = 0;
    for (const other of sorted) {
      if (await isNewer(candidate.version, other.version)) break;
      at++;
    }
    sorted.splice(at, 0, candidate);
  }
  return sorted;
}

/** Whether version `a` is newer than `b`, or equal where `orEqual`. */
export async function isNewer(a: string, b: string, orEqual = false): Promise<boolean> {
  return command('dpkg', ['--compare-versions', a, orEqual ? 'ge' : 'gt', b]).then(
    () => true,
    (error: unknown) => {
      if (error instanceof CommandError && error.status === 1) return false;
      throw error;
    },
  );
}

/**
 * The suites that the mirror does not carry, in the message of a failed `apt-get update`. A mirror that cannot be
 * reached, or a signature that is wrong, is something else: older packages would be taken without a need.
 */
export function absentSuites(message: string): string[] {
  const found = message.matchAll(/^E: The repository '\S+ (\S+) Release' does not have a Release file/gm);
  return [...new Set([...found].map(([, suite = '']) => suite))];
}

/**
 * The suites whose lists are past their Valid-Until, in the message of a failed `apt-get update`: a mirror that lags,
 * or somebody on the way who hands out old lists.
 */
export function expiredSuites(message: string): string[] {
  const found = message.matchAll(/^E: Release file for \S+\/dists\/(\S+?)\/\S+ is expired /gm);
  return [...new Set([...found].map(([, suite = '']) => suite))];
}

/** apt with a configuration, lists and cache of its own: nothing of the host's apt is changed. */
export class DebianArchive {
  readonly #environment: Record<string, string>;
  readonly #log: BuildLog;
  readonly #signal: AbortSignal | undefined;
  #leftOut: readonly string[] = [];
  #expired: readonly string[] = [];

  private constructor(configuration: string, log: BuildLog, signal: AbortSignal | undefined) {
    this.#environment = { APT_CONFIG: configuration };
    this.#log = log;
    this.#signal = signal;
  }

  /** Fetches the lists of all suites, signatures checked. `folder` must be empty and the caller's own. */
  static async open(
    folder: string,
    log: BuildLog,
    signal?: AbortSignal,
    offer = GUEST_OFFER,
  ): Promise<DebianArchive> {
    const mirror = await findMirror();
    if (!existsSync(KEYRING)) throw new BuildError(`${KEYRING} is missing: install debian-archive-keyring`);
    for (const name of ['lists/partial', 'cache/archives/partial']) {
      await mkdir(join(folder, name), { recursive: true });
    }
    await writeFile(join(folder, 'status'), '');
    const own = {
      'Dir::State::Lists': join(folder, 'lists'),
      'Dir::State::status': join(folder, 'status'),
      'Dir::Cache': join(folder, 'cache'),
      'Dir::Etc::sourcelist': join(folder, 'sources.list'),
      'Dir::Etc::sourceparts': '/dev/null',
      'Dir::Etc::preferences': '/dev/null',
      'Dir::Etc::preferencesparts': '/dev/null',
      'Dir::Etc::main': '/dev/null',
      'Dir::Etc::parts': '/dev/null',
      'APT::Architecture': offer.architecture,
      'APT::Sandbox::User': '',
      'Acquire::Languages': 'none',
      'Acquire::Retries': '2',
    };
    const lines = Object.entries(own).map(([name, value]) => `${name} "${value}";`);
    lines.push(`APT::Architectures { "${offer.architecture}"; };`);
    // How the host reaches its mirror (proxies, certificates) holds for us too.
    const host = await command('apt-config', ['dump']);
    const access = host.split('\n').filter((line) => /^Acquire::https?::/i.test(line));
    const configuration = join(folder, 'apt.conf');
    await writeFile(configuration, [...access, ...lines].join('\n') + '\n');
    const archive = new DebianArchive(configuration, log, signal);
    await archive.#open(offer, mirror, folder);
    return archive;
  }

  async #open(offer: Offer, mirror: string, folder: string): Promise<void> {
    try {
      await this.#update(offer, mirror, folder);
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      const absent = absentSuites(error.message);
      const expired = expiredSuites(error.message).filter((suite) => !this.#expired.includes(suite));
      const suites = offer.suites.filter((suite) => !absent.includes(suite));
      if (absent.length + expired.length === 0 || suites.length === 0) throw error;
      this.#leftOut = [...this.#leftOut, ...absent];
      this.#expired = [...this.#expired, ...expired];
      await this.#open({ ...offer, suites }, mirror, folder);
    }
  }

  /** Suites that the mirror does not carry. */
  get leftOut(): readonly string[] {
    return this.#leftOut;
  }

  /** Suites whose lists are too old to tell what is new. */
  get expired(): readonly string[] {
    return this.#expired;
  }

  async #update({ suites, types }: Offer, mirror: string, folder: string): Promise<void> {
    const sources = suites.flatMap((suite) => {
      const options = `signed-by=${KEYRING}${this.#expired.includes(suite) ? ' check-valid-until=no' : ''}`;
      return types.map((type) => `${type} [${options}] ${mirror} ${suite} main`);
    });
    await writeFile(join(folder, 'sources.list'), sources.join('\n') + '\n');
    await this.#run('apt-get', ['update', '-q', '--error-on=any'], folder);
  }

  /** Binary packages (of the architecture or all) whose name matches, every version on offer. */
  async binaries(...names: string[]): Promise<Candidate[]> {
    return parseMadison(await this.#read(['madison', ...names]), 'Packages');
  }

  async sources(name: string): Promise<Candidate[]> {
    return parseMadison(await this.#read(['madison', name]), 'Sources').filter((c) => c.package === name);
  }

  /** Names of binary packages that match a regular expression. */
  async names(expression: string): Promise<string[]> {
    const text = await this.#read(['search', '--names-only', expression]);
    return text.split('\n').flatMap((line) => line.split(' ', 1)[0] || []);
  }

  /** Downloads .deb files into a folder; apt checks them against the signed lists. */
  async downloadBinaries(candidates: readonly Candidate[], folder: string): Promise<void> {
    await this.#run(
      'apt-get',
      ['download', '-q', ...candidates.map((c) => `${c.package}=${c.version}`)],
      folder,
    );
  }

  /** Downloads the files of a source package into a folder. */
  async downloadSource(candidate: Candidate, folder: string): Promise<void> {
    await this.#run(
      'apt-get',
      ['source', '-q', '--download-only', '--only-source', `${candidate.package}=${candidate.version}`],
      folder,
    );
  }

  async #run(program: string, args: string[], cwd: string): Promise<void> {
    await command(program, args, { cwd, env: this.#environment, log: this.#log, signal: this.#signal });
  }

  #read(args: string[]): Promise<string> {
    return command('apt-cache', args, { env: this.#environment, signal: this.#signal });
  }
}
