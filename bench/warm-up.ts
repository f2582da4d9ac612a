import type { Session, TeeContext } from 'node-optee';
import { callAtOnce, callInTurn } from './calls';
import { CASES } from './cases';

/** What takes as long as the opening of a session does not depend on how well V8 has compiled it. */
export const isShort = ({ share }: { readonly share: number }): boolean => share >= 0.1;

const TURNS = 10;
/** Blocking ones of all cases together, and as many awaited ones; V8 optimizes a function after some 3,500. */
const CALLS = 10_000;

/** Calls through descriptions, of each case that has them: they run many small functions, which V8 optimizes later. */
const DESCRIBED = 20_000;

/**
 * Calls of all short cases in turns, from JavaScript, until V8 has optimized what they share. Of all, whichever will be
 * measured: code that meets something new is compiled anew, and is never again as special as before.
 * @param optimized false: one call of each only
 */
export async function warmUp(tee: TeeContext, session: Session, optimized = true): Promise<void> {
  const cases = CASES.filter(isShort);
  const calls = CALLS / TURNS / cases.length;
  for (let turn = 0; turn < (optimized ? TURNS : 1); turn++) {
    for (const bench of cases) {
      const { sync, described, async: awaited, close } = bench.prepare(tee, session);
      const count = optimized ? Math.ceil(calls * bench.share) : 1;
      try {
        await callInTurn(sync, count);
        if (described !== undefined) await callInTurn(described, optimized ? DESCRIBED / TURNS : 1);
        if (awaited !== undefined) await callAtOnce([awaited], count);
      } finally {
        await close?.();
      }
    }
  }
}
