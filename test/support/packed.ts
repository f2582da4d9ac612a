/** The package as users have it: packed, and installed in an empty application. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

const ROOT = dirname(require.resolve('node-optee/package.json'));

export interface Packed {
  /** The application's folder. */
  readonly app: string;
  readonly tarball: string;
  /** What the tarball holds. */
  readonly files: readonly { path: string }[];
  remove(): void;
}

export function installPacked(): Packed {
  const folder = mkdtempSync(join(tmpdir(), 'node-optee-package-'));
  const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', folder];
  const [packed] = JSON.parse(execFileSync('npm', args, { cwd: ROOT, encoding: 'utf8', stdio: 'pipe' })) as {
    filename: string;
    files: { path: string }[];
  }[];
  const tarball = join(folder, packed.filename);
  const app = join(folder, 'app');
  mkdirSync(app);
  writeFileSync(join(app, 'package.json'), '{ "private": true }');
  execFileSync('npm', ['install', '--offline', '--no-audit', tarball], {
    cwd: app,
    stdio: 'pipe',
  });
  return {
    app,
    tarball,
    files: packed.files,
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
