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
const started: ChildProcess[] = [];
// What a failed test left running would keep Jest.
afterAll(() => {
  for (const child of started.splice(0)) child.kill('SIGKILL');
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

/** Milliseconds for what happens at once: on a busy machine twice what the boot took. */
export const promptly = (boot: number): number => Math.max(5_000, 2 * boot);

export interface CommandOutput {
  readonly status: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

export interface StartedCommand {
  readonly child: ChildProcess;
  readonly ended: Promise<CommandOutput>;
}

export interface StartOptions {
  readonly stdin?: 'pipe' | 'ignore';
  /** A descriptor that gets standard output. */
  readonly stdout?: number;
  readonly command?: 'qemu' | 'ta';
}

/** `node-optee qemu` as a process of its own, with this folder as the share. */
export function startQemu(
  share: string,
  args: readonly string[],
  { stdin = 'ignore', stdout, command = 'qemu' }: StartOptions = {},
): StartedCommand {
  const child = spawn(process.execPath, [CLI, command, ...args], {
    cwd: share,
    stdio: [stdin, stdout ?? 'pipe', 'pipe'],
  });
  started.push(child);
  const ended = Promise.all([
    new Promise<number | null>((resolve) => child.on('close', resolve)),
    child.stdout ? buffer(child.stdout) : Buffer.alloc(0),
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
