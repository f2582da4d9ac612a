import type { TeeContext } from 'node-optee';
import type { ContextStatistics } from '#lib/client/native';

/** What a context holds: an internal method, not in the public types. */
export function statistics(tee: TeeContext): ContextStatistics | undefined {
  return (tee as unknown as { statistics(): ContextStatistics | undefined }).statistics();
}
