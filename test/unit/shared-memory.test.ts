/** Why a dma-buf was not registered, from what the addon answers. */
import { describe, expect, test } from '@jest/globals';
import { DmaBuf, TeeSystemError } from 'node-optee';
import { Handle } from '#lib/client/handle';
import { Operation, Place } from '#lib/client/native';
import type { ContextHandle, DmaBufData, DmaBufHandle, Native } from '#lib/client/native';
import { SharedMemory } from '#lib/client/shared-memory';
import { answerOf } from '../support/answer.js';

/** Internal, so their types are not in the package's. */
const { registerDmaBuf } = SharedMemory as unknown as {
  registerDmaBuf: (
    owner: { n: Native; path: string; context: Handle<ContextHandle> },
    buf: DmaBuf,
    sync: boolean,
  ) => SharedMemory;
};
const { make } = DmaBuf as unknown as { make: (n: Partial<Native>, data: DmaBufData) => DmaBuf };

const EINVAL = 22;
const ENOTTY = 25;
const FD = 7;

/** The error of a registration that the kernel refuses with an errno. */
function refused(errno: number, hasRegisterDmaBuf: boolean): Error {
  const n: Partial<Native> = {
    answer: answerOf({ [Place.status]: errno, [Place.detail]: Operation.shmRegisterFd }),
    registerDmaBuf: () => 0,
    hasRegisterDmaBuf: () => hasRegisterDmaBuf,
    close: () => true,
  };
  const context = new Handle({}, 'TeeContext of /dev/tee0', 1 as ContextHandle, () => 0);
  const buf = make.call(DmaBuf, n, { buf: 1 as DmaBufHandle, fd: FD, size: 4096 });
  try {
    registerDmaBuf.call(SharedMemory, { n: n as Native, path: '/dev/tee0', context }, buf, true);
  } catch (error) {
    return error as Error;
  } finally {
    buf.close();
  }
  throw new Error('It was registered');
}

describe('a kernel without TEE_IOC_SHM_REGISTER_FD', () => {
  test.each([
    ['EINVAL', EINVAL],
    ['ENOTTY', ENOTTY],
  ])('that says %s', (_, errno) => {
    expect(refused(errno, false)).toMatchObject({
      code: 'ERR_TEE_NOT_SUPPORTED',
      message:
        'This kernel cannot register a dma-buf with a TEE: /dev/tee0 has no TEE_IOC_SHM_REGISTER_FD ' +
        '(Linux 6.18 and later have it)',
    });
  });
});

describe('a kernel that has it', () => {
  test.each([
    ['EINVAL', EINVAL, "accepts only dma-bufs of its TEE's own protected heaps"],
    ['ENOTTY', ENOTTY, "ioctl TEE_IOC_SHM_REGISTER_FD '/dev/tee0' for registerDmaBuf(7)"],
  ])('and says %s: that is the error', (code, errno, message) => {
    const error = refused(errno, true);
    expect(error).toBeInstanceOf(TeeSystemError);
    expect(error).toMatchObject({ code, errno: -errno, message: expect.stringContaining(message) });
  });

  test('another refusal is not taken for its absence', () => {
    expect(refused(12, false)).toMatchObject({ name: 'TeeSystemError', code: 'ENOMEM' });
  });
});
