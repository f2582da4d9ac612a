import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { TeeContext, value, type Session } from 'node-optee';
import { NODE_OPTEE_TEST_TA_UUID, TEST_TA_NOTHING, TEST_TA_WAIT_MASKED } from '../test/support/test-ta';
import { DEEP } from './calls';
import type { Lateness, Responsiveness } from './results';
import { quantile, summarize } from './statistics';

const BLOCKED = 16;
const FILE_SIZE = 65536;
const TIMER_MS = 5;

async function timeReads(path: string, until: () => boolean): Promise<number[]> {
  const ns: number[] = [];
  do {
    const start = performance.now();
    await readFile(path);
    ns.push((performance.now() - start) * 1e6);
  } while (!until());
  return ns;
}

function openSessions(tee: TeeContext, count: number): Promise<Session[]> {
  return Promise.all(Array.from({ length: count }, () => tee.openSession(NODE_OPTEE_TEST_TA_UUID)));
}

/** Reads a file with nothing going on, then with calls that all sleep in the TEE; several times in turns. */
async function measureReads(rounds: number, milliseconds: number): Promise<Responsiveness['readFile']> {
  const folder = await mkdtemp(join(tmpdir(), 'node-optee-bench-'));
  const path = join(folder, 'file');
  await writeFile(path, randomBytes(FILE_SIZE));
  const tee = TeeContext.open({ threads: BLOCKED });
  const idle: number[] = [];
  const blocked: number[] = [];
  try {
    const sessions = await openSessions(tee, BLOCKED);
    for (let round = 0; round < rounds; round++) {
      const end = performance.now() + milliseconds;
      idle.push(...(await timeReads(path, () => performance.now() >= end)));
      let ended = 0;
      const calls = sessions.map((session) =>
        session.invoke(TEST_TA_WAIT_MASKED, [value.in(milliseconds)]).then(() => ended++),
      );
      await delay(milliseconds / 10);
      // As soon as one has ended, they are no longer all blocked.
      blocked.push(...(await timeReads(path, () => ended > 0)));
      await Promise.all(calls);
    }
  } finally {
    await tee.close();
    await rm(folder, { recursive: true });
  }
  return { idle: summarize(idle), blocked: summarize(blocked), calls: BLOCKED };
}

async function timerLateness(milliseconds: number): Promise<Lateness> {
  const late: number[] = [];
  const end = performance.now() + milliseconds;
  while (performance.now() < end) {
    const start = performance.now();
    await delay(TIMER_MS);
    late.push(Math.max(0, performance.now() - start - TIMER_MS) * 1e6);
  }
  return { median: quantile(late, 0.5), p99: quantile(late, 0.99), worst: Math.max(...late) };
}

async function measureTimers(milliseconds: number): Promise<Responsiveness['timer']> {
  const idle = await timerLateness(milliseconds);
  const tee = TeeContext.open({ threads: DEEP });
  try {
    const sessions = await openSessions(tee, DEEP);
    let running = true;
    const loops = sessions.map(async (session) => {
      while (running) await session.invoke(TEST_TA_NOTHING);
    });
    const load = await timerLateness(milliseconds);
    running = false;
    await Promise.all(loops);
    return { idle, load };
  } finally {
    await tee.close();
  }
}

export async function measureResponsiveness(
  quick: boolean,
  note: (text: string) => void,
): Promise<Responsiveness> {
  note('fs.readFile under blocked calls');
  const readFile = await measureReads(quick ? 1 : 5, quick ? 200 : 1000);
  note('timers under load');
  return { readFile, timer: await measureTimers(quick ? 200 : 5000) };
}
