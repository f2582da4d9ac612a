/**
 * Buffers that outlive who made them. Worker threads move buffers of theirs to the main thread (`transfer()`, then
 * `postMessage` with a transfer list) and end; others end with buffers that they closed, or did not. Prints what the main
 * thread reads of the moved ones, and how many mappings of ours are left beside them.
 * Arguments: how many workers of the second kind.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { DmaHeap, TeeContext } from 'node-optee';
import { collectGarbage } from '../../support/census.js';

type Movable = ArrayBuffer & { transfer(): ArrayBuffer };

async function work(move: boolean): Promise<void> {
  const tee = TeeContext.open();
  const shm = tee.allocSharedMemorySync(8192);
  const heap = DmaHeap.open('system');
  const dma = heap.allocSync(8192);
  const buffers = [shm.buffer, dma.map()] as Movable[];
  buffers.forEach((buffer, i) => new Uint8Array(buffer).fill(i + 7));
  if (move) {
    const moved = buffers.map((buffer) => buffer.transfer());
    parentPort?.postMessage(moved, moved);
    return; // nothing is closed: the environment's end does it
  }
  shm.close();
  dma.close();
  void new Uint8Array(tee.allocSharedMemorySync(4096).buffer as ArrayBuffer).fill(1);
  await tee.close();
}

const mappings = (): number =>
  readFileSync('/proc/self/maps', 'utf8').match(/memfd:node-optee|\/dmabuf/g)?.length ?? 0;

async function main(): Promise<void> {
  const worker = new Worker(__filename, { workerData: true });
  const ended = once(worker, 'exit');
  const [moved] = (await once(worker, 'message')) as [ArrayBuffer[]];
  await ended;
  await collectGarbage();
  const read = (): number[] => moved.map((buffer) => new Uint8Array(buffer).reduce((a, b) => a + b, 0));
  const first = read();
  for (let i = 0; i < Number(process.argv[2]); i++) {
    await once(new Worker(__filename, { workerData: false }), 'exit');
  }
  await collectGarbage();
  console.log(JSON.stringify({ first, again: read(), mappings: mappings() }));
}

void (isMainThread ? main() : work(workerData as boolean));
