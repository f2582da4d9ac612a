// `npm run test:sanitize`: the addon and its core under sanitizers. Any report of one is a failure. The last line is the
// total.
//
//   npm run test:sanitize -- [--minutes N] [--suites NAMES] [NAME]...
//
// --minutes  how long the fuzzer runs, 10 unless told otherwise
// --suites   only these of the device suites, with commas between them
// NAME       only these:
//   races    the core under ThreadSanitizer, on this host; each of its lines must have run
//   fuzz     what packs and unpacks calls, under libFuzzer, on this host
//   device   the device suites in a guest, with the addon under AddressSanitizer and UndefinedBehaviorSanitizer
import { execFileSync, spawn } from 'node:child_process';
import { createWriteStream, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { parseArgs } from 'node:util';
import { buildAddon } from './build-addon.mjs';
import { FOLDER, JEST, V8_FLAGS, buildTestTa, inGuest, pack } from './guest-tests.mjs';
import { ROOT, compileTests, run, setUpHost } from './setup.mjs';

const require = createRequire(import.meta.url);
const { values: options, positionals: only } = parseArgs({
  allowPositionals: true,
  options: { minutes: { type: 'string', default: '10' }, suites: { type: 'string' } },
});
if (!(Number(options.minutes) > 0)) throw new Error(`--minutes must be a number, not ${options.minutes}`);
const say = (text) => process.stdout.write(`${text}\n`);

const OUT = join(ROOT, 'build', 'sanitize');
const ADDON = join(ROOT, 'build/sanitized/linux-arm64/node-optee.node');

/** Runs a program of this host. Resolves with its whole output; rejects with that where the program fails. */
async function output(program, args, cwd = ROOT) {
  const child = spawn(program, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (text += chunk));
  const status = await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve(signal ?? code));
  });
  if (status !== 0) throw new Error(`${program} ended with ${status}\n${text}`);
  return text;
}

async function races() {
  const text = await output(process.execPath, [JEST, '--runInBand', 'build/test/long/native-core']);
  return /^Tests: +(.*), /m.exec(text)?.[1];
}

async function fuzz() {
  const folder = join(OUT, 'fuzz');
  mkdirSync(join(folder, 'corpus'), { recursive: true });
  // In one piece: the same headers are read once.
  const sources = readdirSync(join(ROOT, 'native/core'))
    .filter((name) => name.endsWith('.cc'))
    .map((name) => `native/core/${name}`);
  const all = join(folder, 'all.cc');
  const text = [...sources, 'test/native/fuzz_call.cc'].map((path) => `#include "${join(ROOT, path)}"\n`);
  writeFileSync(all, text.join(''));
  const flags = ['-std=c++20', '-g1', '-O1', '-Wall', '-Wextra', '-Werror'];
  const sanitizing = ['-fsanitize=fuzzer,address,undefined', '-fno-sanitize-recover=all'];
  await output('clang++', [...flags, ...sanitizing, all, '-o', join(folder, 'fuzz')]);
  // What it finds that is new stays in the first folder.
  const limits = [`-max_total_time=${Math.ceil(options.minutes * 60)}`, '-max_len=128', '-timeout=60'];
  const corpora = [join(folder, 'corpus'), join(ROOT, 'test/native/corpus')];
  const said = await output(join(folder, 'fuzz'), [...limits, '-print_final_stats=1', ...corpora], folder);
  const cases = /number_of_executed_units: (\d+)/.exec(said)?.[1];
  const coverage = [...said.matchAll(/cov: (\d+)/g)].at(-1)?.[1];
  if (cases === undefined) throw new Error(`The fuzzer says no number\n${said}`);
  return `${cases} cases, ${coverage} edges`;
}

/** The runtimes of the cross compiler's sanitizers, for the guest. */
const RUNTIMES = ['libasan.so.8', 'libubsan.so.1'];
/** What Node.js loads first. */
const PRELOADED = ['libasan.so.8', 'ubsan_report.so', 'libubsan.so.1'];
const REPORTS = '/tmp/reports';

/** Suites that cannot run so, each with its reason. */
const NOT_SANITIZED = {
  bench: 'It compares speeds, which are others under a sanitizer.',
  'no-external-buffers': 'It runs what the others run, with a variant of the addon.',
};

function sanitizerEnv() {
  const common = `halt_on_error=1:log_path=${REPORTS}/report:print_stacktrace=1`;
  return {
    LD_PRELOAD: PRELOADED.map((name) => join(ROOT, 'build/sanitized', name)).join(' '),
    REPORTS,
    // Leaks: Node.js itself leaves much to the end of the process. What ours leaves is counted by the suites.
    ASAN_OPTIONS: `${common}:detect_leaks=0:quarantine_size_mb=32`,
    UBSAN_OPTIONS: common,
  };
}

/** Runs something in a guest with the tests and the addon under sanitizers. */
async function inSanitizedGuest(work) {
  const { prepareNodeModules } = require('../dist/qemu/index.js');
  await buildTestTa();
  const names = ['package.json', 'jest.config.js', 'dist', 'examples', 'build/test'];
  const addon = ['--transform=s,build/sanitized,prebuilds,', 'build/sanitized/linux-arm64'];
  const env = { NODE_OPTEE_MACHINE: 'dynamic', NODE_OPTEE_NODE: '24' };
  const options = { node: 24, cpus: 2, nodeModules: await prepareNodeModules(ROOT), env };
  const { result } = await inGuest(options, pack('sanitize.tar', [...names, ...addon]), async (guest) => {
    const { status } = await guest.run(['mkdir', '-m', '1777', REPORTS]);
    if (status !== 0) throw new Error(`${REPORTS} could not be made`);
    return work(guest);
  });
  return result;
}

/** What sanitizers have reported since, with the names of our functions. */
async function takeReports(guest) {
  const { stdout } = await guest.run(['sh', '-c', `cat ${REPORTS}/*; rm -f ${REPORTS}/*`]);
  return stdout
    .toString()
    .replaceAll(/\(\S*node-optee\.node\+(0x[0-9a-f]+)\).*$/gm, (_, address) =>
      execFileSync('aarch64-linux-gnu-addr2line', ['-Cfpe', ADDON, address], { encoding: 'utf8' }).trim(),
    );
}

/** Both sanitizers are there: they find a defect each. */
async function checkCanary(guest) {
  const program = `process.dlopen({ exports: {} }, '${join(ROOT, 'build/sanitized/canary.node')}')`;
  const reports = {
    address: /AddressSanitizer: heap-buffer-overflow/,
    undefined: /canary[.]cc:\d+:\d+: signed-integer-overflow/,
  };
  for (const [defect, report] of Object.entries(reports)) {
    const { status } = await guest.run(['node', '-e', program], {
      env: { ...sanitizerEnv(), DEFECT: defect },
    });
    const found = await takeReports(guest);
    if (status === 0 || !report.test(found)) throw new Error(`No report of a defect: ${defect}\n${found}`);
  }
}

async function device() {
  await buildAddon('arm64', { variant: 'sanitized' });
  const cross = (...args) =>
    execFileSync('aarch64-linux-gnu-g++', args, { cwd: ROOT, encoding: 'utf8' }).trim();
  const built = (name) => join(ROOT, 'build/sanitized', name);
  for (const name of RUNTIMES) run('cp', [cross(`-print-file-name=${name}`), built(name)]);
  const library = ['-shared', '-fPIC', '-g1'];
  cross(...library, 'test/native/ubsan_report.cc', '-o', built('ubsan_report.so'));
  const sanitizing = ['-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
  cross(...library, ...sanitizing, 'test/native/canary.cc', '-o', built('canary.node'));
  const suites =
    options.suites?.split(',') ??
    readdirSync(join(ROOT, 'test/device'))
      .flatMap((name) => /^(.*)\.test\.ts$/.exec(name)?.[1] ?? [])
      .filter((name) => !Object.hasOwn(NOT_SANITIZED, name));
  return inSanitizedGuest(async (guest) => {
    await checkCanary(guest);
    const env = { ...sanitizerEnv(), NODE_OPTEE_SUITES: suites.join(' ') };
    const reporters = ['default', './build/test/support/live-reporter.js'].map(
      (name) => `--reporters=${name}`,
    );
    // It takes two or three times as long as without.
    const jest = [
      'node',
      ...V8_FLAGS,
      JEST,
      '--runInBand',
      '--testTimeout=600000',
      'build/test/all/device',
      ...reporters,
    ];
    const child = guest.spawn(jest, { cwd: FOLDER, env });
    const log = join(OUT, 'device.log');
    child.stdout.resume();
    await pipeline(child.stderr, createWriteStream(log));
    const { status } = await child.exit;
    const reports = await takeReports(guest);
    if (reports !== '') throw new Error(reports);
    const said = readFileSync(log, 'utf8');
    if (status !== 0) throw new Error(said);
    return /^Tests: +(.*)$/m.exec(said)?.[1];
  });
}

rmSync(OUT, { recursive: true, force: true });
mkdirSync(OUT, { recursive: true });
let [passed, failed] = [0, 0];
await setUpHost(['clang', 'libclang-rt-dev']);
await compileTests();
const PARTS = [races, fuzz, device];
for (const name of only) {
  if (!PARTS.some((part) => part.name === name)) throw new Error(`There is no part ${name}`);
}
for (const part of PARTS) {
  if (only.length > 0 && !only.includes(part.name)) continue;
  const start = Date.now();
  const { figures, error } = await part().then(
    (figures) => ({ figures }),
    (error) => ({ error }),
  );
  if (error) failed++;
  else passed++;
  const seconds = Math.round((Date.now() - start) / 1000);
  if (error) say(error.stack);
  say(`${error ? 'FAILED' : 'ok'} ${part.name}: ${error ? '' : `${figures}, no report, `}${seconds} s`);
}
say(`${passed} passed, ${failed} failed`);
process.exit(failed > 0 || passed === 0 ? 1 : 0);
