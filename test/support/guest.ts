import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterAll } from '@jest/globals';

/** A boot takes about a second, on a busy machine several. */
export const GUEST_TIMEOUT = 120_000;

/** The first of all tests may have to build the machine. */
export const BUILD_TIMEOUT = 60 * 60_000;

export const CLI = join(__dirname, '../../../dist/cli.js');

/** A new folder of this host, whose path no other process knows. */
export function newFolder(): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'node-optee-guest-')));
  folders.push(folder);
  return folder;
}

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

export interface CommandOutput {
  readonly status: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

export interface StartedCommand {
  readonly child: ChildProcess;
  readonly ended: Promise<CommandOutput>;
}

/** `node-optee qemu` as a process of its own, with this folder as the share. */
export function startQemu(
  share: string,
  args: readonly string[],
  stdin: 'pipe' | 'ignore' = 'ignore',
): StartedCommand {
  const child = spawn(process.execPath, [CLI, 'qemu', ...args], {
    cwd: share,
    stdio: [stdin, 'pipe', 'pipe'],
  });
  const ended = Promise.all([
    new Promise<number | null>((resolve) => child.on('close', resolve)),
    buffer(child.stdout as NodeJS.ReadableStream),
    buffer(child.stderr as NodeJS.ReadableStream),
  ]).then(([status, stdout, stderr]) => ({ status, stdout, stderr: stderr.toString() }));
  return { child, ended };
}

export async function qemu(share: string, ...args: string[]): Promise<CommandOutput> {
  return startQemu(share, args).ended;
}

/** The processes of this host that have this word in their command line. */
export function processesWith(word: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(word);
      } catch {
        return false;
      }
    })
    .map(Number);
}
