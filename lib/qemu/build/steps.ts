import { join } from 'node:path';
import type { Cache } from './cache.js';
import { BuildError, BuildLog } from './command.js';
import type { Progress } from './progress.js';

/** The steps of a build: each one tells its progress, and has a log of its own. */
export class Steps {
  readonly #cache: Cache;
  readonly #progress: Progress;
  readonly #count: number;
  readonly #signal: AbortSignal | undefined;
  #begun = 0;

  constructor(cache: Cache, progress: Progress, count: number, signal: AbortSignal | undefined) {
    this.#cache = cache;
    this.#progress = progress;
    this.#count = count;
    this.#signal = signal;
  }

  /** Throws a BuildError with the step's title, why it failed and where its log is. */
  async run(title: string, work: (log: BuildLog) => Promise<void>): Promise<void> {
    const step = ++this.#begun;
    this.#progress.start(step, this.#count, title);
    const began = Date.now();
    const seconds = (): number => (Date.now() - began) / 1000;
    const path = join(this.#cache.logs, `${logName(title)}.log`);
    let log: BuildLog | undefined;
    try {
      log = new BuildLog(path);
      await work(log);
    } catch (error) {
      this.#progress.fail(seconds(), step);
      this.#signal?.throwIfAborted();
      const { message } = error as Error;
      const where = message.includes(path) ? '' : `\nThe whole log: ${path}`;
      throw new BuildError(`${title}: ${message}${where}`, { cause: error });
    } finally {
      log?.close();
    }
    this.#progress.end(seconds(), step);
  }
}

function logName(title: string): string {
  return title
    .toLowerCase()
    .replace(/[^a-z0-9.]+/g, '-')
    .replace(/^-|-$/g, '');
}
