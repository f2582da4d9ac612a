/** Starts a program while a device, sessions and memory are open. Prints what that program has of them. */
import { execFileSync } from 'node:child_process';
import { DmaBuf, DmaHeap, TeeContext } from 'node-optee';
import { census, PROTECTED_HEAP, TEST_TA } from '../../support/census.js';

const tee = TeeContext.open();
tee.openSessionSync(TEST_TA);
const shm = tee.allocSharedMemorySync(4096);
const registered = tee.registerSharedMemorySync(new Uint8Array(new SharedArrayBuffer(4096)));
const heap = DmaHeap.open(PROTECTED_HEAP);
const dma = heap.allocSync(4096);
const copy = DmaBuf.fromFd(dma.fd);
const secure = tee.registerDmaBufSync(dma);
const seen = execFileSync('sh', ['-c', 'ls -l /proc/self/fd'], { encoding: 'utf8' });
const found = seen.split('\n').filter((line) => /tee|dmabuf|dma_heap|memfd/.test(line));
console.log(JSON.stringify({ own: census(), found }));
for (const thing of [secure, copy, dma, heap, registered, shm]) thing.close();
void tee.close();
