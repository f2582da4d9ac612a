/**
 * Kills tee-supplicant again and again while TAs are loaded and objects are stored; the guest starts it anew each time.
 * Prints how the calls ended, and how many objects were neither the old nor the new one afterwards.
 * Arguments: how many times.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { buffer, TeeContext, value, type Session } from 'node-optee';
import { OS_TEST, TEST_TA } from '../../support/census.js';
import { supplicant } from '../../support/supplicant.js';
import { TEST_TA_STORAGE_READ, TEST_TA_STORAGE_WRITE, TEST_TA_VALUES } from '../../support/test-ta.js';
import { until } from '../../support/until.js';

const ROUNDS = Number(process.argv[2]);
const SIZE = 2000;
const name = Buffer.from('killed');
const ends: Record<string, number> = {};

async function noted<T>(what: string, work: Promise<T>): Promise<T | undefined> {
  let end = 'works';
  try {
    return await work;
  } catch (error) {
    end = String((error as { code: string }).code);
    return undefined;
  } finally {
    ends[`${what}: ${end}`] = (ends[`${what}: ${end}`] ?? 0) + 1;
  }
}

const write = (session: Session, round: number): Promise<unknown> =>
  session.invoke(TEST_TA_STORAGE_WRITE, [buffer.in(name), buffer.in(new Uint8Array(SIZE).fill(round))]);

async function main(): Promise<void> {
  const tee = TeeContext.open();
  let session = await tee.openSession(TEST_TA);
  await write(session, 0);
  let wrong = 0;
  let known = 0;
  for (let round = 1; round <= ROUNDS; round++) {
    const pid = (await supplicant()) as number;
    const stored = noted('storage', write(session, round));
    const loaded = noted('load', tee.openSession(OS_TEST));
    await delay(Math.random() * 150);
    process.kill(pid, 'SIGKILL');
    await until(async () => ![undefined, pid].includes(await supplicant()));
    const [done, other] = await Promise.all([stored, loaded]);
    await other?.close();
    // A TA that panicked of it has to be opened anew.
    const alive = await session.invoke(TEST_TA_VALUES, [value.inout(1)]).then(
      () => true,
      () => false,
    );
    if (!alive) {
      await session.close();
      session = await tee.openSession(TEST_TA);
    }
    const [, found] = await session.invoke(TEST_TA_STORAGE_READ, [buffer.in(name), buffer.out(SIZE)]);
    const right = done === undefined ? [known, round] : [round];
    if (found.length !== SIZE || new Set(found).size !== 1 || !right.includes(found[0])) wrong++;
    known = found[0];
  }
  await tee.close();
  console.log(JSON.stringify({ ends, wrong }));
}

void main();
