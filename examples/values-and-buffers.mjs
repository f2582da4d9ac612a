// A session with a TA; numbers and bytes there and back. The TA is the one in test/ta.
import { buffer, TeeContext, value } from 'node-optee';

const TA = '346e01a1-3d71-4feb-894b-ae252d064bde';
const VALUES = 1; // a + 1, b + 2
const COPY = 4; // bytes from one buffer to the other

const tee = TeeContext.open();
try {
  const session = await tee.openSession(TA);

  const [changed] = await session.invoke(VALUES, [value.inout(41, 0)]);
  console.log('41, 0 became', changed.a, changed.b);

  // `out` is cut to what the TA wrote, however much room it had.
  const [, out] = await session.invoke(COPY, [buffer.in(Buffer.from('hello')), buffer.out(4096)]);
  console.log('the TA copied', out.length, 'bytes:', Buffer.from(out).toString());
} finally {
  await tee.close(); // and its sessions with it
}
