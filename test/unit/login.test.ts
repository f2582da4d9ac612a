import { endianness } from 'node:os';
import { expect, test } from '@jest/globals';
import { Login } from 'node-optee';

test('a login is the method and the group id in the byte order of the machine', () => {
  const group = Login.group(0x3e8) as unknown as { method: number; client: Uint8Array };
  expect(group.method).toBe(2);
  const bytes = endianness() === 'LE' ? [0xe8, 3, 0, 0] : [0, 0, 3, 0xe8];
  expect([...group.client]).toEqual([...bytes, ...new Array<number>(12).fill(0)]);
  expect(
    [Login.public, Login.user, Login.application].map(
      (login) => (login as unknown as { method: number }).method,
    ),
  ).toEqual([0, 1, 4]);
  expect(String(Login.group(5))).toBe('Login.group(5)');
});

test('a group id is u32', () => {
  expect(() => Login.group(-1)).toThrow('gid must be a whole number from 0 to 4294967295, not -1');
  expect(() => Login.group('users' as never)).toThrow(
    expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }),
  );
});
