// Random bytes, as many as asked for. In the guest: node examples/run.cjs random
import { TeeContext } from 'node-optee';
import { Random } from './random.ta.mjs';

const tee = TeeContext.open();
try {
  const random = await Random.open(tee);
  // The argument of an output is its room, in bytes.
  const { bytes } = await random.generate({ bytes: 32 });
  const { bytes: others } = await random.generate({ bytes: 32 });
  console.log(bytes.length, 'bytes, and', others.length, Buffer.compare(bytes, others) ? 'others' : 'equal');

  // It can also be an array, which is written in place.
  const array = new Uint8Array(16384);
  await random.generate({ bytes: array });
  console.log(`in ${array.length} bytes there are ${new Set(array).size} values`);
} finally {
  await tee.close(); // and its sessions with it
}
