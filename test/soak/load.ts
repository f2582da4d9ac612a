/**
 * Mixed load, in the guest: calls, aborts, panics, shared memory, a pool, a token, all at the same time. Prints a sample a
 * line as JSON, and at the end what was done. An error that is not expected ends it.
 * Arguments: seconds, and seconds between samples.
 */
import { verify } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { buffer, DmaHeap, TeeContext, value, type Session } from 'node-optee';
import { Pkcs11, PKCS11_TA, type Token } from 'node-optee/pkcs11';
import { collectGarbage, PROTECTED_HEAP, PTA_STATS, TEST_TA } from '../support/census.js';
import { heapInTee, sessionsInTee } from '../support/tee-statistics.js';
import * as TA from '../support/test-ta.js';
import type { Sample } from './figures.js';

const [seconds = 0, interval = 10] = process.argv.slice(2).map(Number);
const started = performance.now();
const elapsed = (): number => (performance.now() - started) / 1000;
const random = (below: number): number => Math.floor(Math.random() * below);

const done: Record<string, number> = {};
const count = (what: string): void => void (done[what] = (done[what] ?? 0) + 1);

function right(is: boolean, what: string): void {
  if (!is) throw new Error(`This is wrong: ${what}`);
}

/** Does something again and again until the time is over; a pause lets others have the processor. */
async function repeat(what: string, pause: number, work: () => Promise<unknown>): Promise<void> {
  while (elapsed() < seconds) {
    await work();
    count(what);
    await delay(pause);
  }
}

/** @param codes of errors that are as they should be */
async function unless(codes: readonly string[], work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (error) {
    const { code } = error as { code: string };
    if (!codes.includes(code)) throw error;
    count(code);
  }
}

let turn: Promise<unknown> = Promise.resolve();

/**
 * Work that is never done at the same time as other such work. OP-TEE's statistics hold the lock of all TAs of a single
 * instance, and wait for each session's call; a call of such a TA holds its session and waits for the lock
 * (core/kernel/tee_ta_manager.c, 4.10: tee_ta_try_set_busy, dump_ta_stats).
 */
function alone<T>(work: () => Promise<T>): Promise<T> {
  const result = turn.then(work);
  turn = result.catch(() => undefined);
  return result;
}

async function calls(tee: TeeContext): Promise<void> {
  const session = await tee.openSession(TEST_TA);
  await repeat('calls', 2, async () => {
    const [sum] = await session.invoke(TA.TEST_TA_VALUES, [value.inout(41)]);
    right(sum.a === 42, 'a sum');
    const bytes = new Uint8Array(1 + random(65_536)).fill(random(256));
    const [, copy] = await session.invoke(TA.TEST_TA_COPY, [buffer.in(bytes), buffer.out(bytes.length)]);
    right(Buffer.compare(copy, bytes) === 0, 'a copy');
    await unless(
      ['TEE_ERROR_ACCESS_DENIED'],
      session.invoke(TA.TEST_TA_RESULT, [value.in(0xffff0001), buffer.out(10)]),
    );
  });
  await session.close();
}

async function aborts(tee: TeeContext): Promise<void> {
  let session = await tee.openSession(TEST_TA);
  await repeat('aborts', 5, async () => {
    const signal = AbortSignal.timeout(random(120));
    const waits = Array.from({ length: 3 }, () =>
      unless(
        ['ABORT_ERR', 'TEE_ERROR_CANCEL'], // of a stale cancel
        session.invoke(TA.TEST_TA_WAIT, [value.in(random(60))], { signal }),
      ),
    );
    await Promise.all(waits);
    if (random(20) > 0) return;
    await session.close();
    session = await tee.openSession(TEST_TA);
    count('sessions opened');
  });
  await session.close();
}

async function memory(tee: TeeContext): Promise<void> {
  const session = await tee.openSession(TEST_TA);
  const heap = DmaHeap.open(PROTECTED_HEAP);
  await repeat('memory', 20, async () => {
    const shm = await tee.allocSharedMemory(1 + random(1 << 18));
    shm.write(new Uint8Array(shm.size).fill(1));
    await session.invoke(TA.TEST_TA_TOUCH, [shm.inout()]);
    const last = shm.size === 1 ? 3 : 2;
    right(shm.read(shm.size - 1)[0] === last, 'shared memory');
    shm.close();
    const dma = await heap.alloc(4096);
    const secure = await tee.registerDmaBuf(dma);
    dma.close();
    await session.invoke(TA.TEST_TA_FILL, [secure.inout(), value.in(7)]);
    secure.close();
  });
  heap.close();
  await session.close();
}

async function pool(tee: TeeContext): Promise<void> {
  const sessions = tee.pool(TEST_TA, { max: 3, idle: 2000 });
  await repeat('rounds of the pool', 20, async () => {
    const requests = Array.from({ length: 6 }, () => {
      const signal = AbortSignal.timeout(20 + random(2000));
      return unless(
        ['ABORT_ERR'],
        sessions.invoke(TA.TEST_TA_TOUCH, [buffer.inout(new Uint8Array(5000))], { signal }),
      );
    });
    if (random(50) === 0) requests.push(unless(['TEE_ERROR_TARGET_DEAD'], sessions.invoke(TA.TEST_TA_PANIC)));
    await Promise.all(requests);
  });
  await sessions.close();
}

async function tokens(tee: TeeContext): Promise<void> {
  const pkcs11 = await alone(() => Pkcs11.open({ context: tee }));
  const token = await alone(async () => {
    const first = await pkcs11.token({ slot: 0 });
    await first.initialize({ label: 'soak', soPin: 'security officer' });
    await first.setUserPin({ soPin: 'security officer', pin: 'user-1234' });
    return first;
  });
  await repeat('logins', 100, () => alone(() => useToken(token)));
  await alone(() => pkcs11.close());
}

async function useToken(token: Token): Promise<void> {
  const data = Buffer.from('soak');
  const login = await token.login({ pin: 'user-1234' });
  const { privateKey } = await login.generateKeyPair('ec', { namedCurve: 'P-256', token: false });
  for (let i = 0; i < 3; i++) {
    const signature = await privateKey.sign('sha256', data);
    right(verify('sha256', data, privateKey.publicKey, signature), 'a signature');
    count('signatures');
  }
  right((await login.randomBytes(32)).length === 32, 'random bytes');
  await login.close();
}

const status = (name: string): number =>
  Number(new RegExp(`^${name}:\\s*(\\d+)`, 'm').exec(readFileSync('/proc/self/status', 'utf8'))?.[1]);

/** How many sessions OP-TEE has of the load's TAs, and how much of its heap is in use. */
async function inTee(stats: Session): Promise<{ sessions: number; teeHeap: number }> {
  const sessions = (await sessionsInTee(stats, TEST_TA)) + (await sessionsInTee(stats, PKCS11_TA));
  return { sessions, teeHeap: Math.round((await heapInTee(stats)) / 1024) };
}

async function sample(): Promise<void> {
  // Its calls do not wait behind those of the load, and it keeps nothing that would be counted.
  const tee = TeeContext.open({ threads: 1, temporaryMemory: 0 });
  const stats = await alone(() => tee.openSession(PTA_STATS));
  while (elapsed() < seconds) {
    await collectGarbage();
    const now: Sample = {
      seconds: Math.round(elapsed()),
      resident: status('VmRSS'),
      descriptors: readdirSync('/proc/self/fd').length,
      mappings: readFileSync('/proc/self/maps', 'utf8').split('\n').length,
      threads: status('Threads'),
      ...(await alone(() => inTee(stats))),
      done: Object.values(done).reduce((sum, one) => sum + one, 0),
    };
    console.log(JSON.stringify(now));
    await delay(interval * 1000);
  }
  await tee.close();
}

async function main(): Promise<void> {
  const tee = TeeContext.open({ threads: 6 });
  await Promise.all([calls(tee), aborts(tee), memory(tee), pool(tee), tokens(tee), sample()]);
  await tee.close();
  console.log(JSON.stringify({ done }));
}

main().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
