/** Why a dma-buf was not registered, from what the addon answers. */
import { describe, expect, test } from '@jest/globals';
import { TeeSystemError } from 'node-optee';
import { Handle } from '#lib/client/handle';
import type { ContextHandle, Native } from '#lib/client/native';
import { SharedMemory } from '#lib/client/shared-memory';

/** Internal, so its types are not in the package's. */
const { registerDmaBufSync } = SharedMemory as unknown as {
  registerDmaBufSync: (
    owner: { n: Native; path: string; context: Handle<ContextHandle> },
    buf: number,
  ) => SharedMemory;
};

const EINVAL = 22;
const ENOTTY = 25;
const FD = 7;

/** The error of a registration that the kernel refuses with an errno. */
function refused(errno: number, hasRegisterDmaBuf: boolean): Error {
  const n: Partial<Native> = {
    describeDescriptor: () => ({ open: true, link: '/dmabuf:' }),
    registerDmaBufSync: () => ({ operation: 'TEE_IOC_SHM_REGISTER_FD', syscall: 'ioctl', errno }),
    hasRegisterDmaBuf: () => hasRegisterDmaBuf,
  };
  const context = new Handle({}, 'TeeContext of /dev/tee0', 1 as ContextHandle, () => 0);
  try {
    registerDmaBufSync.call(SharedMemory, { n: n as Native, path: '/dev/tee0', context }, FD);
  } catch (error) {
    return error as Error;
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
