/**
 * Ends while a call is in a state: `exit` calls process.exit(5), `throw` throws, a signal is one to itself. As a program it
 * prints when the call was made, by the clock of all processes; as a worker thread it tells its parent that it is there,
 * and may have to wait for its end.
 * Arguments: the state, how it ends, and the milliseconds that the TA takes.
 */
import { readdirSync, readFileSync, writeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { TeeContext, value, type Session } from 'node-optee';
import { machine, TEST_TA } from '../../support/census.js';
import { TEST_TA_NOTHING, TEST_TA_WAIT, TEST_TA_WAIT_MASKED } from '../../support/test-ta.js';

const [state, how, time] = (workerData ?? process.argv.slice(2)) as [string, string, string];
/** Milliseconds. More where the host is so busy that calls end before all of them are in the TEE. */
let taTime = Number(time);
const MOST = 4000;
/** How many calls OP-TEE takes at a time. */
const TEE_THREADS = machine === 'dynamic' ? 8 : 2;

const ignore = (): void => undefined;
let begun = 0n;

/** How many threads of this name sleep in an ioctl? */
function inKernel(name: string): number {
  return readdirSync('/proc/self/task').filter((id) => {
    try {
      const read = (file: string): string => readFileSync(`/proc/self/task/${id}/${file}`, 'utf8');
      return read('comm') === `${name}\n` && read('syscall').startsWith('29 ');
    } catch {
      return false; // it has just ended
    }
  }).length;
}

/** Makes calls that take their time until all of them are seen in the TEE. */
async function inTee(...calls: (() => Promise<unknown>)[]): Promise<void> {
  for (;;) {
    begun = process.hrtime.bigint();
    let ended = false;
    const over = (): void => void (ended = true);
    for (const call of calls) call().then(over, over);
    while (!ended) {
      if (inKernel('optee-call') >= calls.length) return;
      await delay(5);
    }
    taTime = Math.min(2 * taTime, MOST);
  }
}

/** A call that the TA answers after its time. */
const wait =
  (session: Session, command = TEST_TA_WAIT) =>
  (): Promise<unknown> =>
    session.invoke(command, [value.in(taTime)]);

const states: Record<string, (tee: TeeContext) => Promise<void>> = {
  async waiting(tee) {
    const session = await tee.openSession(TEST_TA);
    await inTee(wait(session));
    for (let i = 0; i < 10; i++) session.invoke(TEST_TA_WAIT, [value.in(60_000)]).catch(ignore);
  },

  async 'in the TEE'(tee) {
    await inTee(wait(await tee.openSession(TEST_TA)));
  },

  async 'being cancelled'(tee) {
    const session = await tee.openSession(TEST_TA);
    const controller = new AbortController();
    const { signal } = controller;
    await inTee(() => session.invoke(TEST_TA_WAIT_MASKED, [value.in(taTime)], { signal }));
    controller.abort();
  },

  async 'not delivered'(tee) {
    const session = await tee.openSession(TEST_TA);
    begun = process.hrtime.bigint();
    void session.invoke(TEST_TA_NOTHING).then(() => writeSync(1, 'delivered\n'));
    // Nothing of the event loop runs until the end, which is in this same turn.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
  },

  async opening(tee) {
    await inTee(() => tee.openSession(TEST_TA, { params: [value.in(0, taTime)] }));
  },

  async registering(tee) {
    const sessions: Session[] = [];
    for (let i = 0; i < TEE_THREADS; i++) sessions.push(await tee.openSession(TEST_TA));
    await inTee(...sessions.map((session) => wait(session)));
    tee.allocSharedMemory(4096).catch(ignore);
    for (let i = 0; i < 20 && inKernel('optee-memory') === 0; i++) await delay(10);
  },
};

async function main(): Promise<void> {
  await states[state]?.(TeeContext.open({ threads: TEE_THREADS }));
  if (parentPort === null) writeSync(1, `begun ${begun}\n`);
  else parentPort.postMessage('there');
  if (how === 'exit') process.exit(5);
  if (how === 'throw')
    process.nextTick(() => {
      throw new Error('thrown on purpose');
    });
  if (how.startsWith('SIG')) process.kill(process.pid, how);
  if (how !== 'terminate') return;
  setInterval(ignore, 1000); // goes on for ever
  if (state === 'not delivered') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

void main();
