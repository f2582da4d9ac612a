// `npm test`: every check, the host's tests, and the device tests in a guest of each machine. Stops at the first
// failure. The last line is the total of all runners.
//
//   npm test -- [--long] [--nightly] [--list] [NAME]...   only tasks with one of these in their names
//
// --long, and CI: also what takes minutes for little news. OP-TEE's own suite, races of the addon's core, the command line
// of the guest, interrupted builds, the kernel patch on every kernel on offer, power-offs in a row, Bun and Deno.
// --nightly: also what takes much longer.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { buildAddon } from './build-addon.mjs';
import { FOLDER, JEST, V8_FLAGS, inGuest, pack } from './guest-tests.mjs';
import { ROOT, compileBench, compileTests, setUpHost } from './setup.mjs';

const require = createRequire(import.meta.url);
const REPORTS = join(ROOT, 'build', 'reports');

const { values: options, positionals: only } = parseArgs({
  args: process.argv.slice(2),
  allowPositionals: true,
  options: {
    list: { type: 'boolean' },
    long: { type: 'boolean', default: Boolean(process.env.CI) },
    nightly: { type: 'boolean', default: false },
  },
});
if (options.nightly) options.long = true;

/** Linters, what checks the kernel patch, and the debugger of a long test. */
const TEST_PACKAGES = [
  'clang-format',
  'perl',
  'zstd',
  ...(options.long || only.length > 0 ? ['gdb-multiarch'] : []),
];

const total = { passed: 0, failed: 0, skipped: 0 };
/** What failed, said once more at the end: what one lane prints can be thousands of lines from there. */
const failures = [];
const began = Date.now();
const say = (text) => process.stdout.write(`${text}\n`);
const running = new Set();

function bin(name) {
  return [process.execPath, join('node_modules', '.bin', name)];
}

/** Characters of a failure that are said again. */
const MOST_OF_FAILURE = 4000;

/** Nothing here takes nearly so long; what does, hangs. Milliseconds. */
const LIMIT = 50 * 60_000;

/** Runs a program with its output kept, shown only where it fails. Resolves with whether it exited with 0. */
function quiet([program, ...args], env = {}) {
  return new Promise((resolve) => {
    const child = spawn(program, args, {
      cwd: ROOT,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    running.add(child);
    const timer = setTimeout(() => {
      output.push(Buffer.from(`It did not end within ${LIMIT / 60_000} minutes.\n`));
      child.kill('SIGKILL');
    }, LIMIT);
    const output = [];
    child.stdout.on('data', (chunk) => output.push(chunk));
    child.stderr.on('data', (chunk) => output.push(chunk));
    child.on('error', (error) => output.push(Buffer.from(`${error.message}\n`)));
    child.on('close', (status) => {
      clearTimeout(timer);
      running.delete(child);
      resolve({ ok: status === 0, output: Buffer.concat(output).toString() });
    });
  });
}

/** A check that passes or fails as a whole. */
const check = (name, command) => ({
  name,
  run: async () => {
    const { ok, output } = await quiet(command);
    return ok ? { passed: 1 } : { failed: 1, output };
  },
});

/** Device tests may be skipped only where this file says why: by full name, which begins with the suite's. */
const SKIPPED = JSON.parse(readFileSync(join(ROOT, 'test/device/skipped.json'), 'utf8'));

/** What a Jest report says; a skipped test that is not listed counts as failed. */
function readReport(path, machine) {
  if (!existsSync(path)) return { failed: 1, output: 'Jest wrote no report' };
  const report = JSON.parse(readFileSync(path, 'utf8'));
  const result = {
    passed: report.numPassedTests,
    failed: report.numFailedTests + report.numRuntimeErrorTestSuites,
    skipped: 0,
    output: '',
    failures: [],
  };
  for (const suite of report.testResults) {
    if (suite.message && suite.assertionResults.every(({ status }) => status !== 'failed'))
      result.failures.push(suite.message);
    for (const { status, fullName, failureMessages } of suite.assertionResults) {
      if (status === 'failed') result.failures.push(`${fullName}\n${failureMessages.join('\n')}`);
      if (status !== 'pending' && status !== 'todo' && status !== 'skipped') continue;
      const listed = SKIPPED.some((entry) => entry.test === fullName && entry.machines.includes(machine));
      if (listed) result.skipped++;
      else {
        result.failed++;
        result.output += `skipped, and not listed in test/device/skipped.json: ${fullName}\n`;
      }
    }
  }
  if (result.passed + result.failed + result.skipped === 0) return { failed: 1, output: 'Jest ran no test' };
  return result;
}

/** Jest on the host, over some files of build/test. */
const hostTests = (name, pattern) => ({
  name,
  run: async () => {
    const report = join(REPORTS, `${pattern.replace('/', '-')}.json`);
    const args = ['--json', `--outputFile=${report}`, '--runInBand', `build/test/${pattern}[/.]`];
    const { ok, output } = await quiet([process.execPath, JEST, ...args], {
      NODE_OPTEE_LONG: options.long ? '1' : '',
    });
    const result = readReport(report, 'host');
    if (!ok && !result.failed) return { failed: 1, output };
    return { ...result, output: result.failed > 0 ? `${output}\n${result.output ?? ''}` : '' };
  },
});

/** What runs in the guests. */
let guestFiles;
const GUEST_FILES = [
  'package.json',
  'jest.config.js',
  'dist',
  'prebuilds',
  'examples',
  'build/no-external-buffers',
  'build/test',
  'build/bench',
];

async function runInGuest(machine, node, cpus, command, env = {}, minutes = 50) {
  const { prepareNodeModules } = require('../dist/qemu/index.js');
  const options = {
    machine,
    node,
    cpus,
    nodeModules: await prepareNodeModules(ROOT),
    env: {
      NODE_OPTEE_MACHINE: machine,
      NODE_OPTEE_NODE: String(node),
      CI: process.env.CI ?? '',
    },
  };
  const { result, logs } = await inGuest(options, guestFiles, (guest) =>
    guest.run(command, { cwd: FOLDER, env, timeout: minutes * 60_000 }),
  );
  return { ...result, secure: logs.secure };
}

/** Of OP-TEE's log what a failure shows: TAs that panicked are at its end. */
const LAST_OF_SECURE = 100;

/** Device suites about what happens at the same time. (What 1013 of xtest is about, sessions has too.) */
const CONCURRENT = ['sessions', 'cancel', 'forks', 'pkcs11-loop'];
/** The same, of `dynamic` only. */
const CONCURRENT_ONCE = ['abuse'];
/** Of `dynamic` only: the benchmark's quick form, whose machine it is, and what no machine makes a difference to. */
const ONCE = ['bench', 'no-external-buffers', 'pkcs11-answers', 'pkcs11-codes', 'garbage', 'secrets'];
/** For --nightly: each takes minutes. */
const NIGHTLY_SUITES = ['faults', 'life'];
const SUITES = readdirSync(join(ROOT, 'test/device'))
  .flatMap((name) => /^(.*)\.test\.ts$/.exec(name)?.[1] ?? [])
  .filter((name) => ![...CONCURRENT, ...CONCURRENT_ONCE, ...ONCE, ...NIGHTLY_SUITES].includes(name));

/**
 * Jest in a guest, over suites of device tests.
 *
 * Guests run beside each other, on a host of two processors: with one processor each they take little longer than alone,
 * with two nearly twice as long. So only the suites about what happens at the same time run on two.
 */
const deviceTests = (machine, node, suites, cpus = 1, long = false) => ({
  name:
    `device tests on ${machine}, Node.js ${node}` +
    (long ? `, long form: ${suites.join(', ')}` : cpus > 1 ? `, ${cpus} processors` : ''),
  run: async () => {
    const report = join(
      REPORTS,
      `device-${machine}-${node}-${cpus}${long ? `-${suites.join('-')}` : ''}.json`,
    );
    const args = ['--json', `--outputFile=${report}`, '--runInBand', 'build/test/all/device'];
    const env = { NODE_OPTEE_SUITES: suites.join(' '), NODE_OPTEE_LONG: long ? '1' : '' };
    const program = ['node', ...V8_FLAGS, JEST, ...args];
    const minutes = long ? 90 : 50;
    const { status, stdout, stderr, secure } = await runInGuest(machine, node, cpus, program, env, minutes);
    const result = readReport(report, machine);
    if (status !== 0 && !result.failed) return { failed: 1, output: stderr.toString() };
    const figures = stdout.toString().match(/^\[(cancel|life|garbage)\].*$/gm) ?? [];
    const log = secure.trimEnd().split('\n').slice(-LAST_OF_SECURE).join('\n');
    const output = `${stderr}\n${result.output}\n--- the end of the log of OP-TEE ---\n${log}`;
    return { ...result, figures, output: result.failed > 0 ? output : '' };
  },
});

/** Of a program that ends with the totals of Node's test runner. */
function countsOf({ status, stdout, stderr }) {
  const count = (what) => Number(new RegExp(`^# ${what} (\\d+)$`, 'm').exec(stdout.toString())?.[1] ?? 0);
  const passed = count('pass');
  let failed = count('fail') + count('cancelled') + count('skipped') + count('todo');
  if (failed === 0 && (status !== 0 || passed === 0)) failed = 1;
  return { passed, failed, output: failed > 0 ? `${stdout}${stderr}` : '' };
}

/** Node's own test runner in a guest, where `oldGlibc` with the C library of Debian 11. */
const smokeTests = (machine, node, { oldGlibc = false } = {}) => ({
  name: `smoke tests on ${machine}, Node.js ${node}${oldGlibc ? ', old glibc' : ''}`,
  run: async () => {
    const program = ['--test-reporter=tap', 'build/test/smoke/smoke.js'];
    if (oldGlibc) {
      const command = await require('../build/test/support/old-glibc.js').oldGlibc('arm64');
      program.unshift(...command, '/opt/node/bin/node');
    } else program.unshift('node');
    return countsOf(await runInGuest(machine, node, 1, program));
  },
});

/** Bun or Deno in a guest. */
const runtimeTests = (name, ...options) => ({
  name: `smoke tests on dynamic, ${name}`,
  run: async () => {
    const program = require('../build/test/support/tools.js').installRuntimes()[name.toLowerCase()];
    const command = [program, 'run', ...options, 'build/test/smoke/runtimes.js'];
    return countsOf(await runInGuest('dynamic', 24, 1, command, { DENO_DIR: '/tmp/deno' }));
  },
});

/** OP-TEE's own suite in a guest: proof that the machine is a good one. */
const xtest = (machine, suite, ...patterns) => ({
  name: `xtest ${[suite, ...patterns].join(' ')} on ${machine}`,
  run: async () => {
    const command = ['xtest', '-t', suite, ...patterns];
    const { status, stdout, stderr } = await runInGuest(machine, 24, 1, command);
    const totals = /^(\d+) test cases? of which (\d+) failed$/m.exec(stdout.toString()) ?? [];
    const [cases, failed] = totals.slice(1).map(Number);
    if (status === 0 && cases > 0 && failed === 0) return { passed: cases };
    return { passed: cases - failed || 0, failed: failed || 1, output: `${stdout}${stderr}` };
  },
});

const cFiles = (...folders) =>
  folders.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true })
      .map((name) => join(folder, name))
      .filter((name) => /\.(c|cc|h)$/.test(name) && !/\/(build|generated)\//.test(name)),
  );

let compiling = Promise.resolve();

/** Beside each other where one does not need another. */
async function setUp() {
  const code = async () => {
    await compileTests();
    await compileBench();
  };
  const addons = async () => {
    for (const arch of ['arm64', 'x64']) await buildAddon(arch);
    await buildAddon('arm64', { variant: 'no-external-buffers' });
  };
  const guests = async () => {
    const { prepareMachine, prepareNodeModules } = require('../dist/qemu/index.js');
    for (const machine of ['dynamic', 'static', 'dmabuf']) await prepareMachine({ machine });
    for (const node of [20, 22, 26]) await prepareMachine({ node });
    await prepareNodeModules(ROOT);
  };
  const steps = [code(), addons(), guests()];
  // What they start would go on for a while after this program; the builders of the guest end theirs.
  compiling = Promise.allSettled(steps.slice(0, 2));
  await Promise.all(steps);
  // The test TA, and the C side of the benchmark, whose quick form is a device test.
  await require('../build/bench/prepare.js').prepareBench();
  guestFiles = pack('guest.tar', ['--exclude=build/bench/libteec', ...GUEST_FILES]);
}

/** What needs no more than lib/, compiled. */
const earlyTasks = () => [
  check('eslint', [...bin('eslint'), '.']),
  check('prettier', [...bin('prettier'), '--check', '.']),
  check('clang-format', [
    'clang-format',
    '--dry-run',
    '-Werror',
    ...cFiles('native', 'qemu/agent', 'qemu/hello-world', 'test/ta', 'test/native', 'bench/c', 'examples'),
  ]),
  check('types', [...bin('tsc'), '-p', 'test/types']),
  check('publint', [...bin('publint'), '--strict']),
];

/** Those that take longest first, so that all lanes end at about the same time. */
const tasks = () => [
  hostTests('guest tests', 'guest'),
  deviceTests('static', 24, [...SUITES, ...CONCURRENT]),
  deviceTests('dmabuf', 24, [...SUITES, ...CONCURRENT]),
  deviceTests('dynamic', 24, [...SUITES, ...ONCE]),
  deviceTests('dynamic', 24, [...CONCURRENT, ...CONCURRENT_ONCE], 2),
  hostTests('host tests', 'unit'),
  hostTests('builder tests', 'builder'),
  check('arethetypeswrong', [...bin('attw'), '--pack', '.']),
  hostTests('package tests', 'package'),
  ...[20, 22, 26].map((node) => smokeTests('dynamic', node)),
  smokeTests('dynamic', 20, { oldGlibc: true }),
];

/** Files of test/long for --nightly. */
const NIGHTLY = ['faults', 'full-storage', 'interoperability', 'libteec-on-core'];
// Each file for itself: beside each other, and each with its own limit.
const longTests = (isNightly) =>
  readdirSync(join(ROOT, 'test/long'))
    .map((name) => name.replace('.test.ts', ''))
    .filter((name) => NIGHTLY.includes(name) === isNightly)
    .map((name) => hostTests(`long tests: ${name}`, `long/${name}`));

const longTasks = () => [
  xtest('dynamic', 'regression', '_10'),
  xtest('static', 'pkcs11'),
  ...longTests(false),
  runtimeTests('Bun'),
  runtimeTests('Deno', '--allow-all'),
];

const nightlyTasks = () => [
  ...[...NIGHTLY_SUITES, 'garbage'].map((suite) => deviceTests('dynamic', 24, [suite], 2, true)),
  ...longTests(true),
];

/** Until one fails. */
async function runLane(queue) {
  for (let task = queue.shift(); task && total.failed === 0; task = queue.shift()) {
    const start = Date.now();
    const {
      passed = 0,
      failed = 0,
      skipped = 0,
      output = '',
      failures: told = [],
      figures = [],
    } = await task.run().catch((error) => ({
      failed: 1,
      output: error.stack,
    }));
    total.passed += passed;
    total.failed += failed;
    total.skipped += skipped;
    if (failed > 0) {
      say(output);
      // Of what does not say which of its tests failed, the end.
      const all = told.length > 0 ? told : [output.slice(-MOST_OF_FAILURE)];
      failures.push(...all.map((text) => `${task.name}: ${text.slice(0, MOST_OF_FAILURE)}`));
    }
    const counts = `${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`;
    say(
      `${failed > 0 ? 'FAILED' : 'ok'} ${task.name}: ${counts}, ${Math.round((Date.now() - start) / 1000)} s`,
    );
    for (const line of figures) say(`  ${line}`);
  }
}

/** Four at a time, on a host of two processors: tests wait a good part of their time. */
const runAll = (queue) => Promise.all(Array.from({ length: 4 }, () => runLane(queue)));

const end = async (status) => {
  await compiling;
  for (const child of running) child.kill('SIGKILL');
  for (const failure of failures) say(`FAILED: ${failure}`);
  say(`all in ${Math.round((Date.now() - began) / 1000)} s`);
  const { passed, failed, skipped } = total;
  say(`${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`);
  process.exit(status);
};

const chosen = (tasks) =>
  tasks.filter(({ name }) => only.length === 0 || only.some((word) => name.includes(word)));
const early = chosen(earlyTasks());
const late = chosen([
  ...tasks(),
  ...(options.long || only.length > 0 ? longTasks() : []),
  ...(options.nightly || only.length > 0 ? nightlyTasks() : []),
]);
if (options.list) {
  for (const { name } of [...early, ...late]) say(name);
  process.exit(0);
}

rmSync(REPORTS, { recursive: true, force: true });
mkdirSync(REPORTS, { recursive: true });
try {
  await setUpHost(TEST_PACKAGES);
  // Where an early one fails, the set-up, which can take minutes, is not waited for.
  const checked = runLane(early).then(() => total.failed > 0 && end(1));
  await Promise.all([setUp(), checked]);
} catch (error) {
  say(`The set-up failed: ${error.stack}`);
  total.failed++;
  await end(1);
}
await runAll(late);
await end(total.failed > 0 || total.passed === 0 ? 1 : 0);
