// lib/qemu/owner.ts, in processes of its own: what it says depends on who asks, and where.
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';

const OWNER = require.resolve('#lib/qemu/owner');
const isRoot = process.getuid?.() === 0;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'node-optee-owner-'));
  for (const name of ['share', 'of-root', 'open', 'closed']) mkdirSync(join(folder, name), { mode: 0o755 });
  chmodSync(join(folder, 'closed'), 0o700);
  writeFileSync(join(folder, 'secret'), '', { mode: 0o600 });
  if (isRoot) chownSync(join(folder, 'share'), 1234, 5678);
});
afterAll(() => rmSync(folder, { recursive: true }));

/** What `ownerOf` says, started by `wrapper`. */
function ask(share: string | undefined, reads: string[], writes: string[], ...wrapper: string[]): unknown {
  const script = `const { ownerOf } = require(${JSON.stringify(OWNER)});
    const [share, reads, writes] = JSON.parse(process.argv[1]);
    console.log(JSON.stringify(ownerOf(share ?? undefined, reads, writes) ?? null));`;
  const path = (name: string) => join(folder, name);
  const words = JSON.stringify([share && path(share), reads.map(path), writes.map(path)]);
  const [program = '', ...args] = [...wrapper, process.execPath, '-e', script, words];
  const { stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' });
  return stdout === '' ? stderr : JSON.parse(stdout);
}

test('not for root: whoever it is stays', () => {
  if (!isRoot) expect(ask('share', [], [])).toBeNull();
});

test('for root: the share’s owner, or why not', () => {
  if (!isRoot) return;
  expect(ask('share', ['open'], ['share'])).toEqual({ uid: 1234, gid: 5678 });
  expect(ask(undefined, ['open'], [])).toEqual({ uid: 65534, gid: 65534 });
  expect(ask('of-root', [], [])).toBe(`the share ${folder}/of-root belongs to root`);
  const user = 'the user with uid 1234, to whom the share belongs,';
  expect(ask('share', ['closed'], [])).toBe(`${user} may not read ${folder}/closed`);
  expect(ask('share', ['secret'], [])).toBe(`${user} may not read ${folder}/secret`);
  expect(ask('share', [], ['open'])).toBe(`${user} may not write ${folder}/open`);
  expect(ask(undefined, ['secret'], [])).toBe(`nobody may not read ${folder}/secret`);
});

test('root of a container that cannot become another user', () => {
  if (!isRoot) return;
  const cannot = 'in this container it cannot become uid 1234 and gid 5678';
  expect(ask('share', [], [], 'setpriv', '--bounding-set=-setuid')).toBe(cannot);
});
