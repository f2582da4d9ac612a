/** test/native/core_test.cc: the addon's core, without Node and without a TEE, under a sanitizer. */
import { execFile } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const ROOT = join(require.resolve('node-optee/package.json'), '..');

export interface CoreProgramOutput {
  readonly stdout: string;
  readonly stderr: string;
  /** How many lines of native/core have code, and those of them that did not run: the file's name and the line. */
  readonly lines: number;
  readonly notRun: string[];
}

/** Builds it and runs it: what it printed, and which lines of the core ran. */
export async function runCoreProgram(
  sanitizers: string,
  options: readonly string[] = [],
): Promise<CoreProgramOutput> {
  const folder = mkdtempSync(join(tmpdir(), 'node-optee-core-'));
  try {
    // One of the tests is somebody else, and adds to the counts.
    chmodSync(folder, 0o777);
    const core = readdirSync(join(ROOT, 'native/core'))
      .filter((name) => name.endsWith('.cc') && name !== 'tee.cc')
      .map((name) => `native/core/${name}`);
    // In one piece: the same headers are read once.
    const sources = [...core, 'test/native/executor.cc', 'test/native/core_test.cc'];
    const all = join(folder, 'all.cc');
    writeFileSync(all, sources.map((source) => `#include "${join(ROOT, source)}"\n`).join(''));
    const warnings = ['-Wall', '-Wextra', '-Werror'];
    const sanitizing = [`-fsanitize=${sanitizers}`, '-fno-sanitize-recover=all'];
    // With exceptions there would be code that never runs.
    const counting = ['-fno-exceptions', '--coverage', '-fprofile-update=atomic', '-DCOVERAGE'];
    const program = join(folder, 'core');
    const flags = ['-std=c++20', '-g1', '-O0', ...warnings, ...sanitizing, ...counting];
    await run('g++', [...flags, all, '-o', program], { cwd: folder });
    const output = await run(program, options);
    return { ...output, ...(await readCoverage(folder)) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function readCoverage(folder: string): Promise<{ lines: number; notRun: string[] }> {
  const [counts = ''] = readdirSync(folder).filter((name) => name.endsWith('.gcda'));
  const { stdout } = await run('gcov', ['--json-format', '--stdout', counts], {
    cwd: folder,
    maxBuffer: 1 << 28,
  });
  const { files } = JSON.parse(stdout) as {
    files: { file: string; lines: { line_number: number; count: number }[] }[];
  };
  let lines = 0;
  const notRun: string[] = [];
  for (const { file, lines: all } of files.filter(({ file }) => file.includes('/native/core/'))) {
    const text = readFileSync(file, 'utf8').split('\n');
    // A line is there once for each function that has code in it.
    const ran = new Map<number, number>();
    for (const { line_number: line, count } of all) ran.set(line, (ran.get(line) ?? 0) + count);
    lines += ran.size;
    for (const [line, count] of ran) {
      if (count === 0) notRun.push(`${basename(file)}: ${text[line - 1]?.trim()}`);
    }
  }
  return { lines, notRun };
}
