/** What users of the package work with, and the repository does not: compilers of several years, bundlers. */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

const ROOT = dirname(require.resolve('node-optee/package.json'));

/** Installs them below build/ where their lock file has changed. Returns their node_modules. */
export function installTools(): string {
  const [source, folder] = [join(ROOT, 'test', 'tools'), join(ROOT, 'build', 'tools')];
  const stamp = join(folder, 'installed');
  const lock = readFileSync(join(source, 'package-lock.json'), 'utf8');
  if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== lock) {
    rmSync(folder, { recursive: true, force: true });
    cpSync(source, folder, { recursive: true });
    // Not their scripts: all that is needed is in the packages.
    execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], {
      cwd: folder,
      stdio: 'pipe',
    });
    writeFileSync(stamp, lock);
  }
  return join(folder, 'node_modules');
}
