/** What the programs of `npm run test:abuse` share: their options, and how they say what they did. */
import { parseArgs } from 'node:util';
import fc from 'fast-check';
import type { Session } from 'node-optee';
import { value } from 'node-optee';
import * as TA from './test-ta.js';

const { values } = parseArgs({
  options: {
    cases: { type: 'string', default: '500' },
    minutes: { type: 'string', default: '0' },
    seed: { type: 'string', default: '1' },
    trace: { type: 'boolean', default: false },
  },
});

export const options = {
  /** At least so many cases, … */
  cases: Number(values.cases),
  /** … and at least so long. */
  milliseconds: Number(values.minutes) * 60_000,
  seed: Number(values.seed),
};

/** Says what comes next, before a case that the process may not survive: with `--trace` only. */
export function trace(text: () => string): void {
  if (values.trace) process.stderr.write(`${text()}\n`);
}

/**
 * Runs a program: it prints what it did as JSON, and fails with the seed that does the same again.
 * @param work resolves with counts of what was done
 */
export async function runAbuse(work: () => Promise<Record<string, unknown>>): Promise<void> {
  const unhandled: unknown[] = [];
  process.on('unhandledRejection', (error) => unhandled.push(error));
  try {
    const done = await work();
    await new Promise(setImmediate);
    if (unhandled.length > 0) throw new Error('A rejection was not handled', { cause: unhandled[0] });
    console.log(JSON.stringify({ seed: options.seed, ...done }));
  } catch (error) {
    console.error(error);
    console.error(`To see it again: --seed ${options.seed} --cases ${options.cases} (and --trace)`);
    process.exitCode = 1;
  }
}

/**
 * Runs a property until there were enough cases, or for the time that was asked.
 * @returns the number of cases
 */
export async function checkProperty<T>(
  arbitrary: fc.Arbitrary<T>,
  check: (value: T) => Promise<void>,
): Promise<number> {
  const { cases: least, milliseconds } = options;
  if (!(least >= 0 && milliseconds >= 0)) throw new Error('--cases and --minutes must be numbers');
  const end = Date.now() + milliseconds;
  let cases = 0;
  for (let round = 0; cases < least || Date.now() < end; round++) {
    const left = least - cases;
    const numRuns = left > 0 ? Math.min(left, 1000) : 10;
    await fc.assert(
      fc.asyncProperty(arbitrary, async (value) => {
        cases++;
        trace(() => `${cases}: ${fc.stringify(value)}`);
        await check(value);
      }),
      { numRuns, seed: options.seed + round, endOnFailure: false },
    );
  }
  return cases;
}

/** What a case does, with a name and the values that it has by chance. */
export interface Step {
  (): Promise<void>;
  [fc.toStringMethod](): string;
}
export function step<T>(
  name: string,
  arbitrary: fc.Arbitrary<T>,
  run: (value: T) => Promise<void>,
): fc.Arbitrary<Step> {
  return arbitrary.map((value) =>
    Object.assign(() => run(value), { [fc.toStringMethod]: () => `${name} ${fc.stringify(value)}` }),
  );
}

/** A session that knows its numbers: nobody else's come back. */
export class Echo {
  readonly #session: Session;
  #last = 0;
  readonly #waiting: Promise<void>[] = [];

  constructor(session: Session) {
    this.#session = session;
  }

  #expect(found: { a: number; b: number }, number: number): void {
    if (found.a !== number + 1 || found.b !== number + 3) {
      throw new Error(`${number} came back as ${JSON.stringify(found)}`);
    }
  }

  /** Asks now. */
  check(): void {
    const number = ++this.#last;
    const [found] = this.#session.invokeSync(TA.TEST_TA_VALUES, [value.inout(number, number + 1)]);
    this.#expect(found, number);
  }

  /** Asks, and reads the answer when {@link settled} is called. */
  ask(): void {
    const number = ++this.#last;
    this.#waiting.push(
      this.#session
        .invoke(TA.TEST_TA_VALUES, [value.inout(number, number + 1)])
        .then(([found]) => this.#expect(found, number)),
    );
  }

  async settled(): Promise<void> {
    await Promise.all(this.#waiting.splice(0));
  }
}

/** Resolves as a promise does; rejects if that takes far too long, as for one that is never settled. */
export async function within<T>(promise: Promise<T>, what: () => string, milliseconds = 120_000): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const never = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`This was never settled: ${what()}`)), milliseconds);
  });
  try {
    return await Promise.race([promise, never]);
  } finally {
    clearTimeout(timer);
  }
}

/** Is it an error that says by its code what was wrong? */
export function hasCode(error: unknown): error is Error & { code: string } {
  if (!(error instanceof Error)) return false;
  const { code } = error as { code?: unknown };
  return typeof code === 'string' && /^(ERR_|E[A-Z0-9]|TEE_|TEST_TA_|CKR_|ABORT_ERR)/.test(code);
}
