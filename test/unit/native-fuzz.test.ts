import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';

const ROOT = join(require.resolve('node-optee/package.json'), '..');
const CORPUS = join(ROOT, 'test/native/corpus');

// `npm run test:sanitize` looks for more of them.
test('what packs and unpacks calls: the inputs that a fuzzer has found', () => {
  const folder = mkdtempSync(join(tmpdir(), 'node-optee-fuzz-'));
  try {
    const core = readdirSync(join(ROOT, 'native/core')).filter((name) => name.endsWith('.cc'));
    const sources = [...core.map((name) => `native/core/${name}`), 'test/native/fuzz_call.cc'];
    const all = join(folder, 'all.cc');
    writeFileSync(all, sources.map((source) => `#include "${join(ROOT, source)}"\n`).join(''));
    const program = join(folder, 'replay');
    const sanitizing = ['-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
    const flags = ['-std=c++20', '-g1', '-O0', '-Wall', '-Wextra', '-Werror', '-DREPLAY', ...sanitizing];
    execFileSync('g++', [...flags, all, '-o', program]);
    const inputs = readdirSync(CORPUS).map((name) => join(CORPUS, name));
    expect(inputs.length).toBeGreaterThan(50);
    expect(execFileSync(program, inputs, { encoding: 'utf8' })).toBe(`${inputs.length}\n`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}, 120_000);
