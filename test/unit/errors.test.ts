import { describe, expect, test } from '@jest/globals';
import { inspect } from 'node:util';
import { AbortError, TeeError, TeeSystemError } from 'node-optee';

const uuid = '8aaaf200-2450-11e4-abe2-0002a5d5c51b';

describe('TeeError', () => {
  test('says what was asked, what came and from whom', () => {
    const error = new TeeError({
      result: 0xffff0010,
      originCode: 4,
      uuid,
      command: 5,
      outputs: [{ size: 32 }],
      asked: `command 5 of TA ${uuid}`,
      hint: 'params[0] needs 32 bytes',
    });
    expect(error).toBeInstanceOf(Error);
    expect(error.name).toBe('TeeError');
    expect(error.message).toBe(
      `TEE_ERROR_SHORT_BUFFER (0xffff0010) from the TA for command 5 of TA ${uuid}: params[0] needs 32 bytes`,
    );
    expect(error).toMatchObject({
      code: 'TEE_ERROR_SHORT_BUFFER',
      result: 0xffff0010,
      origin: 'trusted-app',
      originCode: 4,
      uuid,
      command: 5,
      outputs: [{ size: 32 }],
    });
    expect(error.staleCancel).toBeUndefined();
    expect(inspect(error)).toContain('TeeError');
  });

  test("keeps a TA's own result", () => {
    const error = new TeeError({ result: 0x12345678, originCode: 9, uuid, asked: 'x' });
    expect(error).toMatchObject({
      code: 'TEE_0x12345678',
      result: 0x12345678,
      origin: 'unknown',
      originCode: 9,
    });
    expect(error.message).toBe('result 0x12345678 from an unknown origin for x');
    expect('command' in error).toBe(false);
  });
});

describe('TeeSystemError', () => {
  test("has the form of Node's own", () => {
    const error = new TeeSystemError({
      errno: 13,
      syscall: 'open',
      operation: 'open',
      path: '/dev/tee0',
      hint: 'ask the owner',
    });
    expect(error.name).toBe('TeeSystemError');
    expect(error.message).toBe("EACCES: permission denied, open '/dev/tee0': ask the owner");
    expect(error).toMatchObject({
      code: 'EACCES',
      errno: -13,
      syscall: 'open',
      operation: 'open',
      path: '/dev/tee0',
    });
  });

  test('names the operation, and an errno without a name', () => {
    const error = new TeeSystemError({
      errno: 9999,
      syscall: 'ioctl',
      operation: 'TEE_IOC_INVOKE',
      asked: 'this',
    });
    expect(error.message).toBe('E9999: error 9999, ioctl TEE_IOC_INVOKE for this');
    expect(error).toMatchObject({ code: 'E9999', errno: -9999 });
    expect('path' in error).toBe(false);
  });
});

test('AbortError', () => {
  const tee = new TeeError({ result: 0xffff0002, originCode: 4, uuid, asked: 'x' });
  const error = new AbortError('because', 'the call', tee);
  expect(error).toMatchObject({ name: 'AbortError', code: 'ABORT_ERR', cause: 'because', teeError: tee });
  expect(error.message).toBe('The operation was aborted: the call ended with TEE_ERROR_CANCEL');
  expect(new AbortError(1, 'the call').teeError).toBeUndefined();
});
