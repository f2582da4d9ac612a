// The addon's core, without Node and without a TEE, under sanitizers: test/native/core_test.cc.
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from '@jest/globals';

const run = promisify(execFile);
const ROOT = join(require.resolve('node-optee/package.json'), '..');
const CORE = readdirSync(join(ROOT, 'native/core'))
  .filter((name) => name.endsWith('.cc') && name !== 'tee.cc')
  .map((name) => `native/core/${name}`);

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'node-optee-core-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

// The first also waits for idle threads and memory to go, which takes their 5 seconds.
test.each([
  ['address,undefined', ['slow']],
  ['thread', []],
])(
  'order, closing, cancelling, temporary memory and threads, with -fsanitize=%s',
  async (sanitizers, options) => {
    const program = join(folder, sanitizers);
    const warnings = ['-Wall', '-Wextra', '-Werror'];
    const sanitizing = [`-fsanitize=${sanitizers}`, '-fno-sanitize-recover=all'];
    const flags = ['-std=c++17', '-g1', '-O0', ...warnings, ...sanitizing];
    // In one piece: the same headers are read once.
    const sources = [...CORE, 'test/native/executor.cc', 'test/native/core_test.cc'];
    const all = `${program}.cc`;
    writeFileSync(all, sources.map((source) => `#include "${join(ROOT, source)}"\n`).join(''));
    await run('g++', [...flags, all, '-o', program]);
    const { stdout, stderr } = await run(program, options);
    expect({ stdout, stderr }).toEqual({ stdout: 'ok\n', stderr: '' });
  },
  300_000,
);
