/** Work of the addon's threads that is no call to a TA: it makes or closes something. */
import { rejected, restacked } from './call.js';
import { TeeSystemError } from './errors.js';
import { Place } from './native.js';
import type { Answer, Native, Ticket } from './native.js';

/**
 * What a function of the addon has made, or what its job makes.
 * @param ticket of the job; 0: the answer is there already
 * @param read reads it from the answer
 * @param make makes the caller's result of that, or throws what the caller gets
 * @returns a promise if there is a job
 */
export function made<Data, T>(
  n: Native,
  ticket: Ticket,
  read: (answer: Answer) => Data,
  make: (data: Data) => T,
): T | Promise<T> {
  if (ticket === 0) return make(read(n.answer));
  return new Promise((resolve) => {
    n.settle.set(ticket, (answer) => {
      const data = read(answer);
      return (known) => {
        try {
          resolve(make(data));
          return false;
        } catch (error) {
          resolve(rejected(() => restacked(error as Error), known));
          return true;
        }
      };
    });
  });
}

/**
 * Waits for a close.
 * @param ticket the job's; 0 if there is nothing to wait for
 * @param path the device's
 * @param asked what is being closed: 'closing the session with TA …'
 */
export async function closed(n: Native, ticket: Ticket, path: string, asked: string): Promise<void> {
  if (ticket === 0) return;
  // What was closed already is closed.
  const read = (answer: Answer) => (answer.number(Place.status) > 0 ? answer.failure : undefined);
  await made(n, ticket, read, (failure) => {
    if (failure !== undefined) throw new TeeSystemError({ ...failure, path, asked });
  });
}
