import { copyFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { partKey } from './cache.js';
import { BuildError } from './command.js';
import { type Part, makeExt4 } from './part.js';

export const NODE_MODULES_IMAGE = 'node_modules.ext4';

/** What `npm ci` reads of a folder, besides the user's own settings. */
const FILES = ['package.json', 'package-lock.json', 'npm-shrinkwrap.json', '.npmrc'];

/**
 * A share's locked dependencies installed for arm64, as an image that is mounted over its `node_modules`.
 * Install scripts do not run: they would build for the host. Throws a BuildError where there is no lock file.
 */
export function nodeModulesPart(share: string): Part {
  const present = FILES.filter((name) => existsSync(join(share, name)));
  const lock = ['npm-shrinkwrap.json', 'package-lock.json'].find((name) => present.includes(name));
  if (lock === undefined) throw new BuildError(`--node-modules: there is no package-lock.json in ${share}`);
  const files = [...present, ...localPackages(readFileSync(join(share, lock), 'utf8'), share)];
  const target = ['--cpu=arm64', '--os=linux', '--libc=glibc'];
  // All kinds, whatever the user's settings leave out: the image serves every later run.
  const kinds = ['--include=dev', '--include=optional', '--include=peer'];
  return {
    name: 'node-modules',
    title: 'npm ci for arm64',
    needs: [],
    inputs: {
      recipe: 1,
      options: [...target, ...kinds],
      files: Object.fromEntries(
        files.map((name) => [name, partKey(readFileSync(join(share, name), 'utf8'))]),
      ),
    },
    async build(folder, shop) {
      for (const name of files) {
        mkdirSync(dirname(join(shop.scratch, name)), { recursive: true });
        copyFileSync(join(share, name), join(shop.scratch, name));
      }
      await shop.run('npm', ['ci', ...target, ...kinds, '--ignore-scripts', '--no-audit', '--no-fund']);
      const modules = join(shop.scratch, 'node_modules');
      // A share without dependencies gets an empty folder.
      mkdirSync(modules, { recursive: true });
      await makeExt4(modules, join(folder, NODE_MODULES_IMAGE), 0, shop);
    },
  };
}

/**
 * The package.json of each workspace and `file:` dependency: npm links to those, and the links lead into the share.
 * Throws where one lies outside of it.
 */
export function localPackages(lock: string, share: string): string[] {
  const { packages = {} } = JSON.parse(lock) as {
    packages?: Record<string, { link?: boolean; resolved?: string }>;
  };
  const folders = Object.values(packages).flatMap(({ link, resolved }) =>
    link && resolved ? [resolved] : [],
  );
  return folders.map((folder) => {
    const name = join(folder, 'package.json');
    if (name.startsWith('..') || !existsSync(join(share, name))) {
      throw new BuildError(`--node-modules: the lock file links to ${folder}, which is not in ${share}`);
    }
    return name;
  });
}
