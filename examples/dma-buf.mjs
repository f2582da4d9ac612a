// A dma-buf of a protected heap: a TA fills it and reads it, the CPU outside the TEE never can.
import { DmaHeap, TeeContext, value } from 'node-optee';

const TA = '346e01a1-3d71-4feb-894b-ae252d064bde';
const CHECKSUM = 5;
const FILL = 6;

const name = DmaHeap.list().find((heap) => /^(protected,|sdp@)/.test(heap));
if (name === undefined) throw new Error('This machine has no protected heap');
const heap = DmaHeap.open(name);
const tee = TeeContext.open();
try {
  const session = await tee.openSession(TA);
  const dma = await heap.alloc(65536); // or DmaBuf.fromFd(fd), or the bare fd of any other library
  const shm = await tee.registerDmaBuf(dma);
  dma.close(); // the registration holds the memory

  await session.invoke(FILL, [shm.inout(), value.in(7)]);
  const [, sum] = await session.invoke(CHECKSUM, [shm.in(), value.out()]);
  console.log(`${shm.size} bytes of ${name} hold 7 each: ${sum.a === 7 * shm.size}`);
  shm.close();
} finally {
  heap.close();
  await tee.close();
}
