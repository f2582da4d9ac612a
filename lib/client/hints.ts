/** What a person can do about an error: a clause for its message, or undefined where there is nothing to say. */
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { TEE_RESULTS } from './results.js';
import type { TeeOrigin } from './results.js';
import { isMemory, type Params } from './parameters.js';

/** Where dma-heaps are. */
export const DMA_HEAP_FOLDER = '/dev/dma_heap';

/** The names in a folder; none where there is no such folder. Throws where this process may not look into it. */
export function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** The dma-heaps of this machine, sorted; none where the kernel has none, or where this process may not see them. */
export function visibleDmaHeaps(): string[] {
  try {
    return namesIn(DMA_HEAP_FOLDER).sort();
  } catch {
    return [];
  }
}

/** Who may open a device file, and what to do when that is not this process. */
function permissionHint(path: string): string {
  let stat;
  try {
    stat = statSync(path);
  } catch {
    return 'this process may not look into its folder';
  }
  const mode = (stat.mode & 0o777).toString(8).padStart(4, '0');
  const group = nameOf('/etc/group', stat.gid);
  const who = `it belongs to user ${nameOf('/etc/passwd', stat.uid)} and group ${group}, mode ${mode}`;
  if (mayOpen(stat)) {
    return `${who}, so it is not the file's mode that refuses: in a container, pass the device in; else a security module may`;
  }
  if ((stat.mode & 0o060) !== 0o060 || stat.gid === 0) {
    return `${who}: a udev rule can give it a group of its own that may read and write it`;
  }
  return `${who}: run as a member of that group (usermod -aG ${group} USER, then log in again)`;
}

/** May this process open it for reading and writing, as far as its owner and mode say? */
function mayOpen({ mode, uid, gid }: { mode: number; uid: number; gid: number }): boolean {
  const user = process.geteuid?.();
  if (user === 0) return true;
  if (user === uid) return (mode & 0o600) === 0o600;
  const groups = [process.getegid?.(), ...(process.getgroups?.() ?? [])];
  return (mode & (groups.includes(gid) ? 0o060 : 0o006)) === (groups.includes(gid) ? 0o060 : 0o006);
}

function nameOf(file: string, id: number): string {
  try {
    for (const line of readFileSync(file, 'utf8').split('\n')) {
      const fields = line.split(':');
      if (fields[2] === String(id)) return fields[0] as string;
    }
  } catch {
    // The number says it as well.
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
  'there is no such TEE device: either this machine has no TEE, or its driver is not there (kernel options ' +
  'CONFIG_TEE and CONFIG_OPTEE; the kernel log says "optee: initialized driver"; in a container, pass the device in)';

/**
 * Why the system refused an open or an invoke.
 * @param globalPlatform does the device speak it
 * @param login the name of the login, of an open
 * @param bytes all the memory that was passed
 */
export function callHint(
  code: string,
  operation: string,
  globalPlatform: boolean,
  login: string | undefined,
  bytes: number,
): string | undefined {
  // The driver of another protocol does not have them, or reads their arguments in its own way.
  const isCall = operation === 'TEE_IOC_OPEN_SESSION' || operation === 'TEE_IOC_INVOKE';
  if (!globalPlatform && isCall && code === 'EINVAL') {
    return 'this device does not speak GlobalPlatform; "node-optee list" tells which one does';
  }
  if (operation === 'TEE_IOC_OPEN_SESSION') {
    if (code === 'EPERM' && login?.startsWith('group')) {
      return 'this process is not in that group, so the kernel does not vouch for it';
    }
    if (code === 'EINVAL' && login === 'application') {
      return "the kernel's driver has no application identity; use Login.user or Login.group(gid)";
    }
  }
  switch (code) {
    case 'EINVAL':
      // What the kernel makes of every refusal of the TEE to register memory.
      if (operation !== 'TEE_IOC_SHM_REGISTER') return undefined;
      return bytes >= LARGE ? tooMuch(bytes) : TEE_IS_FULL;
    case 'ENOMEM':
      return bytes >= LARGE ? tooMuch(bytes) : 'the kernel or the TEE is out of memory';
    case 'EINTR':
      return 'a signal interrupted it; whether the TA has run is not known, so it was not repeated';
    default:
      return undefined;
  }
}

/** Why little memory could not be registered: each page of all that is registered takes the TEE some bytes. */
export const TEE_IS_FULL =
  'the TEE could not register it, most likely because what is registered already, here and in other processes, ' +
  'fills its own memory; close what is not needed';

function tooMuch(bytes: number): string {
  return `${bytes} bytes in all are more than the TEE could take at once; pass them in smaller parts`;
}

/** From here on the size of what was passed is a likely reason for running out of memory. */
const LARGE = 1 << 20;

/**
 * What a result means, where experience can tell more than its name.
 * @param opening was it the opening of a session
 * @param needed what each parameter would need, where a buffer was short
 */
export function resultHint(
  result: number,
  origin: TeeOrigin,
  opening: boolean,
  staleCancel: boolean,
  params: Params,
  needed: (i: number) => number | undefined,
): string | undefined {
  switch (result) {
    case TEE_RESULTS.TEE_ERROR_SHORT_BUFFER: {
      const short = params.flatMap((param, i) => {
        const size = needed(i);
        return isMemory(param) && size !== undefined && size > param.b
          ? [`params[${i}] needs ${size} bytes`]
          : [];
      });
      return short.join(', ') || undefined;
    }
    case TEE_RESULTS.TEE_ERROR_TARGET_DEAD:
      return 'the TA has panicked; the session is of no use any more, close it and open another';
    case TEE_RESULTS.TEE_ERROR_CANCEL:
      return staleCancel
        ? 'no abort was meant for this call; the cancel of the call before came too late for that one. Whether it ' +
            'can be repeated is for the caller to say'
        : undefined;
    case TEE_RESULTS.TEE_ERROR_OUT_OF_MEMORY: {
      const bytes = memoryOf(params);
      if (bytes < LARGE) {
        return opening && origin === 'tee'
          ? 'the TEE is out of memory, or tee-supplicant ended while the TA was being loaded: try again'
          : undefined;
      }
      return (
        `it was given ${bytes} bytes of memory, and how much OP-TEE can map into a TA at once is limited by its ` +
        'configuration (by default, 4 MiB in and 4 MiB out work); pass less at a time'
      );
    }
    case TEE_RESULTS.TEE_ERROR_ITEM_NOT_FOUND:
      return opening && origin !== 'trusted-app'
        ? 'there is no such TA: is its UUID right, and its .ta file in the folder of tee-supplicant on this machine ' +
            '(/lib/optee_armtz)?'
        : undefined;
    case TEE_RESULTS.TEE_ERROR_SECURITY:
      return opening && origin !== 'trusted-app'
        ? 'the TA was not accepted: is it signed with the key that this OP-TEE was built with?'
        : undefined;
    case TEE_RESULTS.TEE_ERROR_COMMUNICATION:
      return origin === 'tee' || origin === 'comms' ? 'is tee-supplicant running?' : undefined;
    case TEE_RESULTS.TEE_ERROR_BUSY:
      return origin === 'tee'
        ? 'the TA takes one session at a time, or all of its sessions or of the threads of the TEE are in use'
        : undefined;
    case TEE_RESULTS.TEE_ERROR_BAD_PARAMETERS:
      return origin === 'tee' && params.some((param) => param?.memory?.isDmaBuf)
        ? 'a dma-buf must lie in memory that OP-TEE knows as protected, and its TA must have the flag ' +
            'TA_FLAG_SECURE_DATA_PATH'
        : undefined;
    default:
      return undefined;
  }
}

/** All the memory that a call passes, in bytes. */
export function memoryOf(params: Params): number {
  return params.reduce((sum, param) => sum + (isMemory(param) ? param.b : 0), 0);
}
