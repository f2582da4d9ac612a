// Many requests share a few sessions. Each takes one that is free, or waits for it.
import { TeeContext, value } from 'node-optee';

const TA = '346e01a1-3d71-4feb-894b-ae252d064bde';
const VALUES = 1; // adds 1 and 2
const PANIC = 12;
const COUNT = 13; // of its calls in this session; b is what the call before was given

const tee = TeeContext.open();
const pool = tee.pool(TA, { max: 2, idle: 10_000 });
try {
  const requests = [1, 2, 3, 4, 5, 6].map((i) =>
    pool.invoke(VALUES, [value.inout(i)], { signal: AbortSignal.timeout(30_000) }),
  );
  const answers = await Promise.all(requests);
  console.log('6 requests:', answers.map(([{ a }]) => a).join(' '));

  // Calls that belong together stay on one session.
  const last = await pool.use(async (session) => {
    await session.invoke(COUNT, [value.inout(41)]);
    const [{ b }] = await session.invoke(COUNT, [value.inout(42)]);
    return b;
  });
  console.log('the call before was given', last);

  // A session whose TA has panicked is replaced. The call itself is never repeated.
  await pool.invoke(PANIC).catch(({ code }) => console.log(code));
  const [{ a }] = await pool.invoke(VALUES, [value.inout(7)]);
  const { open, replaced } = pool.statistics();
  console.log(`and on: ${a}. Sessions: ${open} open of 2 at most, ${replaced} replaced`);
} finally {
  await pool.close();
  await tee.close();
}
