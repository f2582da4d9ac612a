/** What this process holds of the TEE, and where it is. Needs no Jest, so programs that tests start can use it. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { MachineName } from 'node-optee/qemu';
import { NODE_OPTEE_TEST_TA_UUID } from './test-ta.js';

/** Which of the three machines this is. */
export const machine = (process.env['NODE_OPTEE_MACHINE'] ?? 'dynamic') as MachineName;

/** UUIDs of OP-TEE's own test TAs, and of the test PTA in OP-TEE itself. */
export const OS_TEST = '5b9e0e40-2636-11e1-ad9e-0002a5d5c51b';
export const CREATE_FAIL = 'c3f6e2c0-3548-11e1-b86c-0800200c9a66';
export const LARGE = '25497083-a58a-4fc5-8a72-1ad7b69b8562';
export const CONCURRENT = 'e13010e0-2ae1-11e5-896a-0002a5d5c51b';
export const SIMS = 'e6a33ed4-562b-463a-bb7e-ff5e15a493c8';
/** The second storage TA of OP-TEE's tests: it takes one session at a time. */
export const SINGLE_SESSION = '731e279e-aafb-4575-a771-38caa6f0cca6';
/** OP-TEE's own statistics. */
export const PTA_STATS = 'd96a5b40-e2c7-b1af-8794-1002a5d5c61b';
export const PTA_INVOKE_TESTS = 'd96a5b40-c3e5-21e3-8794-1002a5d5c61b';
export const TEST_TA = NODE_OPTEE_TEST_TA_UUID;

/** The heap of the TEE's protected memory on this machine. */
export const PROTECTED_HEAP = machine === 'dmabuf' ? 'sdp@7e000000' : 'protected,secure-video';

/** The kinds of things that must not be left over. */
const KINDS = {
  tee: /^\/dev\/tee[0-9]+$/,
  teeShm: /^anon_inode:.*tee_shm/,
  dmaBuf: /^\/dmabuf:/,
  dmaHeap: /^\/dev\/dma_heap\//,
  memfd: /^\/memfd:node-optee/,
} as const;

export type Census = Record<string, number>;

/** Descriptors and mappings of the TEE that this process holds. */
export function census(): Census {
  const found: Census = {};
  const count = (where: string, target: string): void => {
    for (const [kind, pattern] of Object.entries(KINDS)) {
      if (pattern.test(target)) found[`${kind} ${where}`] = (found[`${kind} ${where}`] ?? 0) + 1;
    }
  };
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      count('descriptors', readlinkSync(`/proc/self/fd/${fd}`));
    } catch {
      // The descriptor of the folder itself is closed by now.
    }
  }
  for (const line of readFileSync('/proc/self/maps', 'utf8').split('\n')) {
    count('mappings', line.split(/\s+/).slice(5).join(' '));
  }
  return found;
}

const SYS_IOCTL = 29; // of arm64
const TEE_IOC_OPEN_SESSION = 0x8010a402;
const TEE_IOC_INVOKE = 0x8010a403;

function tasksOf(process: string): string[] {
  try {
    return readdirSync(`/proc/${process}/task`).map((id) => `/proc/${process}/task/${id}`);
  } catch {
    return []; // it has just ended
  }
}

/** How many threads of this process sleep in the kernel with an open or an invoke: TEE_Wait and tee-supplicant do so. */
function callsInTee(): number {
  return tasksOf('self').filter((task) => {
    try {
      const [number, , request] = readFileSync(`${task}/syscall`, 'utf8').split(' ').map(Number);
      return number === SYS_IOCTL && (request === TEE_IOC_OPEN_SESSION || request === TEE_IOC_INVOKE);
    } catch {
      return false; // it has just ended
    }
  }).length;
}

/** Waits until so many calls are in the TEE and stay there, as one that waits does: an abort, or an end, meets them. */
export async function inTee(calls = 1): Promise<void> {
  for (let i = 0; i < 3000; i++) {
    if (callsInTee() >= calls) return;
    await delay(10);
  }
  throw new Error(`There were never ${calls} calls in the TEE`);
}

/** Is a thread for calls, of whatever process, at work? One that is in the TEE can be running, too. */
function isAtWork(task: string): boolean {
  try {
    if (readFileSync(`${task}/comm`, 'utf8') !== 'optee-call\n') return false;
    const [number] = readFileSync(`${task}/syscall`, 'utf8').split(' ');
    return number === 'running\n' || number === String(SYS_IOCTL);
  } catch {
    return false; // it has just ended
  }
}

/**
 * Waits until no asynchronous call of any process is in the TEE. Openings that were given up are, until their TA is
 * loaded; a tee-supplicant that is ended with such a request in hand cannot be followed by another one (docs/errors.md).
 */
export async function nobodyInTee(): Promise<void> {
  for (let i = 0; i < 3000; i++) {
    const tasks = readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .flatMap(tasksOf);
    if (!tasks.some(isAtWork)) return;
    await delay(10);
  }
  throw new Error('There was always a call in the TEE');
}

let gc: (() => void) | undefined;

/** Runs the garbage collector, and what it has to say after it. */
export async function collectGarbage(wait = 0): Promise<void> {
  if (gc === undefined) {
    setFlagsFromString('--expose-gc');
    gc = runInNewContext('gc') as () => void;
  }
  for (let i = 0; i < 3; i++) {
    gc();
    await delay(wait);
  }
}
