import { setTimeout as delay } from 'node:timers/promises';

/**
 * Waits until something is so, for as long as a busy machine may need.
 * @throws Error if it never is
 */
export async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 1200; tries++) {
    if (await isSo()) return;
    await delay(50);
  }
  throw new Error(`This never came to be: ${isSo.toString()}`);
}
