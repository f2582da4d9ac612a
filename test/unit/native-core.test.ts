import { expect, test } from '@jest/globals';
import { runCoreProgram } from '../support/core-program.js';

// A group with a limit of its own needs root and a hierarchy that is writable.
const OK = /^(no cgroup could be made\n)?ok\n$/;

// `slow`: also waits for idle threads and memory to go, which takes their 5 seconds.
test('the core: order, closing, cancelling, temporary memory, threads; addresses and undefined behaviour', async () => {
  const { stdout, stderr, lines, notRun } = await runCoreProgram('address,undefined', ['30', 'slow']);
  expect(stdout).toMatch(OK);
  expect(stderr).toBe('');
  // All of the core but the ioctls themselves, in whose place the test stands. (The end of a context is a job of which
  // nothing but its answer is needed.)
  expect(lines).toBeGreaterThan(900);
  expect(notRun).toEqual(['completions.h: void run() override {}']);
}, 300_000);

test('the core: races of its threads', async () => {
  const { stdout, stderr } = await runCoreProgram('thread', ['3']);
  expect(stdout).toMatch(OK);
  expect(stderr).toBe('');
}, 300_000);
