// The short form of `npm run test:abuse`: each program in a process of its own, which may die.
import { expect, test } from '@jest/globals';
import { child, kernelWarnings, lastLine } from '../support/device.js';

/** Always the same ones here; the long form has others each time. */
const SEED = process.env['NODE_OPTEE_SEED'] ?? '1';

test.each([
  ['values of every wrong kind, for the functions of the addon', 'native', 3000],
  ['values of every wrong kind, for all that the package exports', 'public', 1200],
  ['a TA that means no good', 'hostile', 700],
  ['a PKCS#11 TA that means no good', 'pkcs11', 100],
  ['random programs, with worker threads that are terminated', 'races', 12],
])(
  '%s',
  async (_, name, cases) => {
    const before = await kernelWarnings();
    const result = await child(`abuse-${name}`, ['--seed', SEED, '--cases', String(cases)], {
      timeout: 280_000,
    });
    expect({ ...result, stdout: '' }).toEqual({ status: 0, signal: null, stdout: '', stderr: '' });
    const { cases: done } = lastLine(result) as { cases: number };
    expect(done).toBeGreaterThanOrEqual(cases);
    expect(await kernelWarnings()).toEqual(before);
  },
  300_000,
);
