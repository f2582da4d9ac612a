// Programs with a disk that is nearly full.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { CLI } from './guest.js';

/** A program of node-optee with a file system of so many MiB at `folder`, which nobody else sees. */
export async function withSmall(
  folder: string,
  size: number,
  program: string,
  env = {},
  after = '',
): Promise<{ status: number | null; stdout: string; stderr: string }> {
  const isRoot = process.getuid?.() === 0;
  const ids = isRoot ? ['-m'] : ['-Urm'];
  const owner = isRoot ? ',uid=1234,gid=1234' : '';
  const script = `mount -t tmpfs -o size=${size}m${owner} none "$1" && shift && { "$@"; status=$?; ${after || ':'}; exit $status; }`;
  const words = [...ids, 'sh', '-c', script, 'sh', folder, process.execPath, '-e', program];
  const child = spawn('unshare', words, {
    cwd: folder,
    env: { ...process.env, FOLDER: folder, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [stdout, stderr, [status]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close') as Promise<[number | null]>,
  ]);
  return { status, stdout, stderr };
}

/** `node-optee qemu` in the folder. */
export const cli = (...words: string[]): string =>
  `const { spawnSync } = require('node:child_process');
  process.exit(spawnSync(process.execPath, ${JSON.stringify([CLI, 'qemu', ...words])}, { cwd: process.env.FOLDER, stdio: 'inherit' }).status)`;
