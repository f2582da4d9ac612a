/**
 * A worker thread is ended in the middle of a call: with `memory` one that uses memory of JavaScript's, else one that
 * does not. Prints how long the end took, how long after the call that was, and whether the main thread's sessions work
 * after it.
 */
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { TeeContext, value } from 'node-optee';
import { census, collectGarbage, inTee, TEST_TA } from '../../support/census.js';
import { TEST_TA_FILL, TEST_TA_VALUES, TEST_TA_WAIT } from '../../support/test-ta.js';

async function work(memory: SharedArrayBuffer): Promise<void> {
  const tee = TeeContext.open();
  const session = await tee.openSession(TEST_TA);
  const shm = tee.registerSharedMemorySync(new Uint8Array(memory));
  await session.invoke(TEST_TA_FILL, [shm.inout(), value.in(1)]);
  const called = process.hrtime.bigint();
  if (process.argv[2] === 'memory') {
    // The opening itself waits so long, with the memory as its third parameter.
    void tee.openSession(TEST_TA, { params: [value.in(0, 1500), undefined, shm.in({ size: 16 })] });
  } else {
    void session.invoke(TEST_TA_WAIT, [value.in(1500), value.out()]);
    // Not begun when the thread ends, so it never will be.
    void session.invoke(TEST_TA_FILL, [shm.inout(), value.in(2)]);
  }
  parentPort?.postMessage(called);
  // Goes on for ever; the main thread ends it.
  setInterval(() => undefined, 1000);
}

async function main(): Promise<void> {
  const before = census();
  const tee = TeeContext.open();
  const session = await tee.openSession(TEST_TA);
  const memory = new SharedArrayBuffer(8192);
  const worker = new Worker(__filename, { workerData: memory, argv: process.argv.slice(2) });
  const [called] = (await once(worker, 'message')) as [bigint];
  await inTee();
  const start = performance.now();
  await worker.terminate();
  const took = performance.now() - start;
  const sinceCall = Number(process.hrtime.bigint() - called) / 1e6;
  const [found] = await session.invoke(TEST_TA_VALUES, [value.inout(1)]);
  await delay(2000);
  await tee.close();
  for (let i = 0; i < 30 && JSON.stringify(census()) !== JSON.stringify(before); i++)
    await collectGarbage(100);
  const filled = new Uint8Array(memory)[0];
  console.log(JSON.stringify({ before, after: census(), took, sinceCall, found, filled }));
}

void (isMainThread ? main() : work(workerData as SharedArrayBuffer));
