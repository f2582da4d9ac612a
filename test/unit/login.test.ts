import { endianness } from 'node:os';
import { describe, expect, test } from '@jest/globals';
import { Login } from 'node-optee';

/** What the kernel is given of a login. */
const sent = (login: Login) =>
  (Login as unknown as { read(login: Login, name: string): { method: number; client: Uint8Array } }).read(
    login,
    'login',
  );

test.each([
  [Login.public, 0, 'public'],
  [Login.user, 1, 'user'],
  [Login.application, 4, 'application'],
  [Login.userApplication, 5, 'userApplication'],
])('%s: a method, and no id', (login, method, name) => {
  expect(sent(login).method).toBe(method);
  expect([...sent(login).client]).toEqual(new Array<number>(16).fill(0));
  expect(login.name).toBe(name);
  expect(String(login)).toBe(`Login.${name}`);
});

describe.each([
  ['group', 2, (gid: number) => Login.group(gid)],
  ['groupApplication', 6, (gid: number) => Login.groupApplication(gid)],
])('%s', (name, method, make) => {
  test('has the group id in the byte order of the machine', () => {
    const login = make(0x3e8);
    expect(sent(login).method).toBe(method);
    const bytes = endianness() === 'LE' ? [0xe8, 3, 0, 0] : [0, 0, 3, 0xe8];
    expect([...sent(login).client]).toEqual([...bytes, ...new Array<number>(12).fill(0)]);
    expect(String(login)).toBe(`Login.${name}(1000)`);
  });

  test('takes a u32', () => {
    expect([...sent(make(0xffffffff)).client.subarray(0, 4)]).toEqual([255, 255, 255, 255]);
    expect(() => make(-1)).toThrow('gid must be a whole number from 0 to 4294967295, not -1');
    expect(() => make('users' as never)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }));
  });
});
