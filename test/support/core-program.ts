/** test/native/core_test.cc: the addon's core, without Node and without a TEE, under a sanitizer. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const ROOT = join(require.resolve('node-optee/package.json'), '..');

/** Builds it and runs it: what it printed. */
export async function runCoreProgram(
  sanitizers: string,
  options: readonly string[] = [],
): Promise<{ stdout: string; stderr: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'node-optee-core-'));
  try {
    const core = readdirSync(join(ROOT, 'native/core'))
      .filter((name) => name.endsWith('.cc') && name !== 'tee.cc')
      .map((name) => `native/core/${name}`);
    // In one piece: the same headers are read once.
    const sources = [...core, 'test/native/executor.cc', 'test/native/core_test.cc'];
    const all = join(folder, 'all.cc');
    writeFileSync(all, sources.map((source) => `#include "${join(ROOT, source)}"\n`).join(''));
    const warnings = ['-Wall', '-Wextra', '-Werror'];
    const sanitizing = [`-fsanitize=${sanitizers}`, '-fno-sanitize-recover=all'];
    const program = join(folder, 'core');
    await run('g++', ['-std=c++20', '-g1', '-O0', ...warnings, ...sanitizing, all, '-o', program]);
    return await run(program, options);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
