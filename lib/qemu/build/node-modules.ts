import { copyFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { partKey } from './cache.js';
import { BuildError } from './command.js';
import { type Part, makeExt4 } from './part.js';

export const NODE_MODULES_IMAGE = 'node_modules.ext4';

/** What `npm ci` reads, besides the user's own settings. */
const FILES = ['package.json', 'package-lock.json', 'npm-shrinkwrap.json', '.npmrc'];

/**
 * A share's locked dependencies installed for arm64, as an image that is mounted over its `node_modules`.
 * Install scripts do not run: they would build for the host.
 */
export function nodeModulesPart(share: string): Part {
  const present = FILES.filter((name) => existsSync(join(share, name)));
  if (!present.includes('package-lock.json') && !present.includes('npm-shrinkwrap.json')) {
    throw new BuildError(`--node-modules: there is no package-lock.json in ${share}`);
  }
  return {
    name: 'node-modules',
    title: 'npm ci for arm64',
    needs: [],
    inputs: {
      recipe: 1,
      files: Object.fromEntries(
        present.map((name) => [name, partKey(readFileSync(join(share, name), 'utf8'))]),
      ),
    },
    async build(folder, shop) {
      for (const name of present) copyFileSync(join(share, name), join(shop.scratch, name));
      const target = ['--cpu=arm64', '--os=linux', '--libc=glibc'];
      await shop.run('npm', ['ci', ...target, '--ignore-scripts', '--no-audit', '--no-fund']);
      const modules = join(shop.scratch, 'node_modules');
      // A share without dependencies gets an empty folder.
      mkdirSync(modules, { recursive: true });
      await makeExt4(modules, join(folder, NODE_MODULES_IMAGE), 0, shop);
    },
  };
}
