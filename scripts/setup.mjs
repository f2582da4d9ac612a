// From a fresh clone to something that runs: Debian packages, npm's, TypeScript. No dependency: it runs first.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
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

/** Where steps keep what their programs say. */
const LOGS = join(ROOT, 'build', 'logs');

/** How many of a log's last lines a failure shows. */
const LAST_LINES = 25;

/**
 * A step of the set-up: two lines on stderr, and its programs' output in a log.
 * @param work gets a function that runs a program; resolves with what is then returned
 * @throws Error with the log's last lines and its path where a program fails
 */
export async function step(title, work) {
  process.stderr.write(`${title} ...\n`);
  const start = Date.now();
  mkdirSync(LOGS, { recursive: true });
  const path = join(
    LOGS,
    `${title
      .toLowerCase()
      .match(/[a-z0-9]+/g)
      .join('-')}.log`,
  );
  const log = openSync(path, 'w');
  const runLogged = async (program, args, options = {}) => {
    const child = spawn(program, args, { cwd: ROOT, ...options, stdio: ['ignore', log, log] });
    const status = await new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code, signal) => resolve(signal ?? code));
    });
    if (status === 0) return;
    const lines = readFileSync(path, 'utf8').trimEnd().split('\n').slice(-LAST_LINES);
    throw new Error(
      `${title}: ${program} ended with ${status}:\n${lines.join('\n')}\nThe whole log: ${path}`,
    );
  };
  try {
    const result = await work(runLogged);
    process.stderr.write(`${title}: ${Math.round((Date.now() - start) / 1000)} s\n`);
    return result;
  } finally {
    closeSync(log);
  }
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

const DPKG_STATUS = '/var/lib/dpkg/status';

/** Debian packages; what else a script needs (linters, say) is named by `extra`. dpkg is asked when it has changed. */
export async function setUpHost(extra = []) {
  const { mtimeMs } = existsSync(DPKG_STATUS) ? statSync(DPKG_STATUS) : { mtimeMs: 0 };
  const stamp = join('build', `host${extra.map((name) => `-${name}`).join('')}.stamp`);
  await once(
    stamp,
    'package.json',
    `${digest('scripts/host-packages.cjs')} ${mtimeMs} ${process.env.NODE_OPTEE_DEBIAN_MIRROR ?? ''}`,
    () => {
      const missing = [...missingPackages(), ...missingPackages(extra)];
      if (missing.length > 0) installPackages(missing, join(LOGS, 'debian-packages.log'));
    },
  );
}

export async function setUpModules() {
  await once(
    'node_modules/.node-optee-stamp',
    'node_modules',
    digest('package.json', 'package-lock.json'),
    () => {
      const words = [
        'ci',
        '--include=dev',
        '--include=optional',
        '--no-audit',
        '--no-fund',
        '--loglevel=error',
      ];
      return step('npm packages', (runLogged) => runLogged('npm', words));
    },
  );
}

/** All that every script needs; two at once take turns. */
export async function setUpAll() {
  if (process.platform !== 'linux')
    throw new Error(
      `The guest needs Linux, and this is ${process.platform}: use the container image debian:12`,
    );
  // make, and so node-gyp and the TAs' builds, cannot work below such a folder.
  if (!/^[\p{L}\p{N}/._+@,-]+$/u.test(ROOT))
    throw new Error(`The clone's path must have letters, digits and /._+@,- only: move ${ROOT}`);
  await setUpHost();
  // This file's last lines, run by flock once it is our turn. They say themselves what went wrong.
  const words = [join(ROOT, 'package.json'), process.execPath, fileURLToPath(import.meta.url)];
  const { status, error } = spawnSync('flock', words, { cwd: ROOT, stdio: ['ignore', 2, 2] });
  if (error) throw error;
  if (status !== 0) process.exit(status ?? 1);
}

const typescript = (folder) =>
  step(`TypeScript of ${folder}/`, (runLogged) =>
    runLogged(process.execPath, [
      join(ROOT, 'node_modules/typescript/bin/tsc'),
      '-p',
      join(ROOT, folder === 'lib' ? '.' : folder),
    ]),
  );

/** lib/ to dist/. Removed first, so that no file of an older version stays. */
export async function compile() {
  await once('build/dist.stamp', 'dist/index.js', digest('lib', 'tsconfig.json', 'package-lock.json'), () => {
    rmSync(join(ROOT, 'dist'), { recursive: true, force: true });
    return typescript('lib');
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
  try {
    await setUpModules();
    await compile();
  } catch (error) {
    process.stderr.write(`Set-up failed: ${error.message}\n`);
    process.exitCode = 1;
  }
}
