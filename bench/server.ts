import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';

/** The C side of the benchmark, see `c/bench.c`: one request at a time, then it waits. */
export class CServer {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: Interface;
  readonly #ended: Promise<never>;

  constructor(program: string) {
    this.#child = spawn(program, [], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface({ input: this.#child.stdout });
    this.#ended = once(this.#child, 'exit').then(([status]) => {
      throw new Error(`the C side ended with ${String(status)}`);
    });
    // Only a request that is under way needs to know.
    this.#ended.catch(() => {});
    // The end of the other side is told by its exit.
    this.#child.stdin.on('error', () => {});
  }

  async #ask(request: string): Promise<Record<string, unknown>> {
    const answer = Promise.race([once(this.#lines, 'line') as Promise<[string]>, this.#ended]);
    this.#child.stdin.write(`${request}\n`);
    const [line] = await answer;
    const parsed = JSON.parse(line) as Record<string, unknown>;
    if (typeof parsed['error'] === 'string') throw new Error(`C side, '${request}': ${parsed['error']}`);
    return parsed;
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  async cases(): Promise<string[]> {
    return (await this.#ask('list'))['cases'] as string[];
  }

  /** So many times so many calls, on each of so many threads: the nanoseconds of one of all of them, each time. */
  async measure(
    name: string,
    client: string,
    threads: number,
    times: number,
    calls: number,
  ): Promise<number[]> {
    return (await this.#ask(`${name} ${client} ${threads} ${times} ${calls}`))['ns'] as number[];
  }

  async close(): Promise<void> {
    this.#child.stdin.end();
    await this.#ended.catch(() => {});
  }
}
