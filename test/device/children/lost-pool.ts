/**
 * Loses a pool with idle sessions to the garbage collector, keeps another as long as somebody uses it, and ends while
 * one has an idle session and a timer for it. Prints what was warned of.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { TeeContext, value } from 'node-optee';
import { collectGarbage, TEST_TA } from '../../support/census.js';
import { statistics } from '../../support/statistics.js';
import { TEST_TA_NOTHING } from '../../support/test-ta.js';

const warnings: string[] = [];
process.on('warning', ({ message }) => warnings.push(message));

async function lose(tee: TeeContext): Promise<void> {
  const pool = tee.pool(TEST_TA, { idle: Infinity });
  let there = 0;
  let all = (): void => undefined;
  const both = new Promise<void>((resolve) => (all = resolve));
  const meet = (): Promise<void> => (++there === 2 ? Promise.resolve(all()) : both);
  await Promise.all([pool.use(meet), pool.use(meet)]);
}

/** Nobody has the pool but the function that uses it. */
function useLost(tee: TeeContext): Promise<number> {
  const pool = tee.pool(TEST_TA);
  return pool.use(async (session) => {
    for (let i = 0; i < 3; i++) await collectGarbage();
    await delay(100);
    const [{ b }] = await session.invoke(1, [value.inout(1, -1 >>> 0)]);
    void pool.close();
    return b;
  });
}

async function main(): Promise<void> {
  const tee = TeeContext.open();
  await lose(tee);
  const sessions = [statistics(tee)?.sessions];
  for (let i = 0; i < 30 && warnings.length < 1; i++) await collectGarbage(20);
  for (let i = 0; i < 50 && statistics(tee)?.sessions !== 0; i++) await delay(20);
  sessions.push(statistics(tee)?.sessions);
  const busy = await useLost(tee);
  const last = tee.pool(TEST_TA, { idle: 3_600_000 });
  await last.invoke(TEST_TA_NOTHING);
  process.once('exit', () => {
    console.log(JSON.stringify({ warnings, sessions, busy, ended: last.closed ? 'closed' : 'by itself' }));
  });
}

void main();
