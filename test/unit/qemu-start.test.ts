import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Guest } from 'node-optee/qemu';
import type { BootOptions, Machine } from 'node-optee/qemu';
import { shareMount, shareTarget, taMounts } from '#lib/qemu/mounts';
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

describe('folders of TAs', () => {
  const tas = (...names: string[]) => taMounts(names.map((name) => join(folder, name)));

  test('are mounted read-only', () => {
    expect(tas('tas')).toEqual({
      mounts: [{ tag: 'ta0', path: join(folder, 'tas'), readOnly: true }],
      links: [{ name: 'one.ta', mount: 0, file: 'one.ta' }],
    });
  });

  test('have TAs', () => {
    expect(() => tas('tas', 'share')).toThrow(/^tas\[1\] has no \*\.ta file/);
    expect(() => tas('none')).toThrow(/^tas\[0\] cannot be used/);
  });

  test('a link out of the folder is followed', () => {
    mkdirSync(join(folder, 'links'));
    symlinkSync('../tas/one.ta', join(folder, 'links/two.ta'));
    expect(tas('links')).toEqual({
      mounts: [{ tag: 'ta0', path: join(folder, 'tas'), readOnly: true }],
      links: [{ name: 'two.ta', mount: 0, file: 'one.ta' }],
    });
    symlinkSync('../tas/none.ta', join(folder, 'links/three.ta'));
    expect(() => tas('links')).toThrow(/^tas\[0\] has a three\.ta that leads to nothing: ENOENT/);
  });

  test('the same file twice is one TA, two of one name are told', () => {
    mkdirSync(join(folder, 'same'));
    symlinkSync('../tas/one.ta', join(folder, 'same/one.ta'));
    expect(tas('tas', 'same').links).toHaveLength(1);
    mkdirSync(join(folder, 'other'));
    writeFileSync(join(folder, 'other/one.ta'), '');
    expect(() => tas('tas', 'other')).toThrow(
      expect.objectContaining({
        code: 'ERR_INVALID_ARG_VALUE',
        message: expect.stringContaining(`tas[1] has a one.ta that is not the one of ${folder}/tas`),
      }),
    );
  });

  test('more than a guest has room for are refused', () => {
    const many = Array.from({ length: 27 }, (_, i) => `many${i}`);
    for (const name of many) {
      mkdirSync(join(folder, name));
      writeFileSync(join(folder, name, `${name}.ta`), '');
    }
    expect(tas(...many.slice(0, 25)).mounts).toHaveLength(25);
    expect(() => tas(...many)).toThrow(/^tas are 27 folders: a guest has room for 25/);
  });
});

describe("QEMU's arguments", () => {
  const start = (more = {}) =>
    qemuArguments({ machine, name: '/a share, with', mounts: [], verbose: false, ...more });

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

  test('each virtio device has a place of its own, of 32, with all that a guest can have', () => {
    const tag = (name: string) => ({ tag: name, path: `/${name}`, readOnly: true });
    const mounts = ['share', 'storage', ...Array.from({ length: 25 }, (_, i) => `ta${i}`)].map(tag);
    const words = start({ mounts, modules: '/modules.ext4' });
    const devices = words.filter((word) => word.includes('bus=virtio-mmio-bus.'));
    const places = devices.map((word) => Number(/virtio-mmio-bus\.(\d+)/.exec(word)?.[1]));
    expect(places).toEqual(Array.from({ length: 32 }, (_, i) => i));
    expect(devices.slice(0, 3)).toEqual(
      ['root', 'node', 'modules'].map(
        (disk, i) => `virtio-blk-device,bus=virtio-mmio-bus.${i},drive=${disk}`,
      ),
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

  test("gdb's server where one was asked for, for this host only", () => {
    expect(start()).not.toContain('-gdb');
    expect(start({ gdb: { port: 0, wait: false } }).join(' ')).toContain('-gdb tcp:127.0.0.1:0 -no-reboot');
    expect(start({ gdb: { port: 7, wait: true } }).join(' ')).toContain('-gdb tcp:127.0.0.1:7 -S');
  });

  test('commas in paths are doubled where QEMU takes them for ends', () => {
    expect(start()).toContain('guest=/a share,, with');
    expect(start()).toContain('if=none,id=root,format=raw,snapshot=on,file=/cache/with,,comma/root.ext4');
    const mounts = [{ tag: 'ta0', path: '/a,b', readOnly: true }];
    expect(start({ mounts })).toContain(
      'local,id=ta0,path=/a,,b,security_model=none,multidevs=remap,readonly=on',
    );
  });

  test('QEMU is in a sandbox', () => {
    expect(start().join(' ')).toContain(
      '-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny',
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
    [{ tas: ['/does/not/exist'] }, /^tas\[0\] cannot be used/],
    [{ env: 7 as never }, /^env must be an object/],
    [{ env: { A: 1 as never } }, /^env.A must be a string/],
    [{ ta: ['/tmp'] } as never, /^options has no ta; there are machine, /],
    [{ tas: 'x' as never }, /^tas must be an array of folders/],
    [{ tas: [5 as never] }, /^tas\[0\] must be a string/],
    [{ nodeModules: true as never }, /^nodeModules must be a string/],
    [{ storage: 1 as never }, /^storage must be a string/],
    [{ nodeModules: '/m.ext4' }, /^nodeModules needs a share/],
    [{ share: new URL('file:///tmp') as never }, /^share must be a string/],
    [{ verbose: true as never }, /^verbose must be a Writable/],
    [{ instructions: 1 as never }, /^instructions must be a boolean/],
    [{ signal: {} as never }, /^signal must be an AbortSignal/],
    [{ gdb: true as never }, /^gdb must be an object/],
    [{ gdb: null as never }, /^gdb must be an object/],
    [{ gdb: { port: 65536 } }, /^gdb.port must be a whole number from 0 to 65535/],
    [{ gdb: { port: '1' as never } }, /^gdb.port must be a number/],
    [{ gdb: { wait: 1 as never } }, /^gdb.wait must be a boolean/],
    [{ gdb: { onListening: 1 as never } }, /^gdb.onListening must be a function/],
    [{ gdb: { file: 'x' } as never }, /^gdb has no file; there are port, wait, onListening/],
    [{ progress: {} as never }, /^progress must be a Progress/],
    [{ machine: {} as never }, /^machine.name must be a string/],
    [{ machine: 'other' }, /^machine must be one of dynamic, static, dmabuf/],
    [{ machine: 'dynamic', cpus: 9 }, /^cpus must be a whole number from 1 to 4/],
  ])('%p', async (options, message) => {
    await expect(Guest.boot({ machine, ...(options as BootOptions) })).rejects.toMatchObject({
      message: expect.stringMatching(message),
      code: expect.stringMatching(/^ERR_(INVALID_ARG_(TYPE|VALUE)|OUT_OF_RANGE)$/),
    });
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
