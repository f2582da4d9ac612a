/** What users of the package work with, and the repository does not: compilers of several years, bundlers, runtimes. */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

const ROOT = dirname(require.resolve('node-optee/package.json'));

/** Compilers and bundlers. Returns their node_modules. */
export const installTools = (): string => install('tools');

/** Bun and Deno, for the guest. Returns their programs. */
export function installRuntimes(): { bun: string; deno: string } {
  const modules = install('runtimes', '--cpu=arm64', '--os=linux', '--libc=glibc', '--include=optional');
  return {
    bun: join(modules, '@oven/bun-linux-aarch64/bin/bun'),
    deno: join(modules, '@deno/linux-arm64-glibc/deno'),
  };
}

/** Installs test/`name` below build/ where its lock file has changed. */
function install(name: string, ...options: string[]): string {
  const [source, folder] = [join(ROOT, 'test', name), join(ROOT, 'build', name)];
  const stamp = join(folder, 'installed');
  const lock = readFileSync(join(source, 'package-lock.json'), 'utf8');
  if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== lock) {
    rmSync(folder, { recursive: true, force: true });
    cpSync(source, folder, { recursive: true });
    // Not their scripts: all that is needed is in the packages.
    const ci = ['ci', '--ignore-scripts', '--no-audit', '--no-fund', ...options];
    execFileSync('npm', ci, { cwd: folder, stdio: 'pipe' });
    writeFileSync(stamp, lock);
  }
  return join(folder, 'node_modules');
}
