/**
 * Closes shared memory until the collector comes by itself. Prints how many were closed, and how many of their mappings
 * were left. In a process of its own, whose collector is as it is for everybody.
 */
import { setImmediate as immediate } from 'node:timers/promises';
import { TeeContext } from 'node-optee';
import { census } from '../../support/census.js';

const SIZE = 4 << 20;

async function main(): Promise<void> {
  const tee = TeeContext.open();
  let closed = 0;
  let left = 0;
  // So few and small objects bring no collection about: their pages have to.
  while (closed === 0 || (closed < 160 && left > closed - 20)) {
    for (let i = 0; i < 40; i++, closed++) {
      const shm = tee.allocSharedMemorySync(SIZE);
      new Uint8Array(shm.buffer as ArrayBuffer)[0] = 1;
      shm.close();
      await immediate();
    }
    left = census()['memfd mappings'] ?? 0;
  }
  console.log(JSON.stringify({ closed, left }));
  await tee.close();
}

void main();
