/** Work of the addon's threads that is no call: it makes something. */
import { rejected, restacked } from './call.js';
import type { Failure, Native, Ticket } from './native.js';

/**
 * Waits for a job.
 * @param started of the addon's function
 * @param make makes the result. It runs no code of a user's, and may throw what the caller gets
 */
export function finished<Data extends object, T>(
  n: Native,
  started: Ticket | Failure,
  make: (data: Data | Failure) => T,
): Promise<T> {
  return new Promise((resolve) => {
    if (typeof started !== 'number') {
      resolve(make(started));
      return;
    }
    n.settle.set(started, (answer) => {
      const data = answer.made as Data | Failure;
      try {
        const result = make(data);
        return () => void resolve(result);
      } catch (error) {
        return () => {
          const failed = rejected(() => restacked(error as Error));
          resolve(failed);
          return failed;
        };
      }
    });
  });
}
