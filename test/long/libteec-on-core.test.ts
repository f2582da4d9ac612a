/**
 * OP-TEE's own suite, unmodified, over libteec and over the addon's core: the results are the same. It compares what the
 * core does with what every other client gets.
 */
import { beforeAll, expect, jest, test } from '@jest/globals';
import { Guest, prepareMachine } from 'node-optee/qemu';
import type { Machine } from 'node-optee/qemu';
import { BUILD_TIMEOUT, newFolder } from '../support/guest.js';
import { buildTeec } from '../support/teec.js';

jest.setTimeout(BUILD_TIMEOUT);

let machine: Machine;
let library: string;
beforeAll(async () => {
  machine = await prepareMachine();
  library = newFolder();
  await buildTeec(library);
}, BUILD_TIMEOUT);

interface Results {
  /** A line for each case: its name, and how it ended. */
  readonly cases: string[];
  readonly totals: string[];
}

async function xtest(env: Record<string, string>, ...args: string[]): Promise<Results> {
  const guest = await Guest.boot({ machine, share: library, env });
  try {
    const { stdout: loaded } = await guest.run(['/lib/ld-linux-aarch64.so.1', '--list', '/usr/bin/xtest']);
    expect(loaded.toString().includes(`${library}/libteec.so.2`)).toBe('LD_LIBRARY_PATH' in env);
    const { stdout } = await guest.run(['xtest', ...args]);
    // Times are not the same.
    const summary = stdout.toString().split(/^Result of testsuite .*$/m)[1] ?? '';
    return {
      cases: summary.match(/^\w+_\d+.* (OK|FAILED)$/gm) ?? [],
      totals: summary.match(/^\d+ (subtests?|test cases?) .*$/gm) ?? [],
    };
  } finally {
    await guest.close();
  }
}

/**
 * Of all checks, or of the cases alone where the number of checks is by chance.
 * @param least how many cases there are at least
 */
async function compare(
  suite: string,
  {
    patterns = [],
    checks = true,
    least = 11,
    env = {},
  }: {
    patterns?: string[];
    checks?: boolean;
    least?: number;
    env?: Record<string, string>;
  } = {},
): Promise<void> {
  const args = ['-t', suite, ...patterns];
  const [libteec, core] = await Promise.all([
    xtest({}, ...args),
    xtest({ LD_LIBRARY_PATH: library, ...env }, ...args),
  ]);
  process.stdout.write(`[xtest ${suite}] ${core.totals.join(', ')}\n`);
  expect(core.cases).toEqual(libteec.cases);
  if (checks) expect(core.totals).toEqual(libteec.totals);
  expect(core.cases.length).toBeGreaterThanOrEqual(least);
  expect(core.cases.filter((line) => !line.endsWith(' OK'))).toEqual([]);
}

/** 2003 sends until nothing more fits, and 2004 looks closer at an answer that has arrived already. */
const BY_CHANCE = ['_2003', '_2004'];

test('pkcs11, with calls that block', () => compare('pkcs11', { env: { TEEC_BLOCKING: '1' } }));
test('regression', () => compare('regression', { patterns: BY_CHANCE.flatMap((name) => ['-x', name]) }));
test('regression: sockets, whose checks depend on time', () =>
  compare('regression', { patterns: BY_CHANCE, checks: false, least: BY_CHANCE.length }));
