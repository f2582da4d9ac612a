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
import { inTee, machine, OS_TEST, TEST_TA } from '../../support/census.js';
import { TEST_TA_NOTHING, TEST_TA_WAIT, TEST_TA_WAIT_MASKED } from '../../support/test-ta.js';

const [state, how, time] = (workerData ?? process.argv.slice(2)) as [string, string, string];
const TIME = Number(time);
/** How many calls OP-TEE takes at a time. */
const TEE_THREADS = machine === 'dynamic' ? 8 : 2;

const ignore = (): void => undefined;
let begun = 0n;

/** A call that the TA answers after its time. */
function wait(session: Session, command = TEST_TA_WAIT, signal?: AbortSignal): void {
  begun = process.hrtime.bigint();
  session.invoke(command, [value.in(TIME)], { signal }).catch(ignore);
}

/** Does a thread of this name sleep in an ioctl? */
function isInKernel(name: string): boolean {
  return readdirSync('/proc/self/task').some((id) => {
    try {
      const read = (file: string): string => readFileSync(`/proc/self/task/${id}/${file}`, 'utf8');
      return read('comm') === `${name}\n` && read('syscall').startsWith('29 ');
    } catch {
      return false; // it has just ended
    }
  });
}

const states: Record<string, (tee: TeeContext) => Promise<void>> = {
  async waiting(tee) {
    const session = await tee.openSession(TEST_TA);
    wait(session);
    await inTee();
    for (let i = 0; i < 10; i++) session.invoke(TEST_TA_WAIT, [value.in(60_000)]).catch(ignore);
  },

  async 'in the TEE'(tee) {
    wait(await tee.openSession(TEST_TA));
    await inTee();
  },

  async 'being cancelled'(tee) {
    const session = await tee.openSession(TEST_TA);
    const controller = new AbortController();
    wait(session, TEST_TA_WAIT_MASKED, controller.signal);
    await inTee();
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
    await tee.openSession(OS_TEST); // of another TA: the count of this one's is the opening's
    begun = process.hrtime.bigint();
    tee.openSession(TEST_TA, { params: [value.in(0, TIME)] }).catch(ignore);
    await inTee();
  },

  async registering(tee) {
    const sessions: Session[] = [];
    for (let i = 0; i < TEE_THREADS; i++) sessions.push(await tee.openSession(TEST_TA));
    for (const session of sessions) wait(session);
    await inTee(TEE_THREADS);
    tee.allocSharedMemory(4096).catch(ignore);
    for (let i = 0; i < 100 && !isInKernel('optee-memory'); i++) await delay(10);
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
