/**
 * What a user can do about an error: a clause for its message, or undefined where nothing helpful is known.
 * Everything here works on plain facts, so every other file of the client can import it.
 */
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { TeeSystemError } from './errors.js';
import { TEE_RESULTS } from './results.js';
import type { TeeOrigin } from './results.js';

/** The folder of the dma-heaps. */
export const DMA_HEAP_FOLDER = '/dev/dma_heap';

/** The names in a folder; none if there is no such folder. Throws if this process may not read it. */
export function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    const { code, errno = 0 } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return [];
    throw new TeeSystemError({ errno: -errno, syscall: 'scandir', operation: 'scandir', path: folder });
  }
}

/** The dma-heaps of this machine, sorted; none if the kernel has none or this process may not see them. */
export function visibleDmaHeaps(): string[] {
  try {
    return namesIn(DMA_HEAP_FOLDER).sort();
  } catch {
    return [];
  }
}

/** Who may open a file, and what to do if this process may not. */
function permissionHint(path: string): string {
  let stat;
  try {
    stat = statSync(path);
  } catch {
    return 'this process may not search the folder of that file';
  }
  const mode = (stat.mode & 0o777).toString(8).padStart(4, '0');
  const group = nameOf('/etc/group', stat.gid);
  const who = `it belongs to user ${nameOf('/etc/passwd', stat.uid)} and group ${group}, mode ${mode}`;
  const owner = { uid: isUnmapped('uid', stat.uid), gid: isUnmapped('gid', stat.gid) };
  if (mayOpen(stat, owner)) {
    return (
      `${who}, which lets this process in, so something else refuses: in a container, pass the device in; ` +
      'otherwise a security module may be the reason'
    );
  }
  if (owner.gid) {
    return (
      `${who}, because the user namespace of this process (a rootless container) does not map the real ` +
      `${owner.uid ? 'owner and group' : 'group'}: being root or in a group inside it does not help. On the host, let a ` +
      'udev rule give your user access to the device by an ACL, or put your user into its group and keep that group in ' +
      'the container (podman run --group-add keep-groups)'
    );
  }
  if ((stat.mode & 0o060) !== 0o060 || stat.gid === 0) {
    return `${who}: a udev rule can give it a group of its own that may read and write it`;
  }
  return `${who}: run as a member of that group (usermod -aG ${group} USER, then log in again)`;
}

/**
 * Does a file belong to an id that the user namespace of this process does not map? The kernel shows the overflow id
 * (nobody, nogroup) for it. A namespace can map that id as well, but no device belongs to nobody.
 */
function isUnmapped(kind: 'uid' | 'gid', id: number): boolean {
  try {
    if (Number(readFileSync(`/proc/sys/kernel/overflow${kind}`, 'utf8')) !== id) return false;
    // The first namespace maps all ids to themselves: "0 0 4294967295".
    return !/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync(`/proc/self/${kind}_map`, 'utf8'));
  } catch {
    return false; // a kernel without user namespaces
  }
}

/**
 * May this process open a file for reading and writing, as far as its owner and mode say?
 * @param unmapped which of the owner and the group this user namespace does not map: nobody in it can be either, and its
 *   root has no rights to such a file
 */
function mayOpen(
  { mode, uid, gid }: { mode: number; uid: number; gid: number },
  unmapped: { uid: boolean; gid: boolean },
): boolean {
  const user = process.geteuid?.();
  if (user === 0 && !unmapped.uid && !unmapped.gid) return true;
  if (user === uid && !unmapped.uid) return (mode & 0o600) === 0o600;
  const groups = [process.getegid?.(), ...(process.getgroups?.() ?? [])];
  const bits = groups.includes(gid) && !unmapped.gid ? 0o060 : 0o006;
  return (mode & bits) === bits;
}

/** The name of an id in /etc/passwd or /etc/group, or the number. */
function nameOf(file: string, id: number): string {
  try {
    for (const line of readFileSync(file, 'utf8').split('\n')) {
      const fields = line.split(':');
      if (fields[2] === String(id)) return fields[0] as string;
    }
  } catch {
    // The number has to do.
  }
  return String(id);
}

/**
 * Why a device or a dma-heap could not be opened.
 * @param code of the error: EACCES, …
 */
export function openHint(path: string, operation: string, code: string): string | undefined {
  const heap = path.startsWith(`${DMA_HEAP_FOLDER}/`);
  switch (code) {
    case 'EACCES':
    case 'EPERM':
      return permissionHint(path);
    case 'ENOENT':
    case 'ENXIO':
    case 'ENODEV':
      if (!heap) return NO_DRIVER;
      return `the dma-heaps of this machine are ${visibleDmaHeaps().join(', ') || 'none (the kernel needs CONFIG_DMABUF_HEAPS)'}`;
    case 'ENOTTY':
    case 'EINVAL':
      return operation === 'TEE_IOC_VERSION' ? 'this is not a TEE device' : undefined;
    case 'ENOSYS': // what the addon says on any other system
      return 'TEE devices and dma-heaps can be used on 64-bit Linux only';
    default:
      return undefined;
  }
}

/** There is no TEE device. */
export const NO_DRIVER =
  'there is no such TEE device: either this machine has no TEE, or Linux has no driver for it (kernel options ' +
  'CONFIG_TEE and CONFIG_OPTEE; the kernel log says "optee: initialized driver"; in a container, pass the device in). ' +
  'On any machine, "npx node-optee qemu -- COMMAND" runs a command in an emulated machine that has one';

/** What is known about an open or an invoke that the system refused. */
export interface CallFacts {
  /** The errno's name: EINVAL, … */
  readonly code: string;
  /** What the system call was for: TEE_IOC_INVOKE, … */
  readonly operation: string;
  /** Does the device speak GlobalPlatform? */
  readonly globalPlatform: boolean;
  /** Name of the login with which a session was being opened; undefined for an invoke. */
  readonly login: string | undefined;
  /** The size of all memory that was passed. */
  readonly bytes: number;
}

/** Why the system refused an open or an invoke. */
export function callHint({ code, operation, globalPlatform, login, bytes }: CallFacts): string | undefined {
  // The driver of another protocol does not have these ioctls, or reads their arguments in its own way.
  const isCall = operation === 'TEE_IOC_OPEN_SESSION' || operation === 'TEE_IOC_INVOKE';
  if (!globalPlatform && isCall && code === 'EINVAL') {
    return 'this device does not speak GlobalPlatform; "node-optee list" shows which one does';
  }
  if (operation === 'TEE_IOC_OPEN_SESSION' && login !== undefined) {
    if (code === 'EPERM' && /^group/.test(login)) {
      return 'this process is not a member of that group, so the kernel does not vouch for it';
    }
    if (code === 'EINVAL' && /application/i.test(login)) {
      return "the kernel's driver has no application identity; use Login.user or Login.group(gid)";
    }
  }
  if (code === 'EINTR') {
    return 'a signal interrupted it. It is not known whether the TA ran, so the call was not repeated';
  }
  const hint = memoryHint(code, operation, bytes);
  const isTees = isCall || operation === 'TEE_IOC_SHM_REGISTER';
  return hint !== undefined && isTees && bytes >= LARGE ? tooMuch(bytes) : hint;
}

/** Why a small piece of memory could not be registered: the TEE needs some bytes for each registered page. */
export const TEE_IS_FULL =
  "the TEE could not register it. Most likely the TEE's own memory is full of the registrations that exist already, of " +
  'this process and of others; close what is not needed';

/**
 * Why memory could not be shared.
 * @param size in bytes
 */
export function memoryHint(code: string, operation: string, size: number): string | undefined {
  // EINVAL is the kernel's answer whenever the TEE does not register memory, whatever the reason is.
  if (code !== 'ENOMEM' && !(code === 'EINVAL' && operation === 'TEE_IOC_SHM_REGISTER')) return undefined;
  switch (operation) {
    case 'MemAvailable':
      return (
        'this machine has not so much memory available (MemAvailable of /proc/meminfo, less a sixteenth of all that it ' +
        'has): memory that is shared with a TEE cannot be swapped out'
      );
    case 'memory cgroup':
      return (
        "this process's cgroup has not so much memory left below its limit (memory.max; in a container, its memory " +
        'limit), less a sixteenth of the limit'
      );
    case 'TEE_IOC_SHM_ALLOC':
      if (size <= PAGE) break;
      return (
        'each piece of memory that is shared in this way lies in one piece of the machine, in pages of the kernel (4 MiB at ' +
        'most where these are of 4 KiB) or in the part that the board has for it; use smaller pieces'
      );
    case 'TEE_IOC_SHM_REGISTER':
      if (size >= SHARED_LARGE) return 'that is more than the TEE can take at once; use smaller pieces';
      if (code === 'EINVAL') return TEE_IS_FULL;
      break;
  }
  return 'the kernel or the TEE is out of memory';
}

/** No memory lies in smaller pieces. */
const PAGE = 4096;

/** From this size on, the size of shared memory is a likely reason for running out of memory. */
const SHARED_LARGE = 4 << 20;

function tooMuch(bytes: number): string {
  return `${bytes} bytes are more than the TEE could take at once; pass them in smaller parts`;
}

/** From this size on, what was passed is a likely reason for running out of memory. */
const LARGE = 1 << 20;

/** What is known about a call that the TEE or the TA answered with an error. */
export interface ResultFacts {
  /** The result, u32. */
  readonly result: number;
  readonly origin: TeeOrigin;
  /** Was it the opening of a session? */
  readonly opening: boolean;
  /** Is it most likely the cancel of the call before that ended it? */
  readonly staleCancel: boolean;
  /** The size of all memory that was passed, in bytes. */
  readonly memory: number;
  /** The parameters that are too small: what to call them, and the size that the TA asked for, in bytes. */
  readonly short: readonly { readonly name: string; readonly needs: number }[];
  /** Was a dma-buf passed? */
  readonly dmaBuf: boolean;
  /** How many sessions with this TA are open in this process, or at least in this context; not the one of this call. */
  readonly openSessions: number;
}

/** What a result means, where more is known than its name. */
export function resultHint(facts: ResultFacts): string | undefined {
  const { result, origin, opening, memory } = facts;
  if (opening && origin !== 'trusted-app') {
    const hint = openingHint(facts);
    if (hint !== undefined) return hint;
  }
  switch (result) {
    case TEE_RESULTS.TEE_ERROR_SHORT_BUFFER:
      return facts.short.map(({ name, needs }) => `${name} needs ${needs} bytes`).join(', ') || undefined;
    case TEE_RESULTS.TEE_ERROR_TARGET_DEAD:
      return 'the TA has panicked; its session cannot be used any more, close it and open another';
    case TEE_RESULTS.TEE_ERROR_CANCEL:
      return facts.staleCancel
        ? 'nobody aborted this call: the cancel of the call before came too late for that one and hit this one. ' +
            'Repeat the call if its command allows that'
        : undefined;
    case TEE_RESULTS.TEE_ERROR_OUT_OF_MEMORY:
      return memory < LARGE
        ? undefined
        : `it was given ${memory} bytes of memory. The configuration of OP-TEE limits how much it can map into a TA at ` +
            'once (by default, 4 MiB in and 4 MiB out work); pass less at a time';
    case TEE_RESULTS.TEE_ERROR_COMMUNICATION:
      return origin === 'tee' || origin === 'comms' ? 'is tee-supplicant running?' : undefined;
    case TEE_RESULTS.TEE_ERROR_BUSY:
      return origin === 'tee'
        ? 'the TA takes one session at a time, or all of its sessions or of the threads of the TEE are in use'
        : undefined;
    case TEE_RESULTS.TEE_ERROR_BAD_PARAMETERS:
      return origin === 'tee' && facts.dmaBuf
        ? 'a dma-buf must lie in memory that OP-TEE knows as protected, and its TA must have the flag ' +
            'TA_FLAG_SECURE_DATA_PATH'
        : undefined;
    default:
      return undefined;
  }
}

/** What only the opening of a session can mean by a result, where a part other than the TA gave it. */
function openingHint({ result, origin, memory, openSessions }: ResultFacts): string | undefined {
  const another = `another session with this TA (open here: ${openSessions}); close some of them, or share a few with a pool`;
  switch (result) {
    case TEE_RESULTS.TEE_ERROR_ITEM_NOT_FOUND:
      return (
        'there is no such TA: is its UUID right, and ' +
        (process.env.NODE_OPTEE_GUEST === undefined
          ? "is its .ta file in tee-supplicant's folder on this machine (/lib/optee_armtz)?"
          : 'was the folder with its .ta file given to this guest by --ta FOLDER (tas of Guest.boot)?')
      );
    case TEE_RESULTS.TEE_ERROR_SECURITY:
      // Its signature was right when the others were opened.
      return openSessions > 0
        ? `most likely the TEE has no memory for ${another}`
        : 'the TA was not accepted: is it signed with the key that this OP-TEE was built with?';
    case TEE_RESULTS.TEE_ERROR_OUT_OF_MEMORY:
      if (memory >= LARGE || origin !== 'tee') return undefined;
      return openSessions > 0
        ? `the TEE has no memory for ${another}`
        : 'the TEE is out of memory, or tee-supplicant ended while the TA was being loaded: try again';
    default:
      return undefined;
  }
}
