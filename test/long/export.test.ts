// From the cache that is there to other hosts: a real archive, and what docs/ci.md says, as it stands there.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { cacheKey } from '#lib/qemu/build/exchange';
import { installPacked, type Packed } from '../support/packed.js';

const ROOT = dirname(require.resolve('node-optee/package.json'));
const LIMIT = 15 * 60_000;

let packed: Packed;
let folder: string;
beforeAll(() => {
  packed = installPacked();
  folder = mkdtempSync(join(tmpdir(), 'node-optee-export-'));
  mkdirSync(join(packed.app, 'test'));
  // xtest's TA of the operating system, whose first command answers.
  writeFileSync(
    join(packed.app, 'test/tee.test.mjs'),
    `import test from 'node:test';
    import assert from 'node:assert';
    import { TeeContext } from 'node-optee';
    test('a TA answers', async () => {
      const tee = TeeContext.open();
      const session = await tee.openSession('5b9e0e40-2636-11e1-ad9e-0002a5d5c51b');
      await session.invoke(8, []).catch((error) => assert.match(error.code, /^TEE_/));
      await session.close();
      await tee.close();
      console.log('a TA answered in Node.js ' + process.version);
    });`,
  );
}, LIMIT);
afterAll(() => {
  packed.remove();
  rmSync(folder, { recursive: true, force: true });
});

/** A PATH with these programs only: no compiler, no apt, no dpkg. */
function only(...programs: string[]): string {
  const path = mkdtempSync(join(folder, 'bin-'));
  for (const name of programs) {
    const { stdout } = spawnSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' });
    symlinkSync(name === 'node' ? process.execPath : stdout.trim(), join(path, name));
  }
  return path;
}

/** What a host has on which nothing was installed but Node.js and QEMU. */
const BARE = ['node', 'qemu-system-aarch64', 'sh', 'cat', 'flock', 'setpriv'];

interface Run {
  status: number | null;
  stdout: string;
  stderr: string;
  /** Of a processor's time, with that of all its children: what others do on the machine does not count. */
  seconds: number;
}

/** Runs the packed package's command without a network, where that can be cut off. */
function bare(home: string, ...words: string[]): Run {
  const cli = join(packed.app, 'node_modules/node-optee/dist/cli.js');
  const cut = process.getuid?.() === 0 ? '-n' : '-rn';
  const unshare = spawnSync('sh', ['-c', 'command -v unshare'], { encoding: 'utf8' }).stdout.trim();
  const namespace = spawnSync('unshare', [cut, 'true']).status === 0 ? [unshare, cut] : [];
  const env = { PATH: only(...BARE), HOME: folder, XDG_CACHE_HOME: home };
  const times = join(folder, 'times');
  const script = `env PATH="$bare" "$@"; status=$?; times > '${times}'; exit $status`;
  const args = ['-c', script, 'sh', ...namespace, process.execPath, cli, 'qemu', ...words];
  const run = spawnSync('sh', args, {
    cwd: packed.app,
    encoding: 'utf8',
    env: { ...env, bare: env.PATH, PATH: process.env['PATH'] },
  });
  // The second line is the children's: 0m1.50s 0m0.25s
  const [, children = ''] = readFileSync(times, 'utf8').split('\n');
  const spent = [...children.matchAll(/(\d+)m([\d.]+)s/g)];
  return {
    ...run,
    seconds: spent.reduce((sum, [, minutes, rest]) => sum + 60 * Number(minutes) + Number(rest), 0),
  };
}

describe('an archive of one machine with Node.js 24', () => {
  test('has at most 80 MB, and is an answer of a TA within a minute, with nothing but Node.js and QEMU', () => {
    const file = join(folder, 'guest.tar.zst');
    const cli = join(packed.app, 'node_modules/node-optee/dist/cli.js');
    const exported = spawnSync(process.execPath, [cli, 'qemu', '--export', file], { encoding: 'utf8' });
    expect(exported).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^[0-9a-f]{64} {2}/) as unknown,
    });
    const megabytes = statSync(file).size / 1e6;
    expect(megabytes).toBeLessThan(80);

    const home = join(folder, 'home');
    const imported = bare(home, '--import', file);
    expect(imported).toMatchObject({ status: 0, stdout: `${join(home, 'node-optee')}\n` });
    const run = bare(home, 'node', '--test');
    expect(run.stdout).toContain('a TA answered in Node.js v24.');
    expect(run.status).toBe(0);
    const figures = [megabytes, imported.seconds, run.seconds].map((figure) => figure.toFixed(1));
    process.stdout.write(`[export] MB, seconds of import and of the first run: ${figures.join(', ')}\n`);
    expect(imported.seconds + run.seconds).toBeLessThan(60);
    // What this archive has not is built, and that is refused before anything is done.
    const other = bare(home, '--node', '22', 'true');
    expect(other.status).toBe(1);
    expect(other.stdout).toBe('');
  }, 600_000);

  test('the device trees of the other machines are made for the QEMU and the memory of the host that imports', () => {
    const file = join(folder, 'others.tar.zst');
    const cli = join(packed.app, 'node_modules/node-optee/dist/cli.js');
    const words = ['qemu', '--export', file, '--machine', 'static,dmabuf'];
    expect(spawnSync(process.execPath, [cli, ...words])).toMatchObject({ status: 0 });
    const home = join(folder, 'others');
    expect(bare(home, '--import', file)).toMatchObject({ status: 0 });
    for (const [machine, heap] of [
      ['static', 'protected,secure-video'],
      ['dmabuf', 'sdp@7e000000'],
    ] as const) {
      const run = bare(home, '--machine', machine, '--memory', '1100', 'ls', '/dev/dma_heap');
      expect(run.stdout).toContain(heap);
      expect(run.status).toBe(0);
    }
  }, 600_000);
});

describe('docs/ci.md', () => {
  const docs = readFileSync(join(ROOT, 'docs/ci.md'), 'utf8');
  const key = `${cacheKey()}\n`;

  function shell(
    text: string,
    env: NodeJS.ProcessEnv,
  ): { status: number | null; stdout: string; stderr: string } {
    return spawnSync('sh', ['-e', '-c', text], {
      cwd: packed.app,
      encoding: 'utf8',
      env: { ...process.env, ...env },
    });
  }

  test(
    'the lines for any CI: the first run keeps an archive, the next needs nothing else',
    () => {
      const [, block = ''] = /^```sh\n([^]*?)^```/m.exec(docs) ?? [];
      expect(block).toContain('ci-guest.sh');
      const first = shell(block, {});
      expect(first).toMatchObject({ status: 0 });
      expect(first.stdout.startsWith(key)).toBe(true);
      expect(first.stdout).toContain('a TA answered');
      expect(readdirSync(join(packed.app, '.node-optee'))).toEqual([`${cacheKey()}.tar.zst`]);

      const PATH = only(...BARE, 'npx', 'mkdir', 'rm', 'env');
      const second = shell(block, { PATH, XDG_CACHE_HOME: join(folder, 'second') });
      expect(second.stderr).toContain('Imported dynamic with Node.js 24');
      expect(second.stdout).toContain('a TA answered');
      expect(second.status).toBe(0);
      rmSync(join(packed.app, '.node-optee'), { recursive: true });
    },
    LIMIT,
  );

  test("the action's steps, as a runner runs them", () => {
    const text = readFileSync(join(ROOT, 'action.yml'), 'utf8');
    const scripts = [...text.matchAll(/^( +)run: \|\n((?:\1 {2}.*\n)+)/gm)].map(([, , script]) => script);
    const output = join(folder, 'output');
    writeFileSync(output, '');
    const run = (script = '', env: NodeJS.ProcessEnv = {}): ReturnType<typeof shell> =>
      shell(script, {
        GITHUB_ACTION_PATH: ROOT,
        GITHUB_OUTPUT: output,
        MACHINE: 'dynamic',
        NODE: '24',
        OPTIONS: '--timeout 200',
        COMMAND: 'node --test | grep -o "a TA answered"; exit 7',
        ...env,
      });
    const [name, prepare, command] = scripts;
    expect(run(name)).toMatchObject({ status: 0 });
    expect(readFileSync(output, 'utf8')).toBe(`key=${key}`);
    expect(run(prepare)).toMatchObject({ status: 0, stdout: '' });
    expect(existsSync(join(packed.app, '.node-optee', `${cacheKey()}.tar.zst`))).toBe(true);
    const home = { XDG_CACHE_HOME: join(folder, 'action') };
    expect(run(prepare, home)).toMatchObject({ status: 0, stdout: '' });
    expect(run(command, home)).toMatchObject({ status: 7, stdout: 'a TA answered\n' });
  }, 600_000);
});

test('without a compressor nothing is built, and the package is named', () => {
  if (process.versions.node.startsWith('20.') === false) return;
  const path = only('node', 'sh', 'cat', 'flock');
  const apt = join(path, 'dpkg-query');
  writeFileSync(apt, '#!/bin/sh\nexit 1\n');
  chmodSync(apt, 0o755);
  const cli = join(packed.app, 'node_modules/node-optee/dist/cli.js');
  const env = { PATH: path, XDG_CACHE_HOME: join(folder, 'none') };
  const words = [cli, 'qemu', '--export', join(folder, 'none.tar.zst')];
  const { status, stderr } = spawnSync(process.execPath, words, { encoding: 'utf8', env });
  expect(stderr).toContain('zstd');
  expect(status).toBe(1);
  expect(existsSync(join(folder, 'none'))).toBe(false);
});
