import type { Subject } from './results';

/** Calls under way at a time where a subject's name ends with 8, each on a session of its own. */
export const DEEP = 8;

/** Calls that a subject has under way at a time. */
export function depth(subject: Subject): number {
  return subject.endsWith('8') ? DEEP : 1;
}

/** So many calls that block, one after the other: nanoseconds per call. */
export async function callInTurn(call: () => Promise<void> | void, calls: number): Promise<number> {
  const start = performance.now();
  for (let i = 0; i < calls; i++) {
    const more = call();
    if (more !== undefined) await more;
  }
  return ((performance.now() - start) * 1e6) / calls;
}

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
