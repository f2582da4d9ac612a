/**
 * A worker thread is ended while its session is being opened, for 1500 ms: with `memory`, the TA has memory of the
 * worker's own meanwhile. Prints how long the end took.
 */
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { TeeContext, value } from 'node-optee';
import { census, collectGarbage, TEST_TA } from '../../support/census.js';

async function work(withMemory: boolean): Promise<void> {
  const tee = TeeContext.open();
  // The TA is there already when it is measured.
  await tee.openSession(TEST_TA);
  const memory = tee.registerSharedMemory(new Uint8Array(new SharedArrayBuffer(8192)));
  void tee.openSession(TEST_TA, {
    params: [value.in(0, 1500), undefined, withMemory ? memory.in({ size: 64 }) : undefined],
  });
  parentPort?.postMessage('opening');
  setInterval(() => undefined, 1000);
}

async function main(): Promise<void> {
  const before = census();
  const worker = new Worker(__filename, { workerData: process.argv[2] === 'memory' });
  await once(worker, 'message');
  await delay(200);
  const start = performance.now();
  await worker.terminate();
  const took = performance.now() - start;
  for (let i = 0; i < 60 && JSON.stringify(census()) !== JSON.stringify(before); i++)
    await collectGarbage(100);
  console.log(JSON.stringify({ before, after: census(), took }));
}

void (isMainThread ? main() : work(workerData as boolean));
