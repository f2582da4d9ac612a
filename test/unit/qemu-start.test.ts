import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Guest } from 'node-optee/qemu';
import type { Machine } from 'node-optee/qemu';
import { shareMount, shareTarget, taMount } from '#lib/qemu/mounts';
import { qemuArguments } from '#lib/qemu/qemu';

const machine: Machine = {
  name: 'dynamic',
  qemu: '/does/not/exist/qemu-system-aarch64',
  firmware: '/cache/with,comma/fw.bios',
  kernel: '/cache/Image',
  kernelArguments: ['tee.any_dmabuf=1'],
  rootfs: '/cache/with,comma/root.ext4',
  node: '/cache/node.ext4',
  memory: 2048,
  cpus: 3,
  taDevKit: '/cache/kit',
};

let folder: string;

beforeAll(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'node-optee-mounts-')));
  mkdirSync(join(folder, 'share'));
  mkdirSync(join(folder, 'tas'));
  writeFileSync(join(folder, 'file'), '');
  writeFileSync(join(folder, 'tas/one.ta'), '');
  symlinkSync('share', join(folder, 'link'));
});

afterAll(() => rmSync(folder, { recursive: true }));

describe('the share', () => {
  test('is mounted at the path that was given, from where a link leads', () => {
    const link = join(folder, 'link');
    expect(shareTarget(link)).toBe(link);
    expect(shareMount(link)).toEqual({ tag: 'share', path: join(folder, 'share'), readOnly: false });
    expect(shareTarget(`${folder}/share/../share/`)).toBe(join(folder, 'share'));
  });

  test.each([
    '/',
    '/usr',
    '/usr/bin',
    '/usr/lib/ssl',
    '/etc',
    '/dev',
    '/dev/pts',
    '/proc/self',
    '/sys',
    '/bin',
    '/lib',
    '/opt',
    '/var',
    '/var/lib',
  ])('%s would hide the system of the guest', (share) => {
    expect(() => shareTarget(share)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
  });

  test.each(['/tmp', '/usr/local/src', '/home', '/root', '/dev/shm', '/var/lib/dpkg'])(
    '%s is fine',
    (share) => {
      expect(shareTarget(share)).toBe(share);
    },
  );

  test('has to be a folder', () => {
    expect(() => shareTarget(join(folder, 'file'))).toThrow(/^share is not a folder/);
    expect(() => shareTarget(join(folder, 'none'))).toThrow(/^share cannot be used: ENOENT/);
  });
});

describe('a folder of TAs', () => {
  test('is mounted read-only', () => {
    expect(taMount(join(folder, 'tas'), 1)).toEqual({
      tag: 'ta1',
      path: join(folder, 'tas'),
      readOnly: true,
    });
  });

  test('has a TA', () => {
    expect(() => taMount(join(folder, 'share'), 0)).toThrow(/^ta has no \*\.ta file/);
    expect(() => taMount(join(folder, 'none'), 0)).toThrow(/^ta cannot be used/);
  });
});

describe("QEMU's arguments", () => {
  const start = (more = {}) => qemuArguments({ machine, mounts: [], verbose: false, ...more });

  test('the machine', () => {
    const text = start().join(' ');
    expect(text).toContain('-smp 3 -m 2048 -bios /cache/with,comma/fw.bios -kernel /cache/Image');
    expect(text).toContain('tee.any_dmabuf=1');
    expect(text).not.toContain('-dtb');
    expect(start({ machine: { ...machine, deviceTree: '/cache/static.dtb' } })).toContain(
      '/cache/static.dtb',
    );
  });

  test('clocks that count instructions', () => {
    expect(start().join(' ')).toContain('-accel tcg,thread=multi');
    expect(start({ instructions: true }).join(' ')).toContain(
      '-accel tcg,thread=single -icount shift=0,sleep=off',
    );
  });

  test('a monitor where one was asked for', () => {
    expect(start()).not.toContain('-qmp');
    expect(start({ monitor: '/a,b/qmp' }).join(' ')).toContain('-qmp unix:/a,,b/qmp,server=on,wait=off');
  });

  test('a monitor that is no path is refused before anything is built', async () => {
    await expect(Guest.boot({ monitor: 5 as unknown as string })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARG_TYPE',
      message: expect.stringContaining('monitor must be a string'),
    });
  });

  test('commas in paths are doubled where QEMU takes them for ends', () => {
    expect(start()).toContain('if=none,id=root,format=raw,snapshot=on,file=/cache/with,,comma/root.ext4');
    const mounts = [{ tag: 'ta0', path: '/a,b', readOnly: true }];
    expect(start({ mounts })).toContain(
      'local,id=ta0,path=/a,,b,security_model=none,multidevs=remap,readonly=on',
    );
  });

  test('disks come in the order of their names in the guest', () => {
    const ids = start({ modules: '/m.ext4' }).flatMap((word) => /^if=none,id=(\w+)/.exec(word)?.[1] ?? []);
    expect(ids).toEqual(['root', 'node', 'modules']);
  });
});

describe('arguments of Guest.boot', () => {
  test.each([
    [{ user: 'Not A Name' }, /^user must be/],
    [{ user: 7 as never }, /^user must be a string/],
    [{ share: '/usr' }, /^share would hide/],
    [{ tas: ['/does/not/exist'] }, /^ta cannot be used/],
    [{ env: 7 as never }, /^env must be an object/],
  ])('%j', async (options, message) => {
    await expect(Guest.boot({ machine, ...options })).rejects.toThrow(message);
  });

  test('a QEMU that is not there is named', async () => {
    await expect(Guest.boot({ machine })).rejects.toMatchObject({
      code: 'ERR_GUEST_BOOT',
      message: expect.stringContaining('/does/not/exist/qemu-system-aarch64'),
    });
  });

  test('a firmware that is not there is named', async () => {
    const options = { machine: { ...machine, qemu: 'qemu-system-aarch64' } };
    await expect(Guest.boot(options)).rejects.toMatchObject({
      code: 'ERR_GUEST_BOOT',
      message: expect.stringContaining('/cache/with'),
    });
  });

  test('an abort before', async () => {
    await expect(Guest.boot({ machine, signal: AbortSignal.abort() })).rejects.toMatchObject({
      name: 'AbortError',
    });
  });
});
