import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Cache } from './cache.js';

/** The host's tools whose version goes into the keys of what they build. */
export interface Toolchain {
  readonly compiler: string;
  readonly qemu: string;
}

/** That of no host: for what the package alone says of a part. */
export const NO_TOOLCHAIN: Toolchain = { compiler: '', qemu: '' };

const FILE = 'toolchain.json';

/**
 * The versions of the host's tools. A host that has only a finished cache and no compiler (a CI's, say) takes what
 * the cache was built with.
 */
export function readToolchain(cache: Cache): Toolchain {
  const known = readKnown(join(cache.path, FILE));
  return {
    compiler: firstLine('aarch64-linux-gnu-gcc') ?? known?.compiler ?? '',
    qemu: firstLine('qemu-system-aarch64') ?? known?.qemu ?? '',
  };
}

export function writeToolchain(cache: Cache, toolchain: Toolchain): void {
  cache.writeFile(FILE, JSON.stringify(toolchain, null, 2) + '\n');
}

function readKnown(path: string): Toolchain | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Toolchain;
  } catch {
    return undefined;
  }
}

/** Is there a QEMU to run the guest? A cache alone does not boot. */
export function hasQemu(): boolean {
  return firstLine('qemu-system-aarch64') !== undefined;
}

function firstLine(program: string): string | undefined {
  const { status, stdout } = spawnSync(program, ['--version'], { encoding: 'utf8' });
  return status === 0 ? stdout.split('\n', 1)[0] : undefined;
}
