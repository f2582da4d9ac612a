import { expect, test } from '@jest/globals';
import { runCoreProgram } from '../support/core-program.js';

// `slow`: also waits for idle threads and memory to go, which takes their 5 seconds.
test('the core: order, closing, cancelling, temporary memory, threads; addresses and undefined behaviour', async () => {
  expect(await runCoreProgram('address,undefined', ['slow'])).toEqual({ stdout: 'ok\n', stderr: '' });
}, 300_000);
