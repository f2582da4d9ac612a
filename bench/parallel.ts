import type { Session } from 'node-optee';
import { TEST_TA_NOTHING } from '../test/support/test-ta';

export const PARALLEL = { name: 'parallel8', sessions: 8 } as const;

/** So many calls on each session, one under way on each at any time: nanoseconds per call, over all of them. */
export async function callAtOnce(sessions: readonly Session[], calls: number): Promise<number> {
  const start = performance.now();
  await Promise.all(
    sessions.map(async (session) => {
      for (let i = 0; i < calls; i++) await session.invoke(TEST_TA_NOTHING);
    }),
  );
  return ((performance.now() - start) * 1e6) / (calls * sessions.length);
}
