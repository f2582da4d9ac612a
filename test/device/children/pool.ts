/**
 * Closes memory while Node's own threads read it. Prints what they made of it: all of the bytes, for the pages live as
 * long as somebody holds the ArrayBuffer.
 */
import { promisify } from 'node:util';
import { constants, gunzip, gzip } from 'node:zlib';
import { DmaHeap, TeeContext } from 'node-optee';

const SIZE = 1 << 20;
const compress = promisify<Uint8Array, { level: number }, Buffer>(gzip);
const options = { level: constants.Z_BEST_SPEED };

async function main(): Promise<void> {
  const tee = TeeContext.open();
  const heap = DmaHeap.open('system');
  const found: number[] = [];
  for (let i = 0; i < 3; i++) {
    const shm = tee.allocSharedMemorySync(SIZE);
    const dma = heap.allocSync(SIZE);
    const reading = [shm.buffer as ArrayBuffer, dma.map()].map((buffer) =>
      compress(new Uint8Array(buffer), options),
    );
    shm.close();
    dma.close();
    for (const compressed of await Promise.all(reading)) {
      found.push((await promisify<Uint8Array, Buffer>(gunzip)(compressed)).length);
    }
  }
  heap.close();
  await tee.close();
  console.log(JSON.stringify({ found: [...new Set(found)] }));
}

void main();
