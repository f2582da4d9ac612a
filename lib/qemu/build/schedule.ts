import type { Part } from './part.js';
import { UnsuitableError } from './sources.js';

/**
 * Builds parts, each when those that it is made from are there, some beside each other. The first that fails ends the
 * others, unless it is a package that another version can take the place of: what the others make stays good then.
 * @param parts those that are not there yet; of two that could begin, the first in this order does
 * @param atOnce how many may run beside each other
 * @param build gets a signal that ends it
 * @throws what the first that failed threw, when no other one runs any more
 */
export async function buildInOrder(
  parts: readonly Part[],
  atOnce: number,
  build: (part: Part, signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const waiting = new Set(parts);
  const running = new Map<Part, Promise<void>>();
  const failed = new AbortController();
  const errors: unknown[] = [];
  const run = async (part: Part): Promise<void> => {
    try {
      await build(part, AbortSignal.any([signal, failed.signal]));
    } catch (error) {
      errors.push(error);
      if (!unsuitable(error)) failed.abort(error);
    }
    running.delete(part);
  };
  for (;;) {
    for (const part of waiting) {
      if (errors.length > 0 || running.size === atOnce) break;
      if (part.after.some((other) => waiting.has(other) || running.has(other))) continue;
      waiting.delete(part);
      running.set(part, run(part));
    }
    if (running.size === 0) break;
    await Promise.race(running.values());
  }
  if (errors.length > 0) throw errors.find((error) => !unsuitable(error)) ?? errors[0];
}

/** The version that will not do, where that is why a step failed. */
export function unsuitable(error: unknown): UnsuitableError | undefined {
  for (let cause = error; cause instanceof Error; cause = cause.cause)
    if (cause instanceof UnsuitableError) return cause;
  return undefined;
}
