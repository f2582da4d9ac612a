/** How `node-optee token` asks for a PIN on a terminal. */
import { PassThrough } from 'node:stream';
import { expect, jest, test } from '@jest/globals';
import { prompt } from '#lib/commands/token';

test('asks more than once, and takes characters back', async () => {
  const terminal = Object.assign(new PassThrough(), { setRawMode: jest.fn() });
  jest.spyOn(process, 'stdin', 'get').mockReturnValue(terminal as unknown as typeof process.stdin);
  jest.spyOn(process.stderr, 'write').mockReturnValue(true);
  for (const [typed, pin] of [
    ['user-1234\r', 'user-1234'],
    ['use\x7f\x7f\x7f\x7fger\u00e4\x7f\u00e4t\n', 'ger\u00e4t'],
    ['one more\x04', 'one more'],
  ] as const) {
    const asked = prompt('PIN: ');
    terminal.write(typed);
    expect(await asked).toBe(pin);
  }
  const asked = prompt('PIN: ');
  terminal.write('\x03');
  await expect(asked).rejects.toThrow('interrupted');
  expect(terminal.setRawMode.mock.calls.map(([raw]) => raw)).toEqual(Array(4).fill([true, false]).flat());
});
