/** Calls under way at a time where a subject's name ends with 8: each on a session of its own. */
export const DEEP = 8;

/** So many calls of each, one under way of each at any time: nanoseconds per call, over all of them. */
export async function callAtOnce(each: readonly (() => Promise<unknown>)[], calls: number): Promise<number> {
  const start = performance.now();
  await Promise.all(
    each.map(async (call) => {
      for (let i = 0; i < calls; i++) await call();
    }),
  );
  return ((performance.now() - start) * 1e6) / (calls * each.length);
}
