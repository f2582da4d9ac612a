/**
 * The device tests as one file, which is how `npm test` runs them: Jest loads itself and the package anew for each file,
 * and in an emulated guest that takes seconds. NODE_OPTEE_SUITES names those of test/device, with spaces between them.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { census, expectNothingLeft, type Census } from '../support/device.js';

const suites = (process.env['NODE_OPTEE_SUITES'] ?? '').split(' ').filter((name) => name !== '');

test('suites are named', () => expect(suites).not.toEqual([]));

test('the guest has the Node.js that it was asked to have', () => {
  expect(process.versions.node.split('.')[0]).toBe(process.env['NODE_OPTEE_NODE']);
});

// Most suites count for themselves; what one of the others left would belong to what the next one begins with.
let before: Census;
beforeAll(() => void (before = census()));
afterAll(() => expectNothingLeft(before));

for (const name of suites) {
  // eslint-disable-next-line @typescript-eslint/no-require-imports
  describe(name, () => void require(`../device/${name}.test.js`));
}
