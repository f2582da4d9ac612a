/** As whom QEMU runs. A program that breaks out of the guest can do what its QEMU can do. */
import { openSync, readFileSync, statSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { dirname } from 'node:path';

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** Who runs QEMU where there is no share: `nobody`. */
const NOBODY: Owner = { uid: 65534, gid: 65534 };

/** Whose rights a guest with this share is to have. */
export function shareOwner(share: string | undefined): Owner {
  return share === undefined ? NOBODY : statSync(share);
}

/**
 * The user whom QEMU can run as instead of root.
 * @param share its owner is that user
 * @param reads files and folders that QEMU reads
 * @param writes folders in which it makes files
 * @returns the user; or why it has to be root; or undefined where this process is not root anyway
 */
export function ownerOf(
  share: string | undefined,
  reads: readonly string[],
  writes: readonly string[],
): Owner | string | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const { uid, gid } = shareOwner(share);
  if (uid === 0) return `the share ${share} belongs to root`;
  const user = share === undefined ? 'nobody' : `the user with uid ${uid}, to whom the share belongs,`;
  if (!canBecome(uid, gid)) return `in this container it cannot become uid ${uid} and gid ${gid}`;
  for (const [paths, permission, word] of [
    [reads, 4, 'read'],
    [writes, 2, 'write'],
  ] as const) {
    for (const path of paths) {
      const stats = statSync(path, { throwIfNoEntry: false });
      if (stats && !may(stats, { uid, gid }, stats.isDirectory() ? permission | 1 : permission))
        return `${user} may not ${word} ${path}`;
    }
  }
  return { uid, gid };
}

/** Root of a container may lack the capabilities for it, and of a user namespace the numbers. */
function canBecome(uid: number, gid: number): boolean {
  const [, effective = '0'] = /^CapEff:\s*(\w+)$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  const SETGID_AND_SETUID = 0b1100_0000n;
  const isMapped = (id: number, file: string): boolean =>
    readFileSync(file, 'utf8')
      .trim()
      .split('\n')
      .map((line) => line.trim().split(/\s+/).map(Number))
      .some(([inside = 0, , count = 0]) => id >= inside && id < inside + count);
  return (
    (BigInt(`0x${effective}`) & SETGID_AND_SETUID) === SETGID_AND_SETUID &&
    isMapped(uid, '/proc/self/uid_map') &&
    isMapped(gid, '/proc/self/gid_map')
  );
}

function may(stats: Stats, { uid, gid }: Owner, permission: number): boolean {
  const shift = stats.uid === uid ? 6 : stats.gid === gid ? 3 : 0;
  return ((stats.mode >> shift) & permission) === permission;
}

/** Files that are opened here, as root, for a QEMU that could not reach them: they may lie in a closed folder. */
export class HandedOver {
  readonly descriptors: number[] = [];

  /** @param first the first descriptor that QEMU has free */
  constructor(private readonly first: number) {}

  /** What QEMU opens in place of a path. One that cannot be opened is left to QEMU, which says why. */
  path(path: string): string {
    try {
      this.descriptors.push(openSync(path, 'r'));
    } catch {
      return path;
    }
    return `/proc/self/fd/${this.first + this.descriptors.length - 1}`;
  }
}

/** Where QEMU keeps what a guest writes to its own disk. */
export function overlayFolder(): string {
  const { TMPDIR } = process.env;
  return TMPDIR === undefined || TMPDIR === '' || TMPDIR === '/tmp' ? '/var/tmp' : TMPDIR;
}

/** The folders in which a machine's files are made. */
export function writtenFolders(monitor: string | undefined): string[] {
  return [overlayFolder(), ...(monitor === undefined ? [] : [dirname(monitor)])];
}
