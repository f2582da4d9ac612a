import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import { buffer, value } from 'node-optee';
import { checkDevicePath, devicePaths, noDevice, openError, versionOf } from '#lib/client/devices';
import { callHint, openHint, resultHint } from '#lib/client/hints';
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

  test('no driver; no such heap', () => {
    expect(openHint('/dev/tee0', 'open', 'ENOENT')).toContain('CONFIG_OPTEE');
    expect(openHint('/dev/dma_heap/x', 'open', 'ENOENT')).toMatch(/^the dma-heaps of this machine are /);
    expect(openHint('/dev/null', 'TEE_IOC_VERSION', 'ENOTTY')).toBe('this is not a TEE device');
    expect(openHint('/dev/tee0', 'open', 'EMFILE')).toBeUndefined();
  });

  test('logins', () => {
    const hint = (code: string, operation: string, login?: string, bytes = 0) =>
      callHint(code, operation, true, login, bytes);
    expect(hint('EPERM', 'TEE_IOC_OPEN_SESSION', 'group(5)')).toContain('not in that group');
    expect(hint('EINVAL', 'TEE_IOC_OPEN_SESSION', 'application')).toContain('no application identity');
    expect(hint('EINVAL', 'TEE_IOC_INVOKE')).toBeUndefined();
    expect(hint('EINVAL', 'TEE_IOC_SHM_REGISTER', undefined, 4096)).toContain('close what is not needed');
    expect(hint('EINVAL', 'TEE_IOC_SHM_REGISTER', undefined, 1 << 25)).toContain('in smaller parts');
  });

  test('a device of another protocol', () => {
    const hint = (code: string, operation: string) => callHint(code, operation, false, 'application', 0);
    for (const operation of ['TEE_IOC_OPEN_SESSION', 'TEE_IOC_INVOKE']) {
      expect(hint('EINVAL', operation)).toContain('does not speak GlobalPlatform');
    }
    expect(hint('EINTR', 'TEE_IOC_INVOKE')).toContain('a signal interrupted it');
    expect(hint('EINVAL', 'TEE_IOC_SHM_REGISTER')).toContain('close what is not needed');
  });

  const none = (): undefined => undefined;
  test('results', () => {
    const hint = (
      result: number,
      params = [value.in(1), buffer.out(16)] as never,
      opening = false,
    ): string | undefined => resultHint(result, 'tee', opening, false, params, none);
    expect(hint(TEE_RESULTS.TEE_ERROR_TARGET_DEAD)).toContain('panicked');
    expect(hint(TEE_RESULTS.TEE_ERROR_OUT_OF_MEMORY)).toBeUndefined();
    expect(hint(TEE_RESULTS.TEE_ERROR_OUT_OF_MEMORY, [] as never, true)).toContain('tee-supplicant ended');
    expect(
      hint(TEE_RESULTS.TEE_ERROR_OUT_OF_MEMORY, [buffer.out(8 << 20), buffer.out(8 << 20)] as never),
    ).toMatch(/^it was given 16777216 bytes/);
    expect(hint(TEE_RESULTS.TEE_ERROR_ITEM_NOT_FOUND)).toBeUndefined();
    expect(hint(TEE_RESULTS.TEE_ERROR_ITEM_NOT_FOUND, [] as never, true)).toContain('.ta file');
    expect(hint(TEE_RESULTS.TEE_ERROR_CANCEL)).toBeUndefined();
    expect(resultHint(TEE_RESULTS.TEE_ERROR_CANCEL, 'tee', false, true, [], none)).toContain('call before');
  });

  test('a short buffer: how much it needs', () => {
    const params = [value.in(1), buffer.out(16), buffer.null('out'), buffer.out(99)];
    const sizes = [undefined, 32, 64, 99];
    expect(
      resultHint(TEE_RESULTS.TEE_ERROR_SHORT_BUFFER, 'trusted-app', false, false, params, (i) => sizes[i]),
    ).toBe('params[1] needs 32 bytes, params[2] needs 64 bytes');
  });
});
