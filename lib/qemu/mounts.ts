import { chownSync, mkdirSync, readdirSync, realpathSync, statSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { invalidArgValue } from '../client/errors.js';
import type { Owner } from './owner.js';

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
  ...['/usr/bin', '/usr/lib', '/usr/local/bin', '/usr/sbin', '/var/lib/optee-client'],
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
 * The mount of the folder that keeps tee-supplicant's storage. It is made where it is not there.
 * @param owner whose it is then, where we are root
 * @throws TypeError ERR_INVALID_ARG_VALUE if there is something else of that name
 */
export function storageMount(path: string, owner: Owner): Mount {
  const target = resolve(path);
  if (statSync(target, { throwIfNoEntry: false })) folder('storage', target);
  else {
    mkdirSync(target, { recursive: true, mode: 0o700 });
    if (process.getuid?.() === 0) chownSync(target, owner.uid, owner.gid);
  }
  return { tag: 'storage', path: realpathSync(target), readOnly: false };
}

/** TAs of the host in the guest. */
export interface TaMounts {
  /** Read-only, with the tags ta0, ta1, … in this order. */
  readonly mounts: readonly Mount[];
  /** Where tee-supplicant looks there is a link `name` to `file` of the mount with this index. */
  readonly links: readonly { readonly name: string; readonly mount: number; readonly file: string }[];
}

/** QEMU's machine has room for 32 virtio devices; seven of them a guest can have for other things. */
const MAX_TA_FOLDERS = 25;

/**
 * The mounts of folders of TAs. A `*.ta` that is a link is followed here, as it leads to nothing in the guest: the
 * folder that it leads to is mounted, too.
 * @throws TypeError ERR_INVALID_ARG_VALUE if one is not a folder, or has no TA; or if two have the same TA
 */
export function taMounts(folders: readonly string[]): TaMounts {
  const paths: string[] = [];
  const found = new Map<string, { name: string; path: string; given: string }>();
  for (const [index, given] of folders.entries()) {
    const name = `tas[${index}]`;
    const tas = tasOf(name, given);
    if (tas.length === 0) throw invalidArgValue(name, given, 'has no *.ta file');
    for (const ta of tas) {
      const other = found.get(ta.name);
      if (other && other.path !== ta.path)
        throw invalidArgValue(
          name,
          given,
          `has a ${ta.name} that is not the one of ${other.given}: only one can be used`,
        );
      found.set(ta.name, { ...ta, given });
      if (!paths.includes(dirname(ta.path))) paths.push(dirname(ta.path));
    }
  }
  if (paths.length > MAX_TA_FOLDERS)
    throw invalidArgValue(
      'tas',
      folders,
      `are ${paths.length} folders: a guest has room for ${MAX_TA_FOLDERS}`,
    );
  return {
    mounts: paths.map((path, index) => ({ tag: `ta${index}`, path, readOnly: true })),
    links: [...found.values()].map(({ name, path }) => ({
      name,
      mount: paths.indexOf(dirname(path)),
      file: basename(path),
    })),
  };
}

/** The TAs of one folder, with the paths of their files, links resolved. */
function tasOf(option: string, given: string): { name: string; path: string }[] {
  folder(option, given);
  return readdirSync(given)
    .filter((name) => name.endsWith('.ta'))
    .map((name) => {
      try {
        return { name, path: realpathSync(join(given, name)) };
      } catch (error) {
        throw invalidArgValue(
          option,
          given,
          `has a ${name} that leads to nothing: ${(error as Error).message}`,
        );
      }
    })
    .filter(({ path }) => statSync(path).isFile());
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
