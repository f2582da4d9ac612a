import { expect, test } from '@jest/globals';
import { runCoreProgram } from '../support/core-program.js';

test('the core: races of its threads', async () => {
  expect(await runCoreProgram('thread')).toEqual({ stdout: 'ok\n', stderr: '' });
}, 300_000);
