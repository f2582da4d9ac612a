/** What the device tests share. They run in the guest. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { setImmediate as immediate, setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect } from '@jest/globals';
import {
  TeeContext,
  type OpenSessionOptions,
  type Params,
  type Session,
  type TeeContextOptions,
} from 'node-optee';
import { census, collectGarbage, PTA_STATS, TEST_TA, type Census } from './census.js';
import { sessionsInTee } from './tee-statistics.js';
import { until } from './until.js';

export * from './census.js';
export { statistics } from './statistics.js';
export { until } from './until.js';

/** Waits until nothing more is held than before, which threads of the addon may still be about to release. */
export async function expectNothingLeft(before: Census): Promise<void> {
  let now: Census = {};
  for (let i = 0; i < 20; i++) {
    now = census();
    if (JSON.stringify(now) === JSON.stringify(before)) break;
    await collectGarbage();
    await delay(100);
  }
  expect(now).toEqual(before);
}

/** Handles that were lost since the tests began. */
export const lost: string[] = [];

/**
 * For a whole suite: a context that is open while its tests run; nothing may be left afterwards, and no handle
 * lost on the way.
 */
export function useTee(options: TeeContextOptions = {}): {
  readonly tee: TeeContext;
  open<const P extends Params = []>(uuid?: string, options?: OpenSessionOptions<P>): Promise<Session<P>>;
} {
  let tee: TeeContext;
  let before: Census;
  // Jest gives tests a copy of `process`, which no event of the real one reaches.
  const emitWarning = process.emitWarning.bind(process);
  beforeAll(async () => {
    process.emitWarning = (warning: string | Error, ...rest: unknown[]): void => {
      const [{ code } = {}] = rest as { code?: string }[];
      if (code === 'TEE_HANDLE_NOT_CLOSED') lost.push(String(warning));
      else Reflect.apply(emitWarning, undefined, [warning, ...rest]);
    };
    before = census();
    if (Object.keys(before).length > 0) {
      await collectGarbage(); // something of an earlier suite is left to it
      before = census();
    }
    tee = TeeContext.open(options);
  });
  afterAll(async () => {
    await tee.close();
    await expectNothingLeft(before);
    process.emitWarning = emitWarning;
    expect(lost).toEqual([]);
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
  {
    flags = [],
    timeout = 60_000,
    tests = join(__dirname, '..'),
  }: { flags?: readonly string[]; timeout?: number; tests?: string } = {},
): Promise<ChildResult> {
  const file = join(tests, 'device', 'children', `${name}.js`);
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

/**
 * For what has to happen within a time: shared machines are late now and then, so one of several tries has to keep it.
 * @param limit in milliseconds
 * @param attempt resolves with the milliseconds that it took
 */
export async function within(limit: number, attempt: () => Promise<number>): Promise<void> {
  let took = Infinity;
  for (let tries = 0; tries < 5 && took >= limit; tries++) took = await attempt();
  expect(took).toBeLessThan(limit);
}

/** What a promise was rejected with if it is settled before the event loop turns; else undefined. */
export function rejectedAtOnce<E extends Error = Error>(promise: Promise<unknown>): Promise<E | undefined> {
  return Promise.race([rejection<E>(promise), immediate(undefined)]);
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

/** Warnings with a stack trace in the kernel's log. */
export async function kernelWarnings(): Promise<string[]> {
  const { stdout } = await run('dmesg');
  return stdout.split('\n').filter((line) => /WARNING:|BUG:|Oops|Call trace/.test(line));
}

/** Waits until OP-TEE counts no session with the test TA, of any process. */
export function useNoSession(guest: ReturnType<typeof useTee>): () => Promise<void> {
  let stats: Session;
  beforeAll(async () => {
    stats = await guest.open(PTA_STATS);
  });
  afterAll(() => stats.close());
  return () => until(async () => (await sessionsInTee(stats, TEST_TA)) === 0);
}
