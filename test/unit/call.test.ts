/** How a record becomes an error: of a call, and of a close. */
import { describe, expect, test } from '@jest/globals';
import { TeeError, TeeSystemError, value } from 'node-optee';
import { failure } from '#lib/client/call';
import { AnswerFlags, Packet, Settlers, Status } from '#lib/client/native';
import type { Native } from '#lib/client/native';
import { ended } from '#lib/client/session';

const CALLER = { uuid: '8aaaf200-2450-11e4-abe2-0002a5d5c51b', path: '/dev/tee0', globalPlatform: true };
const n = { operations: [{ operation: 'TEE_IOC_INVOKE', syscall: 'ioctl' }] } as unknown as Native;

function errorOf(
  record: Partial<Record<Packet, number>>,
  command: number | undefined = 7,
  caller = CALLER,
): Error {
  const numbers = new Float64Array(Packet.length);
  for (const [index, number] of Object.entries(record)) numbers[Number(index)] = number;
  return failure(n, numbers, 0, undefined, 0, caller, command, [value.in(1)]);
}

const CANCEL = { [Packet.status]: Status.answered, [Packet.result]: 0xffff0002, [Packet.origin]: 4 };

describe('TEE_ERROR_CANCEL', () => {
  test('of a call that nobody aborted, after one that was', () => {
    const error = errorOf({ ...CANCEL, [Packet.flags]: AnswerFlags.staleCancel });
    expect(error).toBeInstanceOf(TeeError);
    expect(error).toMatchObject({ code: 'TEE_ERROR_CANCEL', command: 7, staleCancel: true });
    expect(error.message).toContain('the cancel of the call before came too late');
  });

  test.each([AnswerFlags.none, AnswerFlags.cancelSent])('with flags %d it is not stale', (flags) => {
    const error = errorOf({ ...CANCEL, [Packet.flags]: flags });
    expect(error).toMatchObject({ code: 'TEE_ERROR_CANCEL', origin: 'trusted-app' });
    expect(error).not.toHaveProperty('staleCancel');
  });
});

test('the system refused', () => {
  const error = errorOf({ [Packet.status]: 4, [Packet.detail]: 0 });
  expect(error).toBeInstanceOf(TeeSystemError);
  expect(error).toMatchObject({ code: 'EINTR', errno: -4, syscall: 'ioctl', operation: 'TEE_IOC_INVOKE' });
  expect(error.message).toContain('was not repeated');
});

test('the system refused a call to a device of another protocol', () => {
  const refused = { [Packet.status]: 22, [Packet.detail]: 0 };
  expect(errorOf(refused, 7, { ...CALLER, globalPlatform: false }).message).toContain(
    'this device does not speak GlobalPlatform',
  );
  expect(errorOf(refused).message).not.toContain('GlobalPlatform');
});

test.each([
  [Status.closed, 'ERR_TEE_CLOSED', /^the session with TA .* is closed$/],
  [Status.sharedMemoryClosed, 'ERR_TEE_CLOSED', /^params\[0\], shared memory, is closed$/],
  [Status.otherContext, 'ERR_TEE_WRONG_CONTEXT', /^params\[0\] is shared memory of another TeeContext/],
  [Status.outOfBounds, 'ERR_OUT_OF_RANGE', /^params\[0\] must be inside its shared memory/],
])('status %d', (status, code, message) => {
  const error = errorOf({ [Packet.status]: status, [Packet.detail]: 0 });
  expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
});

describe('a close', () => {
  const close = (status: number): Promise<void> => {
    const settle = new Settlers();
    const records = new Float64Array(Packet.length);
    records[Packet.status] = status;
    const operations = [{ operation: 'TEE_IOC_CLOSE_SESSION', syscall: 'ioctl' }];
    const asked = `closing the session with TA ${CALLER.uuid}`;
    const closed = ended({ settle, records, operations } as unknown as Native, 3, CALLER.path, asked);
    settle.take(3)?.(0, undefined, 0);
    return closed;
  };

  test('that fails says of what', async () => {
    await expect(close(5)).rejects.toMatchObject({
      name: 'TeeSystemError',
      code: 'EIO',
      operation: 'TEE_IOC_CLOSE_SESSION',
      message: `EIO: i/o error, ioctl TEE_IOC_CLOSE_SESSION '/dev/tee0' for closing the session with TA ${CALLER.uuid}`,
    });
  });

  test('of what was closed already is done', async () => {
    await expect(close(Status.closed)).resolves.toBeUndefined();
    await expect(close(Status.answered)).resolves.toBeUndefined();
  });
});
