/** A runtime that does not allow buffers over memory from outside: the package with an addon that was built as for it. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import { child, lastLine } from '../support/device.js';

const ROOT = join(__dirname, '../../..');
const folder = mkdtempSync(join(tmpdir(), 'node-optee-'));

afterAll(() => rmSync(folder, { recursive: true }));

test('everything but buffers over shared pages works, and nothing is left', async () => {
  mkdirSync(join(folder, 'build'));
  for (const name of ['package.json', 'dist', 'build/test'])
    symlinkSync(join(ROOT, name), join(folder, name));
  symlinkSync(join(ROOT, 'build/no-external-buffers'), join(folder, 'prebuilds'));
  // So that each file is one of the folder's, which is a package of its own.
  const flags = ['--preserve-symlinks', '--preserve-symlinks-main'];
  const tests = join(folder, 'build/test');
  const result = await child('no-external-buffers', [], { flags, tests, timeout: 120_000 });
  expect(lastLine(result)).toEqual({ before: {}, after: {} });
}, 150_000);
