import { readdirSync, realpathSync, statSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { resolve } from 'node:path';
import { invalidArgValue } from '../client/errors.js';

/** A folder of the host in the guest. */
export interface Mount {
  /** The 9p tag. */
  readonly tag: string;
  /** On the host, symbolic links resolved. */
  readonly path: string;
  readonly readOnly: boolean;
}

/** What the guest needs of its own. A share there, or above, would hide it. */
const SYSTEM = [
  ...['/bin', '/dev', '/etc', '/lib', '/lib64', '/opt/node', '/proc', '/run/node-optee', '/sbin', '/sys'],
  ...['/usr/bin', '/usr/lib', '/usr/local/bin', '/usr/sbin', '/var/lib/tee'],
];

/** Memory in which the guest has nothing of its own, as in /tmp. */
const FREE = ['/dev/shm'];

/**
 * The share's path in the guest: that on the host, as it was given.
 * @throws TypeError ERR_INVALID_ARG_VALUE if it is not a folder, or a system folder of the guest
 */
export function shareTarget(share: string): string {
  const target = resolve(share);
  folder('share', target);
  for (const path of SYSTEM) {
    if (isWithin(path, target))
      throw invalidArgValue('share', share, `would hide the guest's own ${path}: share a folder below it`);
    if (isWithin(target, path) && !FREE.some((free) => isWithin(target, free)))
      throw invalidArgValue(
        'share',
        share,
        `lies in ${path}, which is the guest's own: share another folder`,
      );
  }
  return target;
}

/** The mount of the share. `target` is what {@link shareTarget} returned. */
export function shareMount(target: string): Mount {
  return { tag: 'share', path: realpathSync(target), readOnly: false };
}

/**
 * The mount of a folder of TAs.
 * @throws TypeError ERR_INVALID_ARG_VALUE if it is not a folder, or has no TA
 */
export function taMount(path: string, index: number): Mount {
  folder('ta', path);
  if (!readdirSync(path).some((name) => name.endsWith('.ta')))
    throw invalidArgValue('ta', path, 'has no *.ta file');
  return { tag: `ta${index}`, path: realpathSync(path), readOnly: true };
}

/** Whether `path` is `parent` or lies in it; both are absolute and without `..`. */
function isWithin(path: string, parent: string): boolean {
  return parent === '/' || path === parent || path.startsWith(`${parent}/`);
}

function folder(name: string, path: string): void {
  let stats: Stats;
  try {
    stats = statSync(path);
  } catch (error) {
    throw invalidArgValue(name, path, `cannot be used: ${(error as Error).message}`);
  }
  if (!stats.isDirectory()) throw invalidArgValue(name, path, 'is not a folder');
}
