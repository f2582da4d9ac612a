// From a fresh clone to something that runs: Debian packages, npm's, TypeScript. No dependency: it runs first.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import hostPackages from './host-packages.cjs';

const { installPackages, missingPackages } = hostPackages;

export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

/** Runs a program with its output on stderr, so that stdout stays the caller's. Throws where it fails. */
export function run(program, args, options = {}) {
  const { status, signal, error } = spawnSync(program, args, {
    cwd: ROOT,
    stdio: ['ignore', 2, 2],
    ...options,
  });
  if (error) throw error;
  if (signal) process.kill(process.pid, signal);
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} failed`);
}

/** The same beside other work. */
export async function runBeside(program, args, options = {}) {
  const child = spawn(program, args, { cwd: ROOT, stdio: ['ignore', 2, 2], ...options });
  const status = await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} failed`);
}

/** A digest of files and of all files below folders. */
export function digest(...paths) {
  const hash = createHash('sha256');
  const visit = (path) => {
    hash
      .update(`${path}\0`)
      .update(readFileSync(join(ROOT, path)))
      .update('\0');
  };
  const walk = (path) => {
    for (const entry of readdirSync(join(ROOT, path), { withFileTypes: true }).sort((a, b) =>
      a.name < b.name ? -1 : 1,
    )) {
      const child = join(path, entry.name);
      if (entry.isDirectory()) walk(child);
      else visit(child);
    }
  };
  for (const path of paths) {
    if (!existsSync(join(ROOT, path))) continue;
    if (/\.[a-z]+$/.test(path)) visit(path);
    else walk(path);
  }
  return hash.digest('hex');
}

/** Does `work`, which makes `product`, unless the file `stamp` says that it was done for the same inputs. */
export async function once(stamp, product, inputs, work) {
  const path = join(ROOT, stamp);
  if (existsSync(join(ROOT, product)) && existsSync(path) && readFileSync(path, 'utf8') === inputs) return;
  rmSync(path, { force: true });
  await work();
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, inputs);
}

/** Debian packages; what else a script needs (linters, say) is named by `extra`. */
export function setUpHost(extra = []) {
  const missing = [...missingPackages(), ...missingPackages(extra)];
  if (missing.length > 0) installPackages(missing);
}

export async function setUpModules() {
  await once(
    'node_modules/.node-optee-stamp',
    'node_modules',
    digest('package.json', 'package-lock.json'),
    () => {
      run('npm', [
        'ci',
        '--include=dev',
        '--include=optional',
        '--no-audit',
        '--no-fund',
        '--loglevel=error',
      ]);
    },
  );
}

/** All that every script needs; two at once take turns. */
export function setUpAll() {
  setUpHost();
  // Run by flock below, once it is our turn.
  run('flock', [join(ROOT, 'package.json'), process.execPath, fileURLToPath(import.meta.url)]);
}

const typescript = (folder) =>
  runBeside(process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', join(ROOT, folder)]);

/** lib/ to dist/. Removed first, so that no file of an older version stays. */
export async function compile() {
  await once('build/dist.stamp', 'dist/index.js', digest('lib', 'tsconfig.json', 'package-lock.json'), () => {
    rmSync(join(ROOT, 'dist'), { recursive: true, force: true });
    return typescript('.');
  });
}

/** bench/ to build/bench/. */
export async function compileBench() {
  const inputs = digest('bench', 'test/support', 'lib', 'tsconfig.json', 'package-lock.json');
  await once('build/bench.stamp', 'build/bench', inputs, () => typescript('bench'));
}

/** test/ to build/test/. */
export async function compileTests() {
  const inputs = digest('test', 'lib', 'tsconfig.json', 'package-lock.json');
  await once('build/test.stamp', 'build/test', inputs, () => {
    rmSync(join(ROOT, 'build', 'test'), { recursive: true, force: true });
    return typescript('test');
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await setUpModules();
  await compile();
}
