// --gdb: gdb stops in a function of a TA, and of Linux.
import { execFile } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { expect, jest, test } from '@jest/globals';
import { Guest } from 'node-optee/qemu';
import type { GdbServer } from 'node-optee/qemu';
import { CLI, GUEST_TIMEOUT, newFolder, startQemu } from '../support/guest.js';
import { NODE_OPTEE_TEST_TA_UUID as UUID, TEST_TA_COUNT } from '../support/test-ta.js';
import { until } from '../support/until.js';

jest.setTimeout(3 * GUEST_TIMEOUT);

const ROOT = dirname(dirname(CLI));
const TAS = join(ROOT, 'build/ta');

const run = promisify(execFile);

/** gdb with the guest's commands, then these; returns all that it said. It is ended where it waits for ever. */
async function gdb(commands: string, ...more: string[]): Promise<string> {
  const file = join(newFolder(), 'test.gdb');
  writeFileSync(file, [...more, ''].join('\n'));
  const words = ['-nx', '-batch', '-x', commands, '-x', file];
  const { stdout, stderr } = await run('gdb-multiarch', words, { timeout: GUEST_TIMEOUT });
  return `${stdout}${stderr}`;
}

test('--gdb-wait: gdb stops in Linux, then in a function of the TA, and prints its argument', async () => {
  const client = ['node', 'dist/cli.js', 'invoke', UUID, String(TEST_TA_COUNT), 'value-inout:4711,5'];
  const { child, ended } = startQemu(ROOT, ['--gdb', '0', '--gdb-wait', '--ta', TAS, ...client]);
  let stderr = '';
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  await until(() => /gdb-multiarch -x .*\n/.test(stderr));
  const [, port, commands] =
    /gdb's server listens at 127\.0\.0\.1:(\d+), and the guest waits for it: gdb-multiarch -x (.*)\n/.exec(
      stderr,
    ) ?? [];
  expect(Number(port)).toBeGreaterThan(0);
  const said = await gdb(
    commands,
    'break start_kernel',
    'break test_ta_count',
    'continue',
    'continue',
    'backtrace',
    'print *count',
    'print *last',
    'delete',
    'detach',
  );
  expect(said).toMatch(/Breakpoint 3, 0x[0-9a-f]+ in start_kernel \(\)/);
  expect(said).toMatch(/Breakpoint 4, test_ta_count \(.*\) at values\.c:\d+/);
  expect(said).toMatch(/#\d .*\bTA_InvokeCommandEntryPoint \(.*\) at entry\.c:\d+/);
  expect(said).toMatch(/^\$1 = 4711\n\$2 = 5$/m);
  const { status, stdout } = await ended;
  expect([status, stdout.toString()]).toEqual([0, 'params[0]: a 1 (0x1), b 0 (0x0)\n']);
  expect(existsSync(commands)).toBe(false);
});

test('a gdb that comes later, and instances of a TA that lie elsewhere', async () => {
  const told: GdbServer[] = [];
  await using guest = await Guest.boot({
    share: ROOT,
    tas: [TAS],
    gdb: { port: 0, onListening: (server) => told.push(server) },
  });
  expect(told).toEqual([guest.gdb]);
  const { commands, port, host } = guest.gdb as GdbServer;
  expect(host).toBe('127.0.0.1');
  // Two instances, each entered in its turn, long before gdb comes.
  const client = guest.spawn([
    'node',
    '-e',
    `const { TeeContext, value } = require('./dist/index.js');
     const tee = TeeContext.open();
     const sessions = ['${UUID}', '${UUID}'].map((uuid) => tee.openSessionSync(uuid));
     let number = 0;
     setInterval(() => {
       number++;
       console.log(sessions[number % 2].invokeSync(${TEST_TA_COUNT}, [value.inout(number)])[0].a);
     }, 100)`,
  ]);
  let output = '';
  client.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  client.exit.catch(() => {});
  await until(() => output.includes('\n'));
  const stops = [1, 2, 3, 4].flatMap(() => ['continue', 'print *count']);
  const said = await gdb(commands, 'break values.c:test_ta_count', ...stops, 'delete', 'detach');
  const numbers = [...said.matchAll(/^\$\d+ = (\d+)$/gm)].map(([, number]) => Number(number));
  const [first = 0] = numbers;
  expect(numbers).toEqual([first, first + 1, first + 2, first + 3]);
  // It goes on.
  const { length } = output;
  await until(() => output.length > length);
  // The port is taken.
  const error = await Guest.boot({ gdb: { port } }).catch((reason: unknown) => reason);
  expect(error).toMatchObject({
    code: 'ERR_GUEST_BOOT',
    message: expect.stringContaining('Address already in use'),
  });
});

test('a port that somebody else has is told', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await until(() => server.listening);
  const { port } = server.address() as AddressInfo;
  const { status, stderr } = await startQemu(newFolder(), ['--gdb', String(port), 'true']).ended;
  server.close();
  expect(stderr).toContain('Address already in use');
  expect(status).toBe(125);
});
