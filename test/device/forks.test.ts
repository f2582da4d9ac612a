// With two processors: what happens between two system calls of another thread.
import { expect, test } from '@jest/globals';
import { child, lastLine } from '../support/device.js';

test('a program that is started while another thread shares memory inherits none of it', async () => {
  const result = await child('forks', ['100'], { timeout: 120_000 });
  expect(lastLine(result)).toEqual({ programs: 100, inherited: 0 });
}, 180_000);
