// lib/qemu/outputs.ts: nothing that a command wrote is lost without a word.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';

const FORWARD = `
  const { forward } = require(${JSON.stringify(require.resolve('#lib/qemu/outputs'))});
  const chunks = [Buffer.alloc(40000), Buffer.alloc(40000)];
  forward(require('node:stream').Readable.from(chunks), process.stdout).then((error) => {
    process.stderr.write(String(error?.code));
  });`;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'node-optee-outputs-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

// Files of at most so many blocks of 512 bytes: a write that reaches the limit is a short one, the next one fails.
test.each([
  ['unlimited', 'undefined', 80000],
  ['20', 'EFBIG', 10240],
])('a file that takes no more (ulimit -f %s)', (limit, code, size) => {
  const file = join(folder, limit);
  const script = `ulimit -f ${limit}; exec "$0" -e "$1" 2>&1 >"$2"`;
  const answer = execFileSync('/bin/sh', ['-c', script, process.execPath, FORWARD, file], {
    encoding: 'utf8',
  });
  expect({ answer, size: statSync(file).size }).toEqual({ answer: code, size });
});
