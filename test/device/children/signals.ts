/**
 * Calls in all ways while signals come without a pause, from another thread. Prints how many of each way went well, and how
 * the others failed.
 */
import { once } from 'node:events';
import { isMainThread, Worker } from 'node:worker_threads';
import { buffer, TeeContext, value } from 'node-optee';
import { TEST_TA } from '../../support/census.js';
import { TEST_TA_TOUCH, TEST_TA_VALUES } from '../../support/test-ta.js';

const ROUNDS = 200;

function storm(): void {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  for (;;) {
    for (const signal of ['SIGUSR2', 'SIGWINCH', 'SIGCHLD'] as const) process.kill(process.pid, signal);
    Atomics.wait(pause, 0, 0, 0.2);
  }
}

async function main(): Promise<void> {
  let signals = 0;
  for (const signal of ['SIGUSR2', 'SIGWINCH', 'SIGCHLD'] as const) process.on(signal, () => signals++);
  const tee = TeeContext.open();
  const session = await tee.openSession(TEST_TA);
  const worker = new Worker(__filename);
  await once(worker, 'online');
  while (signals < 100) await new Promise(setImmediate);
  const found: Record<string, Record<string, number>> = {};
  const bytes = new Uint8Array(4096).fill(7);
  const ways: Record<string, () => unknown> = {
    invoke: async () =>
      (await session.invoke(TEST_TA_VALUES, [value.inout(41)]))[0].a === 42 ? 'right' : 'wrong',
    invokeSync: () => (session.invokeSync(TEST_TA_VALUES, [value.inout(41)])[0].a === 42 ? 'right' : 'wrong'),
    buffers: async () => {
      const [, back] = await session.invoke(TEST_TA_TOUCH, [undefined, buffer.inout(bytes)]);
      return back[0] === 8 && back[1] === 7 && back[4095] === 8 ? 'right' : 'wrong';
    },
    memory: async () => {
      const shm = await tee.allocSharedMemory(4096);
      shm.close();
      return 'right';
    },
    memorySync: () => {
      tee.allocSharedMemorySync(4096).close();
      return 'right';
    },
  };
  for (const [name, way] of Object.entries(ways)) {
    const ends = (found[name] = {} as Record<string, number>);
    for (let i = 0; i < ROUNDS; i++) {
      let end: string;
      try {
        end = String(await way());
      } catch (error) {
        const { code, operation } = error as { code: string; operation: string };
        end = `${code} ${operation}`;
      }
      ends[end] = (ends[end] ?? 0) + 1;
    }
  }
  await worker.terminate();
  await tee.close();
  console.log(JSON.stringify({ signals, found }));
}

void (isMainThread ? main() : Promise.resolve(storm()));
