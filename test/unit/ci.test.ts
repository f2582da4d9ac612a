// scripts/ci-guest.sh with a node-optee that only tells how it was called, and action.yml.
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

const ROOT = dirname(require.resolve('node-optee/package.json'));
const SCRIPT = join(ROOT, 'scripts/ci-guest.sh');

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'node-optee-ci-'));
  mkdirSync(join(folder, 'bin'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function program(name: string, script: string): void {
  const path = join(folder, 'bin', name);
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
}

/** Runs the script; returns its status, and how node-optee was called. */
function run(
  words: string[],
  statuses: { import?: number; run?: number } = {},
): { status: number | null; calls: string[] } {
  const log = join(folder, 'calls');
  program(
    'npx',
    `echo "$*" >> '${log}'
    case "$*" in
      *--cache-key*) echo node-optee-key ;;
      *--export*) for last; do :; done; echo archive > "$last" ;;
      *--import*) exit ${statuses.import ?? 0} ;;
      *) exit ${statuses.run ?? 0} ;;
    esac`,
  );
  program('qemu-system-aarch64', '');
  const env = { PATH: `${join(folder, 'bin')}:${process.env['PATH']}` };
  const { status } = spawnSync('sh', [SCRIPT, ...words], { cwd: folder, env, encoding: 'utf8' });
  const calls = existsSync(log) ? readFileSync(log, 'utf8').trimEnd().split('\n') : [];
  return { status, calls: calls.map((line) => line.replace('--no-install node-optee qemu ', '')) };
}

const OF = '--machine dynamic --node 24';

describe('the script', () => {
  test('builds where there is nothing, and imports the next time', () => {
    const first = run(['keep', 'node', '--test', 'a b']);
    expect(first).toEqual({
      status: 0,
      calls: [
        `${OF} --cache-key`,
        `${OF} --install --export keep/node-optee-key.tar.zst`,
        `${OF} node --test a b`,
      ],
    });
    rmSync(join(folder, 'calls'));
    const words = ['--machine', 'static', '--node', '22', 'keep', '--ta', 'tas', '--', 'true'];
    expect(run(words).calls).toEqual([
      '--machine static --node 22 --cache-key',
      '--machine static --node 22 --import keep/node-optee-key.tar.zst',
      '--machine static --node 22 --ta tas -- true',
    ]);
  });

  test('builds where the archive is refused, and removes those of other versions', () => {
    mkdirSync(join(folder, 'keep'));
    for (const name of ['node-optee-key.tar.zst', 'node-optee-old.tar.zst', 'other.tar.zst'])
      writeFileSync(join(folder, 'keep', name), 'damaged');
    expect(run(['keep'], { import: 1 })).toEqual({
      status: 0,
      calls: [
        `${OF} --cache-key`,
        `${OF} --import keep/node-optee-key.tar.zst`,
        `${OF} --install --export keep/node-optee-key.tar.zst`,
      ],
    });
    expect(readdirSync(join(folder, 'keep')).sort()).toEqual(['node-optee-key.tar.zst', 'other.tar.zst']);
  });

  test("has the command's status", () => {
    expect(run(['keep', 'false'], { run: 3 }).status).toBe(3);
  });

  test.each([[[]], [['--machine']], [['--verbose', 'keep']], [['--node', '22']]])(
    'with %j says how it is called',
    (words) => {
      expect(run(words)).toEqual({ status: 2, calls: [] });
    },
  );
});

describe('action.yml', () => {
  const text = readFileSync(join(ROOT, 'action.yml'), 'utf8');

  test('puts no input into a script: a branch could be named so that it does something', () => {
    const scripts = [...text.matchAll(/^( +)run: \|\n((?:\1 {2}.*\n)+)/gm)].map(([, , script]) => script);
    expect(scripts).toHaveLength(3);
    for (const script of scripts) expect(script).not.toContain('${{');
    expect(scripts.filter((script) => script.includes('scripts/ci-guest.sh'))).toHaveLength(2);
  });

  test('has the inputs that docs/ci.md names', () => {
    const [, inputs = ''] = /^inputs:\n([^]*?)^runs:/m.exec(text) ?? [];
    const names = [...inputs.matchAll(/^ {2}([a-z-]+):$/gm)].map(([, name]) => name);
    expect(names).toEqual(['command', 'machine', 'node', 'options', 'working-directory']);
    const docs = readFileSync(join(ROOT, 'docs/ci.md'), 'utf8');
    for (const name of names) expect(docs).toContain(`\`${name}\``);
  });
});
