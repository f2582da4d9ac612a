import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import { checkDevicePath, devicePaths, noDevice, openError, versionOf } from '#lib/client/devices';
import { namesIn, callHint, memoryHint, openHint, resultHint, type ResultFacts } from '#lib/client/hints';
import { TEE_RESULTS } from '#lib/client/results';

const folder = mkdtempSync(join(tmpdir(), 'node-optee-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('devices', () => {
  test('are sorted by number, and teepriv is never one', () => {
    for (const name of ['tee10', 'tee2', 'tee0', 'teepriv0', 'tee', 'tee1x', 'xtee1']) {
      writeFileSync(join(folder, name), '');
    }
    expect(devicePaths(folder)).toEqual(['tee0', 'tee2', 'tee10'].map((name) => join(folder, name)));
    expect(devicePaths(join(folder, 'none'))).toEqual([]);
  });

  test("the supplicant's device is refused under any name, before it is opened", () => {
    symlinkSync(join(folder, 'teepriv0'), join(folder, 'alias'));
    for (const name of ['teepriv0', 'alias']) {
      expect(() => checkDevicePath(join(folder, name), 'path')).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }),
      );
    }
    expect(checkDevicePath('/dev/tee5', 'path')).toBe('/dev/tee5');
    expect(() => checkDevicePath(5, 'path')).toThrow('path must be a string, not number 5');
    expect(() => checkDevicePath('a\0b', 'path')).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }),
    );
  });

  test('capabilities', () => {
    const data = {
      context: 1 as never,
      implementationId: 1,
      implementationCapabilities: 1,
      generalCapabilities: 0xd,
    };
    expect(versionOf('/dev/tee0', data)).toEqual({
      implementation: 'optee',
      capabilities: {
        globalPlatform: true,
        privileged: false,
        registeredMemory: true,
        nullMemref: true,
        objects: false,
      },
      path: '/dev/tee0',
    });
    expect(versionOf('/dev/tee0', { ...data, implementationId: 99 }).implementation).toBe('unknown');
  });

  describe('why none can be used', () => {
    const tstee = versionOf('/dev/tee1', {
      context: 1 as never,
      implementationId: 3,
      implementationCapabilities: 0,
      generalCapabilities: 0,
    });
    const refused = (path: string, errno: number) =>
      openError(path, { operation: 'open', syscall: 'open', errno });

    test('there is none', () => {
      expect(noDevice([])).toMatchObject({
        name: 'TeeSystemError',
        code: 'ENOENT',
        path: '/dev/tee0',
        message: expect.stringContaining('CONFIG_OPTEE'),
      });
    });

    test('none speaks GlobalPlatform', () => {
      expect(noDevice([tstee])).toMatchObject({
        code: 'ERR_TEE_NOT_SUPPORTED',
        message: 'No TEE device can be used: /dev/tee1 (tstee) does not speak GlobalPlatform',
      });
    });

    test('one is refused: that is the error', () => {
      const busy = refused('/dev/tee0', 16);
      const { message } = busy;
      expect(noDevice([busy])).toBe(busy);
      expect(busy.message).toBe(message);
    });

    test('several are refused: the first is the error, and names the others', () => {
      expect(noDevice([tstee, refused('/dev/tee2', 16), refused('/dev/tee3', 24)])).toMatchObject({
        name: 'TeeSystemError',
        code: 'EBUSY',
        path: '/dev/tee2',
        message:
          "EBUSY: resource busy or locked, open '/dev/tee2'. And of the other devices: " +
          '/dev/tee1 (tstee) does not speak GlobalPlatform; ' +
          "EMFILE: too many open files, open '/dev/tee3'",
      });
    });
  });
});

describe('hints', () => {
  test('no permission: whose the device is', () => {
    const path = join(folder, 'tee0');
    expect(openHint(path, 'open', 'EACCES')).toMatch(/^it belongs to user \S+ and group \S+, mode 0\d\d\d/);
  });

  // Some containers forbid it; the device tests do the same with a device.
  (spawnSync('unshare', ['-Ur', 'true']).status === 0 ? describe : describe.skip)(
    'in a user namespace that maps no id but our own',
    () => {
      const path = join(folder, 'tee-of-others');
      /** What a process in such a namespace is told of a file. It is root there. */
      const told = (file: string) => {
        const hints = require.resolve('#lib/client/hints');
        const code = `try { fs.closeSync(fs.openSync(process.argv[1], 'r+')); console.log('open'); } catch ({ code }) {
          console.log(code + ': ' + require(${JSON.stringify(hints)}).openHint(process.argv[1], 'open', code)); }`;
        const args = ['-Ur', process.execPath, '-e', code, file];
        const { status, stdout } = spawnSync('unshare', args, { encoding: 'utf8' });
        expect(status).toBe(0);
        return stdout.trim();
      };
      /** A file of owners that are not mapped: one that we make, if we are root; else one of root's. */
      const othersFile = (): string => {
        if (process.getuid?.() !== 0) return '/etc/shadow';
        writeFileSync(path, '');
        chownSync(path, 4711, 4712);
        chmodSync(path, 0o660);
        return path;
      };

      test('no member of a group in it can open the file, nor its root', () => {
        expect(told(othersFile())).toMatch(
          /^EACCES: it belongs to user nobody and group nogroup, mode 06[46]0, because the user namespace of this process \(a rootless container\) does not map the real owner and group: .*keep-groups/,
        );
      });

      test('a file of our own, and one that anybody may write', () => {
        expect(told(join(folder, 'tee0'))).toBe('open');
        expect(told('/dev/null')).toBe('open');
      });
    },
  );

  test('no driver; no such heap', () => {
    const none = openHint('/dev/tee0', 'open', 'ENOENT');
    expect(none).toContain('CONFIG_OPTEE');
    expect(none).toContain('npx node-optee qemu -- COMMAND');
    expect(openHint('/dev/dma_heap/x', 'open', 'ENOENT')).toMatch(/^the dma-heaps of this machine are /);
    expect(openHint('/dev/null', 'TEE_IOC_VERSION', 'ENOTTY')).toBe('this is not a TEE device');
    expect(openHint('/dev/tee0', 'open', 'EMFILE')).toBeUndefined();
  });

  const refused = { globalPlatform: true, login: undefined, bytes: 0 };
  test('logins', () => {
    const hint = (code: string, login: string) =>
      callHint({ ...refused, code, operation: 'TEE_IOC_OPEN_SESSION', login });
    for (const login of ['group(5)', 'groupApplication(5)']) {
      expect(hint('EPERM', login)).toContain('not a member of that group');
    }
    for (const login of ['application', 'userApplication', 'groupApplication(5)']) {
      expect(hint('EINVAL', login)).toContain('no application identity');
    }
    expect(hint('EPERM', 'user')).toBeUndefined();
    expect(hint('EINVAL', 'group(5)')).toBeUndefined();
  });

  test('memory that the TEE does not register', () => {
    const hint = (bytes: number) =>
      callHint({ ...refused, code: 'EINVAL', operation: 'TEE_IOC_SHM_REGISTER', bytes });
    expect(hint(4096)).toContain('close what is not needed');
    expect(hint(1 << 25)).toContain('33554432 bytes are more than the TEE could take at once');
    expect(callHint({ ...refused, code: 'EINVAL', operation: 'TEE_IOC_INVOKE' })).toBeUndefined();
  });

  test.each([
    ['MemAvailable', 'MemAvailable of /proc/meminfo'],
    ['memory cgroup', "this process's cgroup"],
    ['TEE_IOC_SHM_ALLOC', 'use smaller pieces'],
    ['mmap', 'the kernel or the TEE is out of memory'],
  ])('memory that %s does not give a call: the reason is not the TEE', (operation, text) => {
    for (const bytes of [5000, 1 << 25]) {
      const hint = callHint({ ...refused, code: 'ENOMEM', operation, bytes });
      expect(hint).toContain(text);
      expect(hint).toBe(memoryHint('ENOMEM', operation, bytes));
    }
    // There is no smaller piece than a page.
    expect(memoryHint('ENOMEM', 'TEE_IOC_SHM_ALLOC', 10)).toBe('the kernel or the TEE is out of memory');
  });

  test('a device of another protocol', () => {
    const hint = (code: string, operation: string) =>
      callHint({ ...refused, code, operation, globalPlatform: false, login: 'application' });
    for (const operation of ['TEE_IOC_OPEN_SESSION', 'TEE_IOC_INVOKE']) {
      expect(hint('EINVAL', operation)).toContain('does not speak GlobalPlatform');
    }
    expect(hint('EINTR', 'TEE_IOC_INVOKE')).toContain('a signal interrupted it');
    expect(hint('EINVAL', 'TEE_IOC_SHM_REGISTER')).toContain('close what is not needed');
  });

  const answer = (result: keyof typeof TEE_RESULTS, facts: Partial<ResultFacts> = {}) =>
    resultHint({
      result: TEE_RESULTS[result],
      origin: 'tee',
      opening: false,
      staleCancel: false,
      memory: 0,
      short: [],
      dmaBuf: false,
      openSessions: 0,
      ...facts,
    });

  test('results', () => {
    expect(answer('TEE_ERROR_TARGET_DEAD')).toContain('panicked');
    expect(answer('TEE_ERROR_OUT_OF_MEMORY')).toBeUndefined();
    expect(answer('TEE_ERROR_OUT_OF_MEMORY', { memory: 16 << 20 })).toMatch(/^it was given 16777216 bytes/);
    expect(answer('TEE_ERROR_ITEM_NOT_FOUND')).toBeUndefined();
    expect(answer('TEE_ERROR_CANCEL')).toBeUndefined();
    expect(answer('TEE_ERROR_CANCEL', { staleCancel: true })).toContain('call before');
    expect(answer('TEE_ERROR_BAD_PARAMETERS')).toBeUndefined();
    expect(answer('TEE_ERROR_BAD_PARAMETERS', { dmaBuf: true })).toContain('TA_FLAG_SECURE_DATA_PATH');
    expect(answer('TEE_ERROR_COMMUNICATION')).toContain('tee-supplicant');
  });

  test('a session that was not opened', () => {
    const opening = { opening: true };
    expect(answer('TEE_ERROR_OUT_OF_MEMORY', opening)).toContain('tee-supplicant ended');
    expect(answer('TEE_ERROR_OUT_OF_MEMORY', { opening: true, memory: 1 << 20 })).toMatch(/^it was given/);
    expect(answer('TEE_ERROR_SECURITY', opening)).toContain('signed with the key');
    expect(answer('TEE_ERROR_TARGET_DEAD', opening)).toContain('panicked');
    // What the TA itself answers means what the TA means by it.
    for (const result of ['TEE_ERROR_SECURITY', 'TEE_ERROR_ITEM_NOT_FOUND'] as const) {
      expect(answer(result, { opening: true, origin: 'trusted-app', openSessions: 3 })).toBeUndefined();
    }
  });

  test('one session more than the TEE has memory for: not the signing key, which was right before', () => {
    for (const result of ['TEE_ERROR_SECURITY', 'TEE_ERROR_OUT_OF_MEMORY'] as const) {
      const hint = answer(result, { opening: true, openSessions: 51 });
      expect(hint).toMatch(/no memory for another session with this TA \(open here: 51\)/);
      expect(hint).not.toContain('key');
      expect(hint).not.toContain('tee-supplicant');
    }
  });

  test('no such TA: where its file belongs, on a board and in the guest', () => {
    const { NODE_OPTEE_GUEST } = process.env;
    try {
      delete process.env.NODE_OPTEE_GUEST;
      expect(answer('TEE_ERROR_ITEM_NOT_FOUND', { opening: true })).toMatch(
        /there is no such TA.*optee_armtz/,
      );
      process.env.NODE_OPTEE_GUEST = '1';
      const hint = answer('TEE_ERROR_ITEM_NOT_FOUND', { opening: true });
      expect(hint).toMatch(/there is no such TA.*--ta FOLDER/);
      expect(hint).not.toContain('optee_armtz');
    } finally {
      if (NODE_OPTEE_GUEST === undefined) delete process.env.NODE_OPTEE_GUEST;
      else process.env.NODE_OPTEE_GUEST = NODE_OPTEE_GUEST;
    }
  });

  test('a short buffer: how much it needs', () => {
    const short = [
      { name: 'params[1]', needs: 32 },
      { name: 'notary.hash.hash', needs: 64 },
    ];
    expect(answer('TEE_ERROR_SHORT_BUFFER', { origin: 'trusted-app', short })).toBe(
      'params[1] needs 32 bytes, notary.hash.hash needs 64 bytes',
    );
    expect(answer('TEE_ERROR_SHORT_BUFFER')).toBeUndefined();
  });
});

test('the names in a folder that cannot be read: the error has the form of all others', () => {
  expect(namesIn('/nowhere')).toEqual([]);
  expect(() => namesIn('/dev/null')).toThrow(
    expect.objectContaining({
      name: 'TeeSystemError',
      code: 'ENOTDIR',
      operation: 'scandir',
      path: '/dev/null',
    }),
  );
});
