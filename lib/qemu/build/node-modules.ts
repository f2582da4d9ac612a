import { existsSync, mkdirSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { partKey } from './cache.js';
import { BuildError } from './command.js';
import { npm } from './npm.js';
import { ext4Recipe, makeExt4 } from './ext4.js';
import { type Part, recipeOf } from './part.js';
import { Snapshot } from './snapshot.js';
import type { Toolchain } from './toolchain.js';

export const NODE_MODULES_IMAGE = 'node_modules.ext4';

/** What `npm ci` reads of a folder, besides the user's own settings. */
const FILES = ['package.json', 'package-lock.json', 'npm-shrinkwrap.json', '.npmrc'];

/** What it goes by in a package.json: a change of its scripts, say, installs nothing anew. */
const FIELDS = [
  'name',
  'version',
  'bin',
  'directories',
  'dependencies',
  'devDependencies',
  'optionalDependencies',
  'peerDependencies',
  'peerDependenciesMeta',
  'bundleDependencies',
  'bundledDependencies',
  'overrides',
  'workspaces',
];

/**
 * A share's locked dependencies installed for arm64, as an image that is mounted over its `node_modules`.
 * Install scripts do not run: they would build for the host. Throws a BuildError where there is no lock file.
 */
export function nodeModulesPart(share: string, toolchain: Toolchain): Part {
  const { data, files } = lockedFiles(share);
  const target = ['--cpu=arm64', '--os=linux', '--libc=glibc'];
  // All kinds, whatever the user's settings leave out: the image serves every later run.
  const kinds = ['--include=dev', '--include=optional', '--include=peer'];
  return {
    name: 'node-modules',
    title: 'npm ci for arm64',
    needs: [],
    after: [],
    hostPackages: ['e2fsprogs', 'fakeroot'],
    inputs: {
      recipe: recipeOf(__filename),
      tools: [toolchain.mke2fs],
      image: ext4Recipe(),
      options: [...target, ...kinds],
      files,
    },
    async build(folder, shop) {
      data.write(shop.scratch);
      const words = ['ci', ...target, ...kinds, '--ignore-scripts', '--no-audit', '--no-fund'];
      await npm(words, { cwd: shop.scratch, log: shop.log, signal: shop.signal });
      const modules = join(shop.scratch, 'node_modules');
      // A share without dependencies gets an empty folder.
      mkdirSync(modules, { recursive: true });
      await makeExt4(modules, join(folder, NODE_MODULES_IMAGE), 0, shop);
    },
  };
}

/** What is installed from, and what of it counts for the key. Throws as {@link nodeModulesPart} does. */
export function lockedFiles(share: string): { data: Snapshot; files: Record<string, string> } {
  const present = FILES.filter((name) => existsSync(join(share, name)));
  const lock = ['npm-shrinkwrap.json', 'package-lock.json'].find((name) => present.includes(name));
  if (lock === undefined) throw new BuildError(`--node-modules: there is no package-lock.json in ${share}`);
  const local = localFiles(parse(new Snapshot(share, [lock]).text(lock), join(share, lock)), share);
  const data = new Snapshot(share, [...present, ...local]);
  return { data, files: Object.fromEntries(data.names.map((name) => [name, fileKey(data, name, share)])) };
}

function fileKey(data: Snapshot, name: string, share: string): string {
  if (!/(^|\/)package\.json$/.test(name)) return partKey(data.bytes(name).toString('latin1'));
  const content = parse(data.text(name), join(share, name));
  return partKey(FIELDS.map((field) => content[field] ?? null));
}

function parse(text: string, path: string): Record<string, unknown> {
  try {
    return Object(JSON.parse(text)) as Record<string, unknown>;
  } catch (cause) {
    throw new BuildError(`--node-modules: ${path} is not JSON: ${(cause as Error).message}`, { cause });
  }
}

interface LockedPackage {
  readonly link?: boolean;
  readonly resolved?: string;
}

/**
 * What a lock file takes from the share itself: tarballs, and the package.json of each workspace and `file:` folder,
 * to which npm links. Throws where one lies outside of the share.
 */
export function localFiles(lock: Record<string, unknown>, share: string): string[] {
  const packages = Object.values(Object(lock['packages']) as Record<string, LockedPackage>);
  return packages.flatMap(({ link, resolved = '' }) => {
    const tarball = resolved.startsWith('file:') ? resolved.slice('file:'.length) : undefined;
    const path = link ? join(resolved, 'package.json') : tarball === undefined ? undefined : join(tarball);
    if (path === undefined) return [];
    if (isAbsolute(path) || path.startsWith('../') || !existsSync(join(share, path))) {
      throw new BuildError(
        `--node-modules: the lock file names ${tarball ?? resolved}, which is not in ${share}`,
      );
    }
    return [path];
  });
}
