/**
 * Shared memory and dma-bufs that are opened, filled and closed in a loop, which must not grow without the garbage
 * collector's help. Arguments: rounds, and `yield` to let the event loop turn between them. Prints the highest resident
 * set, in MiB, and how many mappings were added.
 */
import { readFileSync } from 'node:fs';
import { DmaHeap, TeeContext } from 'node-optee';

const [rounds = '0', yields] = process.argv.slice(2);
const MIB = 1 << 20;
const resident = (): number => Number(/^Rss(?:Shmem|Anon|File):|VmRSS:\s*(\d+)/m.exec(status())?.[1]) / 1024;
const status = (): string => readFileSync('/proc/self/status', 'utf8').replace(/^Rss.*$/gm, '');
const mappings = (): number => readFileSync('/proc/self/maps', 'utf8').split('\n').length;

async function main(): Promise<void> {
  const tee = TeeContext.open();
  const heap = DmaHeap.open('system');
  const before = mappings();
  let highest = 0;
  for (let i = 0; i < Number(rounds); i++) {
    const shm = tee.allocSharedMemorySync(MIB);
    const seen = new Uint8Array(shm.buffer as ArrayBuffer).fill(1);
    shm.close();
    if (seen.length !== 0) throw new Error('A view of closed memory has a length');
    const dma = heap.allocSync(MIB);
    new Uint8Array(dma.map()).fill(1);
    dma.close();
    if (yields === 'yield') await Promise.resolve();
    if (i % 50 === 0) highest = Math.max(highest, resident());
  }
  console.log(JSON.stringify({ highest: Math.round(highest), mappings: mappings() - before }));
  await tee.close();
}

void main();
