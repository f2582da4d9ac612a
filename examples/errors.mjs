// What to do with the errors: ask for the size that a TA needs, know the TA's own results, open a dead session again.
import { buffer, TeeContext, TeeError, value } from 'node-optee';

const TA = '346e01a1-3d71-4feb-894b-ae252d064bde';
const WRITE = 7; // so many bytes
const RESULT = 8; // answers a result of our choice
const PANIC = 12;

const tee = TeeContext.open();
try {
  let session = await tee.openSession(TA);

  const write = async (room) => {
    const [bytes] = await session.invoke(WRITE, [buffer.out(room), value.in(1000)]);
    return bytes;
  };
  let bytes;
  try {
    bytes = await write(100);
  } catch (error) {
    if (error.code !== 'TEE_ERROR_SHORT_BUFFER') throw error;
    bytes = await write(error.outputs[0].size);
  }
  console.log('the TA wrote', bytes.length, 'bytes');

  await session.invoke(RESULT, [value.in(0x80001234)]).catch((error) => {
    if (!(error instanceof TeeError)) throw error;
    console.log('own result:', error.code, error.result, error.origin);
  });

  await session.invoke(PANIC).catch((error) => console.log(error.message));
  await session.close(); // it is of no use any more
  session = await tee.openSession(TA);
  await session.invoke(0);
  console.log('the new session works');
} finally {
  await tee.close();
}
