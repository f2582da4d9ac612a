// scripts/setup.mjs and host-packages.cjs: what a first run prints. Each in a process of its own, as they run.
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';

const ROOT = join(__dirname, '../../..');

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'node-optee-setup-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The scripts in a clone of this name. */
function clone(name: string): string {
  const root = join(folder, name);
  mkdirSync(root);
  for (const part of ['scripts', 'package.json'])
    cpSync(join(ROOT, part), join(root, part), { recursive: true });
  return root;
}

function node(cwd: string, ...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd, encoding: 'utf8' });
  return { status, stdout, stderr };
}

test('a step is two lines; what its programs say is in a log', () => {
  const root = clone('good');
  const script = `import('./scripts/setup.mjs').then(({ step }) =>
    step('Step of a test', (run) => run('sh', ['-c', 'echo out; echo err >&2'])))`;
  const { status, stdout, stderr } = node(root, '-e', script);
  expect({ status, stdout }).toEqual({ status: 0, stdout: '' });
  expect(stderr).toMatch(/^Step of a test \.\.\.\nStep of a test: \d+ s\n$/);
  expect(readFileSync(join(root, 'build/logs/step-of-a-test.log'), 'utf8')).toBe('out\nerr\n');
});

test('a step that fails shows the last lines, and where all of them are', () => {
  const root = clone('bad');
  const script = `import('./scripts/setup.mjs').then(({ step }) =>
    step('Bad', (run) => run('sh', ['-c', 'seq 1000; exit 3']))).catch(({ message }) => console.log(message))`;
  const { stdout } = node(root, '-e', script);
  const log = join(root, 'build/logs/bad.log');
  const lines = Array.from({ length: 25 }, (_, i) => i + 976).join('\n');
  expect(stdout).toBe(`Bad: sh ended with 3:\n${lines}\nThe whole log: ${log}\n`);
  expect(readFileSync(log, 'utf8')).toMatch(/^1\n2\n/);
});

test('apt says nothing on the terminal; where it fails its last lines are shown', () => {
  const log = join(folder, 'logs/apt.log');
  const script = `try {
    require(process.argv[1]).installPackages(['node-optee-no-such-package'], process.argv[2]);
  } catch ({ message }) { console.log(message); }`;
  const { stdout, stderr } = node(folder, '-e', script, join(ROOT, 'scripts/host-packages.cjs'), log);
  expect(stderr).toMatch(
    /^[^\n]*apt-get [^\n]* update -q\n[^\n]*install[^\n]* node-optee-no-such-package\n$/,
  );
  expect(stdout).toMatch(/^This failed: .*apt-get.*\n/);
  expect(stdout).toContain(`The whole log: ${log}\n`);
  expect(readFileSync(log, 'utf8')).not.toBe('');
}, 120_000);

test('a clone where make cannot work is refused before anything is done', () => {
  const root = clone('my clone');
  const { status, stderr } = node(root, 'scripts/start.mjs', 'qemu', 'true');
  expect(status).toBe(1);
  expect(stderr).toBe(
    `Set-up failed: The clone's path must have letters, digits and /._+@,- only: move ${root}\n`,
  );
});
