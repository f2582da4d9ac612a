import { expect, test } from '@jest/globals';
import { runCoreProgram } from '../support/core-program.js';

test('the core: races of its threads', async () => {
  const { stdout, stderr } = await runCoreProgram('thread', ['100']);
  expect(stdout).toMatch(/^(no cgroup could be made\n)?ok\n$/);
  expect(stderr).toBe('');
}, 1_200_000);
