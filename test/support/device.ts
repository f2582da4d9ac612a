/** What the device tests share. They run in the guest. */
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, beforeAll, expect } from '@jest/globals';
import {
  TeeContext,
  type OpenSessionOptions,
  type Params,
  type Session,
  type TeeContextOptions,
} from 'node-optee';
import type { ContextStatistics } from '#lib/native';
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
export const PTA_INVOKE_TESTS = 'd96a5b40-c3e5-21e3-8794-1002a5d5c61b';
export const TEST_TA = NODE_OPTEE_TEST_TA_UUID;

/** The heap of the TEE's protected memory on this machine. */
export const PROTECTED_HEAP = machine === 'dmabuf' ? 'sdp@7e000000' : 'protected,secure-video';

/** The kinds of things that must not be left over. */
const KINDS = {
  tee: /^\/dev\/tee[0-9]+$/,
  teeShm: /tee_shm/,
  dmaBuf: /dmabuf/,
  dmaHeap: /^\/dev\/dma_heap\//,
  memfd: /memfd:node-optee/,
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

let gc: (() => void) | undefined;

/** Runs the garbage collector, and what it has to say after it. */
export async function collectGarbage(): Promise<void> {
  if (gc === undefined) {
    setFlagsFromString('--expose-gc');
    gc = runInNewContext('gc') as () => void;
  }
  for (let i = 0; i < 3; i++) {
    gc();
    await delay(0);
  }
}

/** Waits until nothing more is held than before, which threads of the addon may still be about to release. */
export async function expectNothingLeft(before: Census): Promise<void> {
  let now: Census = {};
  for (let i = 0; i < 20; i++) {
    await collectGarbage();
    now = census();
    if (JSON.stringify(now) === JSON.stringify(before)) break;
    await delay(100);
  }
  expect(now).toEqual(before);
}

/** Names of `warning` events of the process since the tests of this file began. */
const warnings: string[] = [];

/**
 * For a whole test file: a context that is open while its tests run; nothing may be left afterwards, and no handle
 * lost on the way.
 */
export function useTee(options: TeeContextOptions = {}): {
  readonly tee: TeeContext;
  open<const P extends Params = []>(uuid?: string, options?: OpenSessionOptions<P>): Promise<Session<P>>;
} {
  let tee: TeeContext;
  let before: Census;
  const note = (warning: Error & { code?: string }): void => {
    if (warning.code === 'TEE_HANDLE_NOT_CLOSED') warnings.push(warning.message);
  };
  beforeAll(() => {
    process.on('warning', note);
    before = census();
    tee = TeeContext.open(options);
  });
  afterAll(async () => {
    await tee.close();
    await expectNothingLeft(before);
    process.off('warning', note);
    expect(warnings).toEqual([]);
  });
  return {
    get tee() {
      return tee;
    },
    open: (uuid = TEST_TA, openOptions) => tee.openSession(uuid, openOptions),
  };
}

/** Runs something with a session of the test TA and closes it. */
export async function withSession<T>(
  tee: TeeContext,
  use: (session: Session) => T | Promise<T>,
  uuid = TEST_TA,
): Promise<T> {
  const session = await tee.openSession(uuid);
  try {
    return await use(session);
  } finally {
    await session.close();
  }
}

const run = promisify(execFile);

export interface ChildResult {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program of `test/device/children` in a process of its own. What it prints last is usually JSON. */
export async function child(
  name: string,
  args: readonly string[] = [],
  { flags = [], timeout = 60_000 }: { flags?: readonly string[]; timeout?: number } = {},
): Promise<ChildResult> {
  const file = join(__dirname, '..', 'device', 'children', `${name}.js`);
  try {
    const { stdout, stderr } = await run(process.execPath, [...flags, file, ...args], { timeout });
    return { status: 0, signal: null, stdout, stderr };
  } catch (error) {
    const failed = error as {
      code: number | null;
      signal: NodeJS.Signals | null;
      stdout: string;
      stderr: string;
    };
    return { status: failed.code, signal: failed.signal, stdout: failed.stdout, stderr: failed.stderr };
  }
}

/** The JSON in the last line that a child printed; its whole output where there is none. */
export function lastLine({ stdout, stderr, status }: ChildResult): unknown {
  const line = stdout.trim().split('\n').at(-1) ?? '';
  try {
    return JSON.parse(line);
  } catch {
    return { status, stdout, stderr };
  }
}

/** Milliseconds that something took. */
export async function timed<T>(work: () => T | Promise<T>): Promise<{ value: T; took: number }> {
  const start = performance.now();
  const value = await work();
  return { value, took: performance.now() - start };
}

/** How a promise was rejected; fails where it was not. */
export async function rejection<E extends Error = Error>(promise: Promise<unknown>): Promise<E> {
  try {
    await promise;
  } catch (error) {
    return error as E;
  }
  throw new Error('The promise was not rejected');
}

/** What a context holds: an internal method, not in the public types. */
export function statistics(tee: TeeContext): ContextStatistics | undefined {
  return (tee as unknown as { statistics(): ContextStatistics | undefined }).statistics();
}

/** Warnings with a stack trace in the kernel's log. */
export async function kernelWarnings(): Promise<string[]> {
  const { stdout } = await run('dmesg');
  return stdout.split('\n').filter((line) => /WARNING:|BUG:|Oops|Call trace/.test(line));
}
