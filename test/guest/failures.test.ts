import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants, copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { beforeAll, describe, expect, jest, test } from '@jest/globals';
import { Guest, GuestError, prepareMachine } from 'node-optee/qemu';
import type { Machine } from 'node-optee/qemu';
import { BUILD_TIMEOUT, GUEST_TIMEOUT, newFolder, promptly } from '../support/guest.js';
import { until } from '../support/until.js';

jest.setTimeout(GUEST_TIMEOUT);

let machine: Machine;
/** How long a boot takes on this host, as busy as it is. */
let boot: number;

beforeAll(async () => {
  machine = await prepareMachine();
  const start = Date.now();
  await using _guest = await Guest.boot({ machine });
  boot = Date.now() - start;
}, BUILD_TIMEOUT);

/** Where a PTA's head has it, counted from its UUID: name, flags and four other entry points come before. */
const INVOKE_ENTRY_POINT = 64;

/** The error of a promise that has to reject, and how long that took. */
async function failure(promise: Promise<unknown>): Promise<{ error: GuestError; ms: number }> {
  const start = Date.now();
  const error = await promise.then(
    () => new Error('it did not fail'),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(GuestError);
  return { error: error as GuestError, ms: Date.now() - start };
}

test('a kernel panic ends commands at once, with its text and both logs', async () => {
  const guest = await Guest.boot({ machine });
  const other = guest.run(['sleep', '100']);
  other.catch(() => {});
  const { error, ms } = await failure(guest.run(['sh', '-c', 'echo c > /proc/sysrq-trigger; sleep 100']));
  const expected = {
    code: 'ERR_GUEST_PANIC',
    panic: { world: 'kernel', text: 'Kernel panic - not syncing: sysrq triggered crash' },
  };
  expect(error).toMatchObject(expected);
  expect(error.message).toContain('sysrq triggered crash');
  expect(error.logs?.kernel).toContain('Call trace:');
  expect(error.logs?.secure).toContain('OP-TEE version');
  expect(ms).toBeLessThan(promptly(boot));
  await expect(other).rejects.toMatchObject(expected);
  await guest.closed;
  await expect(guest.run(['true'])).rejects.toMatchObject(expected);
  await guest.close();
});

test('a panic of OP-TEE ends the boot at once', async () => {
  // Real firmware with OP-TEE's own device tree destroyed.
  const bytes = readFileSync(machine.firmware);
  const magic = Buffer.from('d00dfeed', 'hex');
  for (let at = bytes.indexOf(magic); at >= 0; at = bytes.indexOf(magic, at)) bytes.fill(0, at, at + 4);
  const firmware = join(newFolder(), 'firmware');
  writeFileSync(firmware, bytes);
  const { error, ms } = await failure(Guest.boot({ machine: { ...machine, firmware } }));
  expect(error).toMatchObject({
    code: 'ERR_GUEST_PANIC',
    message: expect.stringContaining('OP-TEE in the guest panicked: Panic '),
    panic: { world: 'optee' },
  });
  expect(error.logs?.secure).toContain('Call stack:');
  expect(ms).toBeLessThan(promptly(boot));
});

test('a panic of OP-TEE ends commands at once', async () => {
  // Real firmware again, in which the entry point of OP-TEE's own test TA is no address of an instruction.
  const bytes = readFileSync(machine.firmware);
  const head = bytes.indexOf(Buffer.from('405b6ad9e5c3e32187941002a5d5c61b', 'hex'));
  expect(head).toBeGreaterThan(0);
  bytes[head + INVOKE_ENTRY_POINT] += 2;
  const firmware = join(newFolder(), 'firmware');
  writeFileSync(firmware, bytes);
  const guest = await Guest.boot({ machine: { ...machine, firmware } });
  const other = guest.run(['sleep', '100']);
  other.catch(() => {});
  const { error, ms } = await failure(guest.run(['xtest', '-t', 'regression', '1002']));
  expect(error).toMatchObject({ code: 'ERR_GUEST_PANIC', panic: { world: 'optee' } });
  expect(error.logs?.secure).toContain('Call stack:');
  expect(ms).toBeLessThan(promptly(boot));
  await expect(other).rejects.toBe(error);
  await guest.closed;
});

test('a root file system that is none: the kernel’s panic is the reason', async () => {
  const rootfs = join(newFolder(), 'rootfs');
  writeFileSync(rootfs, Buffer.alloc(1 << 20));
  const { error } = await failure(Guest.boot({ machine: { ...machine, rootfs } }));
  expect(error).toMatchObject({ code: 'ERR_GUEST_PANIC', panic: { world: 'kernel' } });
  expect(error.message).toContain('Unable to mount root fs');
});

describe('a guest without a TEE does not come up', () => {
  test('no OP-TEE for Linux', async () => {
    const kernelArguments = ['initcall_blacklist=optee_core_init'];
    const { error } = await failure(Guest.boot({ machine: { ...machine, kernelArguments } }));
    expect(error).toMatchObject({ code: 'ERR_GUEST_BOOT' });
    expect(error.message).toContain('there is no /dev/tee0');
  });

  test('no tee-supplicant', async () => {
    const rootfs = join(newFolder(), 'rootfs');
    copyFileSync(machine.rootfs, rootfs, constants.COPYFILE_FICLONE);
    execFileSync('debugfs', ['-w', '-R', 'rm /usr/sbin/tee-supplicant', rootfs], {
      env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
      stdio: 'pipe',
    });
    const { error } = await failure(Guest.boot({ machine: { ...machine, rootfs } }));
    expect(error).toMatchObject({ code: 'ERR_GUEST_BOOT' });
    expect(error.message).toContain('tee-supplicant did not start');
    expect(error.logs?.kernel).toContain('tee-supplicant: No such file or directory');
  });
});

test('QEMU killed from outside', async () => {
  const guest = await Guest.boot({ machine });
  setTimeout(() => process.kill(guest.pid as number, 'SIGKILL'), 100);
  const { error, ms } = await failure(guest.run(['sleep', '100']));
  expect(error).toMatchObject({ code: 'ERR_GUEST_GONE', message: 'The guest ended. QEMU ended by SIGKILL' });
  expect(error.logs?.kernel).toContain('Booting Trusted Firmware');
  expect(ms).toBeLessThan(promptly(boot));
  await guest.close();
});

test('what a command as root can do to the guest, and what not', async () => {
  const guest = await Guest.boot({ machine });
  const output = async (...argv: string[]) => (await guest.run(argv)).stdout.toString();

  // It can print what Linux prints when it panics.
  await guest.run(['sh', '-c', 'echo "<0>Kernel panic - not syncing: said a program" > /dev/kmsg']);
  await until(() => guest.logs.kernel.includes('not syncing: said a program'));
  const survives = guest.run(['sleep', '4']);
  // An oops is a panic, and a panic ends QEMU.
  expect(await output('cat', '/proc/sys/kernel/panic_on_oops', '/proc/sys/kernel/panic')).toBe('1\n-1\n');

  // The agent cannot be killed.
  await guest.run(['sh', '-c', 'kill -9 1; kill -TERM 1; kill -SEGV 1']);
  expect(await output('echo', 'alive')).toBe('alive\n');

  // Orphans are reaped: a zombie has its name still.
  await guest.run(['sh', '-c', 'for i in 1 2 3 4 5; do (cat /dev/null &) ; done']);
  const orphans = () => output('sh', '-c', "grep -l '^Name:.cat$' /proc/[0-9]*/status | wc -l");
  await until(async () => (await orphans()) === '0\n');
  expect(await orphans()).toBe('0\n');

  expect((await survives).status).toBe(0);

  // It can switch the guest off, but that is not how a command ends.
  const { error } = await failure(guest.run(['poweroff', '-f']));
  expect(error).toMatchObject({
    code: 'ERR_GUEST_GONE',
    message: expect.stringContaining('QEMU ended with status 0'),
  });
  await guest.close();
});

describe('abort', () => {
  test('during the boot', async () => {
    const controller = new AbortController();
    const verbose = new Writable({ write: () => controller.abort() });
    await expect(Guest.boot({ machine, verbose, signal: controller.signal })).rejects.toMatchObject({
      name: 'AbortError',
    });
  });

  test('of a running guest', async () => {
    const controller = new AbortController();
    const guest = await Guest.boot({ machine, signal: controller.signal });
    const pending = guest.run(['sleep', '100']);
    controller.abort();
    await expect(pending).rejects.toMatchObject({ name: 'AbortError' });
    await guest.closed;
    await guest.close();
  });
});

test('what cannot be set up is said', async () => {
  const share = newFolder();
  writeFileSync(join(share, 'node_modules'), 'a file');
  const { error } = await failure(Guest.boot({ machine, share, nodeModules: machine.node }));
  expect(error).toMatchObject({ code: 'ERR_GUEST_SETUP' });
  expect(error.message).toContain(`${share}/node_modules is not a folder`);
  await expect(Guest.boot({ machine, nodeModules: machine.node })).rejects.toThrow(
    /^nodeModules needs a share/,
  );
});

test('an image takes the place of node_modules', async () => {
  const share = newFolder();
  const guest = await Guest.boot({ machine, share, nodeModules: machine.node });
  expect((await guest.run(['ls', 'node_modules'])).stdout.toString()).toContain('bin\n');
  await guest.close();
  // Where it was mounted there was nothing before.
  expect(existsSync(join(share, 'node_modules'))).toBe(false);
  mkdirSync(join(share, 'node_modules'));
  const other = await Guest.boot({ machine, share, nodeModules: machine.node });
  await other.close();
  expect(existsSync(join(share, 'node_modules'))).toBe(true);
});

test('a guest that nobody closes does not keep node --test; a command that runs does', async () => {
  const file = join(newFolder(), 'forgets.test.cjs');
  const qemu = JSON.stringify(require.resolve('node-optee/qemu'));
  writeFileSync(
    file,
    `const { test } = require('node:test');
    const { Guest } = require(${qemu});
    test('boots, and forgets', async () => {
      const guest = await Guest.boot();
      console.log('pid', guest.pid);
      await guest.run(['true']);
    });
    test('waits for a command that nothing else waits for', () =>
      Guest.boot().then((guest) => guest.run(['sleep', '1'])).then(() => console.log('slept')));`,
  );
  const child = spawn(process.execPath, ['--test', '--test-reporter=tap', file], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [output, [status]] = await Promise.all([text(child.stdout), once(child, 'exit')]);
  expect({ output, status }).toMatchObject({ output: expect.stringMatching(/^# pass 2$/m), status: 0 });
  expect(output).toContain('slept');
  const pid = Number(/pid (\d+)/.exec(output)?.[1]);
  const isThere = () =>
    existsSync(`/proc/${pid}/exe`) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('qemu');
  await until(() => !isThere());
});

test('verbose: both logs, line by line', async () => {
  let seen = '';
  const verbose = new Writable({
    write(chunk: Buffer, _encoding, done) {
      seen += chunk.toString();
      done();
    },
  });
  const guest = await Guest.boot({ machine, verbose });
  await guest.close();
  expect(seen).toMatch(/^\[kernel\] \[ +0\.000000\] Booting Linux on physical CPU/m);
  expect(seen).toMatch(/^\[secure\] I\/TC: OP-TEE version/m);
});
