/** What a command wrote, on its way to this process's own outputs. */
import { fstatSync, writeFileSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';

/** How long whoever reads our outputs has for what is left, once all is over. */
const READER_GRACE = 1_000;

/**
 * Resolves when everything was written, or when it cannot be: that breaks the command's pipe, too.
 * @returns what went wrong; that nobody reads any more is nothing wrong
 */
export async function forward(from: Readable, to: Writable): Promise<Error | undefined> {
  // For good: a late EPIPE must not end this process before its status is known.
  to.on('error', () => {});
  const file = regularFile(to);
  try {
    for await (const chunk of from) {
      if (file === undefined) await write(to, chunk as Buffer);
      else writeFileSync(file, chunk as Buffer);
    }
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPIPE' ? undefined : (error as Error);
  }
  return undefined;
}

/** Do two descriptors lead to the same file, pipe or terminal? */
export function areOneFile(a: number, b: number): boolean {
  try {
    const [one, other] = [fstatSync(a, { bigint: true }), fstatSync(b, { bigint: true })];
    return one.dev === other.dev && one.ino === other.ino;
  } catch {
    return false; // one of them is closed
  }
}

/** Node's stream over a file takes a short write, as on a disk that gets full, for a whole one. */
function regularFile(to: Writable & { readonly fd?: number }): number | undefined {
  return to.fd !== undefined && fstatSync(to.fd).isFile() ? to.fd : undefined;
}

function write(to: Writable, chunk: Buffer | string): Promise<void> {
  return new Promise((resolve, reject) => {
    to.write(chunk, (error) => (error ? reject(error) : resolve()));
  });
}

/** Resolves when both of our outputs were read, or when nobody seems to. */
export async function flushOutputs(): Promise<void> {
  const over = new AbortController();
  const { signal } = over;
  const all = [process.stdout, process.stderr].map((stream) => write(stream, ''));
  await Promise.race([Promise.allSettled(all), delay(READER_GRACE, undefined, { signal }).catch(() => {})]);
  over.abort();
}
