import type { Session, TeeContext } from 'node-optee';
import { callAtOnce, callInTurn } from './calls';
import { CASES } from './cases';

/** What takes as long as the opening of a session does not depend on how well V8 has compiled it. */
export const isShort = ({ share }: { readonly share: number }): boolean => share >= 0.1;

/**
 * Calls of all short cases in turns, from JavaScript, until V8 has optimized what they share. Of all, whichever will be
 * measured: code that meets something new is compiled anew, and is never again as special as before.
 * @param calls blocking ones of all cases together, and as many awaited ones; those of a short call more often
 */
export async function warmUp(tee: TeeContext, session: Session, turns: number, calls: number): Promise<void> {
  const cases = CASES.filter(isShort);
  for (let turn = 0; turn < turns; turn++) {
    for (const bench of cases) {
      const { sync, async: awaited, close } = bench.prepare(tee, session);
      const count = Math.ceil((calls / turns / cases.length) * bench.share);
      try {
        await callInTurn(sync, count);
        if (awaited !== undefined) await callAtOnce([awaited], count);
      } finally {
        await close?.();
      }
    }
  }
}
