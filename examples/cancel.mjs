// Giving up on a call.
import { TeeContext, value } from 'node-optee';

const TA = '346e01a1-3d71-4feb-894b-ae252d064bde';
const WAIT = 9; // so many milliseconds; looks at the cancel flag every 10

const tee = TeeContext.open();
try {
  const session = await tee.openSession(TA);
  const start = performance.now();
  try {
    await session.invoke(WAIT, [value.in(10_000)], { signal: AbortSignal.timeout(200) });
  } catch (error) {
    if (error.name !== 'AbortError') throw error;
    console.log(
      `aborted after ${Math.round(performance.now() - start)} ms; the TA answered ${error.teeError?.code}`,
    );
  }
} finally {
  await tee.close();
}
