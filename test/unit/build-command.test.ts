import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BuildLog, command } from '#lib/qemu/build/command';
import { until } from '../support/until';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'node-optee-command-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Whether a process is there that has not ended. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

function pids(): number[] {
  const path = join(folder, 'pids');
  return existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n').map(Number) : [];
}

/** A process that runs a shell script as a step of a build. */
function builder(script: string): ReturnType<typeof spawn> {
  const program = `
    const { BuildLog, command } = require(process.argv[1]);
    const [script, cwd] = process.argv.slice(2);
    command('sh', ['-c', script], { cwd, log: new BuildLog(cwd + '/step.log') });`;
  const words = [require.resolve('#lib/qemu/build/command'), script, folder];
  return spawn(process.execPath, ['-e', program, ...words], { stdio: ['ignore', 'ignore', 'inherit'] });
}

describe('a step that fails', () => {
  test('does not show what an earlier one of the same log said', async () => {
    const log = new BuildLog(join(folder, 'step.log'));
    await expect(command('sh', ['-c', 'echo earlier; exit 1'], { log })).rejects.toThrow('earlier');
    const second = command('sh', ['-c', 'echo later; exit 1'], { log });
    await expect(second).rejects.toThrow(
      /^sh exited with 1:\n\$ sh -c echo later; exit 1\nlater\nThe whole log/,
    );
    log.close();
  });

  test('shows its last lines and where the whole log is', async () => {
    const log = new BuildLog(join(folder, 'step.log'));
    const failed = command('sh', ['-c', 'seq 1 100; echo broken >&2; exit 3'], { log });
    await expect(failed).rejects.toThrow(
      /^sh exited with 3:\n[^]*\n100\nbroken\nThe whole log: .*step\.log$/,
    );
    await expect(failed).rejects.toMatchObject({ name: 'BuildError', status: 3 });
    await expect(failed).rejects.not.toThrow(/^1$/m);
    log.close();
  });

  test('because of a signal says which', async () => {
    await expect(command('sh', ['-c', 'kill -SEGV $$'])).rejects.toThrow('sh was ended by SIGSEGV');
  });

  test('because a program is missing says which', async () => {
    await expect(command('no-such-program', [])).rejects.toThrow(
      'no-such-program is not installed on this host',
    );
    await expect(command('sh', ['-c', 'no-such-program'])).rejects.toThrow('sh exited with 127');
  });

  test('is ended by an abort', async () => {
    const controller = new AbortController();
    const running = command('sleep', ['60'], { signal: controller.signal });
    controller.abort();
    await expect(running).rejects.toMatchObject({ name: 'AbortError' });
  });
});

describe("a step's programs", () => {
  const tree = 'echo $$ >> pids; sh -c "echo \\$\\$ >> pids; sleep 1000; :"; :';

  test('end when the builder is killed', async () => {
    const process = builder(tree);
    await until(() => pids().length === 2);
    expect(pids().every(isAlive)).toBe(true);
    process.kill('SIGKILL');
    await until(() => !pids().some(isAlive));
  });

  test('end even where they do not listen', async () => {
    const process = builder(`trap '' INT TERM HUP; ${tree}`);
    await until(() => pids().length === 2);
    process.kill('SIGKILL');
    await until(() => !pids().some(isAlive));
  });

  test('half-made files of make are removed, so that a second try makes them', async () => {
    const rules = ['all: out', 'out:', '\techo half > $@; echo $$$$ >> pids; sleep 1000; echo whole > $@'];
    writeFileSync(join(folder, 'Makefile'), rules.join('\n') + '\n');
    const process = builder('make');
    await until(() => pids().length === 1);
    expect(existsSync(join(folder, 'out'))).toBe(true);
    process.kill('SIGINT');
    await until(() => !existsSync(join(folder, 'out')));
    expect(readFileSync(join(folder, 'step.log'), 'utf8')).toContain("Deleting file 'out'");
  });

  test('leave nothing in the background, which would hold up the build', async () => {
    await command('sh', ['-c', 'sleep 1000 & echo $! > pids'], { cwd: folder });
    await until(() => !pids().some(isAlive));
  });

  test('read nothing, and have no child that they do not know', async () => {
    const script = 'cat; read -r children < /proc/$$/task/$$/children; echo "children: $children"';
    expect(await command('sh', ['-c', script])).toBe('children: \n');
  });
});
