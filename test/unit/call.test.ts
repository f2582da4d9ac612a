/** How an answer becomes an error: of a call, and of a close. */
import { describe, expect, test } from '@jest/globals';
import { TeeError, TeeSystemError, value } from 'node-optee';
import { callError, readFailed, type Request } from '#lib/client/call';
import { Operation, Place, Status } from '#lib/client/native';
import type { Native, SessionHandle, Settle, Ticket } from '#lib/client/native';
import { readParams } from '#lib/client/parameters';
import { closed } from '#lib/client/jobs';
import { answerOf } from '../support/answer.js';

const CALLEE = { uuid: '8aaaf200-2450-11e4-abe2-0002a5d5c51b', path: '/dev/tee0', globalPlatform: true };

function errorOf(numbers: Partial<Record<Place, number>>, callee = CALLEE): Error {
  const params = readParams([value.in(1)], true);
  const request: Request = {
    callee,
    params,
    wipe: false,
    invoke: { session: 1 as SessionHandle, command: 7 },
    open: undefined,
  };
  return callError(request, readFailed(params, answerOf(numbers)));
}

const CANCEL = { [Place.status]: Status.answered, [Place.result]: 0xffff0002, [Place.origin]: 4 };

describe('TEE_ERROR_CANCEL', () => {
  test('of a call that nobody aborted, after one that was', () => {
    const error = errorOf({ ...CANCEL, [Place.staleCancel]: 1 });
    expect(error).toBeInstanceOf(TeeError);
    expect(error).toMatchObject({ code: 'TEE_ERROR_CANCEL', command: 7, staleCancel: true });
    expect(error.message).toMatch(/cancel of the (call before|previous call)/);
  });

  test('of any other call is not stale', () => {
    const error = errorOf(CANCEL);
    expect(error).toMatchObject({ code: 'TEE_ERROR_CANCEL', origin: 'trusted-app' });
    expect(error).not.toHaveProperty('staleCancel');
  });
});

test('the system refused', () => {
  const error = errorOf({ [Place.status]: 4, [Place.detail]: Operation.invoke });
  expect(error).toBeInstanceOf(TeeSystemError);
  expect(error).toMatchObject({ code: 'EINTR', errno: -4, syscall: 'ioctl', operation: 'TEE_IOC_INVOKE' });
  expect(error.message).toContain('not repeated');
});

test('the system refused a call to a device of another protocol', () => {
  const refused = { [Place.status]: 22, [Place.detail]: Operation.invoke };
  expect(errorOf(refused, { ...CALLEE, globalPlatform: false }).message).toContain(
    'this device does not speak GlobalPlatform',
  );
  expect(errorOf(refused).message).not.toContain('GlobalPlatform');
});

test.each([
  [Status.closed, 'ERR_TEE_CLOSED', /^the Session with TA .* is closed$/],
  [Status.sharedMemoryClosed, 'ERR_TEE_CLOSED', /^params\[0\], a SharedMemory, is closed$/],
  [Status.otherContext, 'ERR_TEE_WRONG_CONTEXT', /^params\[0\] is shared memory of another TeeContext/],
  [Status.outOfBounds, 'ERR_OUT_OF_RANGE', /^params\[0\] must be inside its shared memory/],
  [Status.bytesChanged, 'ERR_INVALID_ARG_VALUE', /^params\[0\] has not the 0 bytes any more/],
])('status %d', (status, code, message) => {
  const error = errorOf({ [Place.status]: status });
  expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
});

describe('a close', () => {
  const close = (status: number): Promise<void> => {
    const settle = new Map<Ticket, Settle>();
    const asked = `closing the session with TA ${CALLEE.uuid}`;
    const promise = closed({ settle } as unknown as Native, 3, CALLEE.path, asked);
    settle.get(3)?.(answerOf({ [Place.status]: status, [Place.detail]: Operation.closeSession }))(
      () => undefined,
    );
    return promise;
  };

  test('that fails says of what', async () => {
    await expect(close(5)).rejects.toMatchObject({
      name: 'TeeSystemError',
      code: 'EIO',
      operation: 'TEE_IOC_CLOSE_SESSION',
      message: `EIO: i/o error, ioctl TEE_IOC_CLOSE_SESSION '/dev/tee0' for closing the session with TA ${CALLEE.uuid}`,
    });
  });

  test('of what was closed already is done', async () => {
    await expect(close(Status.closed)).resolves.toBeUndefined();
    await expect(close(Status.answered)).resolves.toBeUndefined();
  });
});
