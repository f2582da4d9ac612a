// One TA writes a frame, another one shows it. This program passes it on, and cannot see it.
// In the guest: node examples/run.cjs protected-video
import { createHash } from 'node:crypto';
import { DmaHeap, TeeContext } from 'node-optee';
import { VideoDecoder } from './video_decoder.ta.mjs';
import { VideoDisplay } from './video_display.ta.mjs';

// Three stripes of 64 lines, 256 pixels each, and what the decoder makes of them.
const stripes = [10, 128, 250].map((pixel) => new Uint8Array(64 * 256).fill(pixel));
const runs = Buffer.concat(stripes.map(([pixel]) => Buffer.alloc(2 * 128, Buffer.from([128, pixel]))));
const sha256 = createHash('sha256').update(Buffer.concat(stripes)).digest();

const name = DmaHeap.list().find((heap) => /^(protected,|sdp@)/.test(heap));
if (name === undefined) throw new Error('This machine has no protected heap');
const heap = DmaHeap.open(name);
const tee = TeeContext.open();
try {
  const decoder = await VideoDecoder.open(tee);
  const display = await VideoDisplay.open(tee);

  const dma = await heap.alloc(3 * 64 * 256);
  try {
    dma.map();
  } catch (error) {
    console.log('this program maps the frame:', error.code);
  }

  // Registered once with the context, it goes to any session.
  const memory = await tee.registerDmaBuf(dma);
  dma.close(); // the registration holds the memory
  const { frame } = await decoder.decode({ runs, frame: memory });
  const { hash } = await display.show({ frame: { memory, size: frame } });
  console.log(`${frame} pixels are shown as they should be:`, sha256.equals(hash));
  memory.close();

  // The decoder looks where it writes: a program that passes memory of its own gets nothing.
  const ordinary = await tee.allocSharedMemory(65536);
  await decoder
    .decode({ runs, frame: ordinary })
    .catch(({ code }) => console.log('memory of this program:', code));
} finally {
  heap.close();
  await tee.close(); // and what belongs to it
}
