import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, test } from '@jest/globals';
import { signalName, signalNumber } from '#lib/qemu/signals';

/** A process of its own, whose signals are not Jest's. It waits for the first signal, and ends by the second. */
const PROGRAM = `
  const { Interruption } = require(process.argv[1]);
  const interruption = new Interruption();
  const alive = setInterval(() => {}, 1000);
  interruption.signal.addEventListener('abort', () => {
    interruption.end();
    console.log(interruption.status);
  });
  console.log('ready');
`;

test.each([
  ['SIGINT', '130\n'],
  ['SIGTERM', '143\n'],
  ['SIGHUP', '129\n'],
] as const)('%s aborts, and says the status; afterwards it ends the process', async (signal, status) => {
  const child = spawn(process.execPath, ['-e', PROGRAM, require.resolve('#lib/qemu/interruption')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  child.kill(signal);
  const [said] = (await once(child.stdout, 'data')) as [Buffer];
  expect(said.toString()).toBe(status);
  child.kill(signal);
  expect(await once(child, 'exit')).toEqual([null, signal]);
});

describe('names of signals', () => {
  test.each([
    [1, 'SIGHUP'],
    [15, 'SIGTERM'],
    [34, 'SIG34'],
    [64, 'SIG64'],
  ])('%d is %s', (number, name) => {
    expect(signalName(number)).toBe(name);
    expect(signalNumber(name)).toBe(number);
  });

  test.each(['SIG0', 'SIG65', 'SIGNONE', 'TERM', ''])('%s is none', (name) => {
    expect(signalNumber(name)).toBeUndefined();
  });
});
