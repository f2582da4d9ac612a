// Memory that this process and the TA both see: no copies, call after call.
import { TeeContext, value } from 'node-optee';

const TA = '346e01a1-3d71-4feb-894b-ae252d064bde';
const TRANSFORM = 3; // XORs each byte with 0xa5
const CHECKSUM = 5;

const tee = TeeContext.open();
try {
  const session = await tee.openSession(TA);
  const shm = await tee.allocSharedMemory(65536);
  const bytes = new Uint8Array(shm.buffer);
  bytes.fill(0x5a);

  // A part of it, changed in place.
  await session.invoke(TRANSFORM, [shm.inout({ offset: 16, size: 4 })]);
  console.log(bytes.subarray(14, 22));

  // All of it.
  const [, sum] = await session.invoke(CHECKSUM, [shm.in(), value.out()]);
  console.log('sum of all bytes:', sum.a);
  shm.close(); // `bytes` is empty from here on
} finally {
  await tee.close();
}
