/**
 * A worker thread is ended while what it asked for waits: all of the addon's threads for memory wait for the TEE, whose
 * threads are all at work, so its registration of memory of its own has not begun. Prints how many of the addon's threads
 * waited, and how many of the TEE's had come back when the worker had ended.
 */
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { TeeContext, value } from 'node-optee';
import { inTee, machine, TEST_TA } from '../../support/census.js';
import { TEST_TA_WAIT } from '../../support/test-ta.js';

/** How many calls OP-TEE takes at a time. */
const THREADS = machine === 'dynamic' ? 8 : 2;
/** The addon's threads for memory. */
const MAKERS = 4;
const IOCTL = '29 '; // of arm64

/** How many of the addon's threads for memory wait in the kernel. */
const waiting = (): number =>
  readdirSync('/proc/self/task').filter((id) => {
    try {
      const [name, call] = ['comm', 'syscall'].map((file) =>
        readFileSync(`/proc/self/task/${id}/${file}`, 'utf8'),
      );
      return name === 'optee-memory\n' && call?.startsWith(IOCTL);
    } catch {
      return false; // it has just ended
    }
  }).length;

async function work(): Promise<void> {
  const tee = TeeContext.open();
  const ignore = (): void => undefined;
  for (let i = 0; i < MAKERS; i++) tee.allocSharedMemory(4096).catch(ignore);
  for (let i = 0; i < 600 && waiting() < MAKERS; i++) await delay(10);
  tee.registerSharedMemory(new Uint8Array(new SharedArrayBuffer(4096))).catch(ignore);
  parentPort?.postMessage(waiting());
  setInterval(ignore, 1000); // the main thread ends it
}

async function main(): Promise<void> {
  const tee = TeeContext.open({ threads: THREADS });
  const sessions = await Promise.all(Array.from({ length: THREADS }, () => tee.openSession(TEST_TA)));
  let back = 0;
  const calls = sessions.map((session) =>
    session.invoke(TEST_TA_WAIT, [value.in(30_000)]).then(() => {
      back++;
    }),
  );
  await inTee(THREADS);
  const worker = new Worker(__filename);
  const [makers] = (await once(worker, 'message')) as [number];
  await worker.terminate();
  const result = JSON.stringify({ makers, back });
  await Promise.all(calls);
  await tee.close();
  console.log(result);
}

void (isMainThread ? main() : work());
