// Calls of one session run one after the other, those of different sessions at the same time.
import { TeeContext, value } from 'node-optee';

const TA = '346e01a1-3d71-4feb-894b-ae252d064bde';
const WAIT = 9;

const tee = TeeContext.open({ threads: 4 });
try {
  const sessions = await Promise.all([1, 2, 3, 4].map(() => tee.openSession(TA)));
  const start = performance.now();
  await Promise.all(sessions.map((session) => session.invoke(WAIT, [value.in(250)])));
  console.log(`4 waits of 250 ms took ${Math.round(performance.now() - start)} ms`);
} finally {
  await tee.close();
}
