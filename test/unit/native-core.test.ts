import { expect, test } from '@jest/globals';
import { runCoreProgram } from '../support/core-program.js';

// `slow`: also waits for idle threads and memory to go, which takes their 5 seconds.
test('the core: order, closing, cancelling, temporary memory, threads; addresses and undefined behaviour', async () => {
  const { stdout, stderr } = await runCoreProgram('address,undefined', ['slow']);
  // A group with a limit of its own needs root and a hierarchy that is writable.
  expect(stdout).toMatch(/^(no cgroup could be made\n)?ok\n$/);
  expect(stderr).toBe('');
}, 300_000);
