import { expect, test } from '@jest/globals';
import { runCoreProgram } from '../support/core-program.js';

test('the core: races of its threads, in many orders, with each of its lines', async () => {
  const { stdout, stderr, notRun } = await runCoreProgram('thread', ['100', 'slow']);
  expect(stdout).toMatch(/^(no cgroup could be made\n)?ok\n$/);
  expect(stderr).toBe('');
  expect(notRun).toEqual(['completions.h: void run() override {}']);
}, 1_200_000);
