/**
 * Uses up V8's heap with a call under way: its own (`process`, with a small --max-old-space-size), or that of a worker
 * thread (`worker`), after which it goes on. Prints what became of the worker.
 */
import { once } from 'node:events';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { TeeContext, value } from 'node-optee';
import { census, inTee, TEST_TA } from '../../support/census.js';
import { TEST_TA_VALUES, TEST_TA_WAIT } from '../../support/test-ta.js';

async function exhaust(): Promise<void> {
  const tee = TeeContext.open();
  const session = await tee.openSession(TEST_TA);
  void session.invoke(TEST_TA_WAIT, [value.in(500)]);
  await inTee();
  parentPort?.postMessage('there');
  console.log('there');
  const all: object[] = [];
  for (;;) all.push(new Array(1000).fill(0.5));
}

async function main(): Promise<void> {
  const before = census();
  const worker = new Worker(__filename, { resourceLimits: { maxOldGenerationSizeMb: 24 }, stdout: true });
  const [error] = (await once(worker, 'error')) as [{ code: string }];
  const tee = TeeContext.open();
  const session = await tee.openSession(TEST_TA);
  const [found] = await session.invoke(TEST_TA_VALUES, [value.inout(1)]);
  await tee.close();
  for (let i = 0; i < 100 && JSON.stringify(census()) !== JSON.stringify(before); i++) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  console.log(JSON.stringify({ code: error.code, found, before, after: census() }));
}

void (isMainThread && process.argv[2] === 'worker' ? main() : exhaust());
