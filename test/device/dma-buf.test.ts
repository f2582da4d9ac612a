import { spawnSync } from 'node:child_process';
import { closeSync, openSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { buffer, DmaBuf, DmaHeap, value, type SharedMemory } from 'node-optee';
import { native, Place, type ContextHandle } from '#lib/client/native';
import { machine, PROTECTED_HEAP, rejection, useTee, withSession } from '../support/device.js';
import * as TA from '../support/test-ta.js';

const guest = useTee();
const SIZE = 1 << 16;
const MiB = 1 << 20;

function withHeap<T>(use: (heap: DmaHeap) => T, name = PROTECTED_HEAP): T {
  const heap = DmaHeap.open(name);
  try {
    return use(heap);
  } finally {
    heap.close();
  }
}
const alloc = (size = SIZE, name?: string): DmaBuf => withHeap((heap) => heap.allocSync(size), name);

/** A TA writes into the memory and reads it back, at its start and its end. */
async function useMemory(shm: SharedMemory): Promise<void> {
  await withSession(guest.tee, async (session) => {
    const bytes = Buffer.from('through protected memory');
    const end = { offset: shm.size - bytes.length, size: bytes.length };
    await session.invoke(TA.TEST_TA_FILL, [shm.inout(), value.in(1)]);
    expect(await session.invoke(TA.TEST_TA_COPY, [buffer.in(bytes), shm.out(end)])).toEqual([
      undefined,
      bytes.length,
    ]);
    const [, back] = await session.invoke(TA.TEST_TA_COPY, [shm.in(end), buffer.out(100)]);
    expect(Buffer.from(back).toString()).toBe(bytes.toString());
    const [, sum] = session.invokeSync(TA.TEST_TA_CHECKSUM, [shm.in({ size: end.offset }), value.out()]);
    expect(sum.a).toBe(end.offset);
  });
}

describe('heaps', () => {
  test('list', () => {
    expect(DmaHeap.list()).toContain(PROTECTED_HEAP);
    expect(DmaHeap.list()).toContain('system');
  });

  test('one that is not there: the error names those that are', () => {
    expect(() => DmaHeap.open('none')).toThrow(
      expect.objectContaining({
        name: 'TeeSystemError',
        code: 'ENOENT',
        syscall: 'open',
        path: '/dev/dma_heap/none',
        message: expect.stringContaining(PROTECTED_HEAP),
      }),
    );
    for (const name of ['', '.', '..', '../tee0', 'a\0b']) {
      expect(() => DmaHeap.open(name)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
    }
  });

  test('closed', () => {
    const heap = DmaHeap.open(PROTECTED_HEAP);
    heap[Symbol.dispose]();
    heap.close();
    expect(heap.closed).toBe(true);
    expect(() => heap.allocSync(1)).toThrow(expect.objectContaining({ code: 'ERR_TEE_CLOSED' }));
  });

  test('without room', () =>
    withHeap((heap) => {
      for (const size of [0, -1, 0.5, NaN]) {
        expect(() => heap.allocSync(size)).toThrow(expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }));
      }
      expect(() => heap.allocSync(1 << 28)).toThrow(
        expect.objectContaining({
          name: 'TeeSystemError',
          code: 'ENOMEM',
          operation: 'DMA_HEAP_IOCTL_ALLOC',
          message: expect.stringMatching(
            /the heap has no room .* what map\(\) returned, if it was transferred, is collected/,
          ),
        }),
      );
    }));
});

describe('registering', () => {
  test('the kernel has the call, and the addon sees that without making it', () => {
    const n = native();
    n.openContext('/dev/tee0', 1, 0, true);
    const context = n.answer.number(Place.made) as ContextHandle;
    expect(n.hasRegisterDmaBuf(context)).toBe(true);
    expect(n.closeContext(context)).toBeGreaterThan(0);
  });

  test('a DmaBuf, which may be closed right after', async () => {
    const dma = alloc();
    const shm = guest.tee.registerDmaBufSync(dma);
    dma.close();
    expect(shm.size).toBe(SIZE);
    expect(readlinkSync(`/proc/self/fd/${shm.fd}`)).toContain('tee_shm');
    await useMemory(shm);
    shm.close();
  });

  test('a bare descriptor, which stays the caller’s', async () => {
    const dma = alloc();
    const shm = guest.tee.registerDmaBufSync(dma.fd);
    await useMemory(shm);
    shm.close();
    expect(readlinkSync(`/proc/self/fd/${dma.fd}`)).toMatch(/^\/dmabuf:/);
    dma.close();
  });

  test('a size that is no multiple of a page', async () => {
    const dma = alloc(17000);
    const shm = guest.tee.registerDmaBufSync(dma);
    expect(shm.size).toBe(dma.size);
    await useMemory(shm);
    shm.close();
    dma.close();
  });

  test('one buffer twice, and two buffers at once', async () => {
    const [a, b] = [alloc(), alloc()] as const;
    const memory = [a, a, b].map((dma) => guest.tee.registerDmaBufSync(dma)) as [
      SharedMemory,
      SharedMemory,
      SharedMemory,
    ];
    await withSession(guest.tee, async (session) => {
      await session.invoke(TA.TEST_TA_FILL, [memory[0].inout(), value.in(2)]);
      await session.invoke(TA.TEST_TA_COPY, [memory[1].in(), memory[2].out()]);
      const [, sum] = await session.invoke(TA.TEST_TA_CHECKSUM, [memory[2].in(), value.out()]);
      expect(sum.a).toBe(2 * SIZE);
    });
    for (const thing of [...memory, a, b]) thing.close();
  });

  test('again and again: no memory of the heap is lost', () => {
    for (let i = 0; i < 40; i++) {
      const dma = alloc();
      guest.tee.registerDmaBufSync(dma).close();
      dma.close();
    }
  });

  test('the CPU cannot reach it through its registration', () => {
    const dma = alloc();
    const shm = guest.tee.registerDmaBufSync(dma);
    expect(shm.buffer).toBeUndefined();
    for (const reach of [() => shm.read(), () => shm.write(new Uint8Array(1))]) {
      expect(reach).toThrow(expect.objectContaining({ code: 'ERR_TEE_NOT_SUPPORTED' }));
    }
    shm.close();
    dma.close();
  });
});

describe('what is not taken is said', () => {
  test('no descriptor at all', () => {
    for (const fd of [-1, 2 ** 31, 0.5]) {
      expect(() => guest.tee.registerDmaBufSync(fd)).toThrow(
        expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }),
      );
    }
    expect(() => guest.tee.registerDmaBufSync('3' as never)).toThrow(
      'buf must be a DmaBuf or a file descriptor',
    );
  });

  test('not open', () => {
    expect(() => guest.tee.registerDmaBufSync(999_999)).toThrow(
      expect.objectContaining({
        name: 'TeeSystemError',
        code: 'EBADF',
        errno: -9,
        operation: 'TEE_IOC_SHM_REGISTER_FD',
        message: expect.stringContaining('no file is open as descriptor 999999'),
      }),
    );
    expect(() => DmaBuf.fromFd(999_999)).toThrow(expect.objectContaining({ code: 'EBADF' }));
  });

  test('not a dma-buf', () => {
    const fd = openSync('/dev/null', 'r');
    try {
      for (const register of [
        () => guest.tee.registerDmaBufSync(fd),
        () => DmaBuf.fromFd(fd),
        () => DmaBuf.fromFd(fd, { own: true }),
      ]) {
        expect(register).toThrow(
          expect.objectContaining({
            code: 'ERR_INVALID_ARG_VALUE',
            message: expect.stringContaining(`must be a dma-buf, but descriptor ${fd} is /dev/null`),
          }),
        );
      }
    } finally {
      closeSync(fd);
    }
  });

  test('closed', () => {
    const dma = alloc();
    dma.close();
    expect(() => guest.tee.registerDmaBufSync(dma)).toThrow(
      expect.objectContaining({ code: 'ERR_TEE_CLOSED' }),
    );
    expect(() => dma.map()).toThrow(expect.objectContaining({ code: 'ERR_TEE_CLOSED' }));
    expect(() => dma.sync('start', 'read')).toThrow(expect.objectContaining({ code: 'ERR_TEE_CLOSED' }));
    expect([dma.fd, dma.closed]).toEqual([-1, true]);
  });

  test('of a heap that is not the TEE’s', async () => {
    const dma = alloc(SIZE, 'system');
    try {
      if (machine !== 'dmabuf') {
        const heaps = DmaHeap.list().filter((name) => name.startsWith('protected,'));
        expect(heaps).not.toEqual([]);
        expect(() => guest.tee.registerDmaBufSync(dma)).toThrow(
          expect.objectContaining({
            name: 'TeeSystemError',
            code: 'EINVAL',
            operation: 'TEE_IOC_SHM_REGISTER_FD',
            message: expect.stringMatching(
              new RegExp(
                `accepts only dma-bufs of its TEE's own protected heaps, which are here: ${heaps.join(', ')}$`,
              ),
            ),
          }),
        );
        return;
      }
      // Here the kernel takes every contiguous one, and OP-TEE refuses what it does not know as protected.
      const shm = guest.tee.registerDmaBufSync(dma);
      const error = await withSession(guest.tee, (session) =>
        rejection(session.invoke(TA.TEST_TA_TOUCH, [shm.inout()])),
      );
      shm.close();
      expect(error).toMatchObject({
        code: 'TEE_ERROR_BAD_PARAMETERS',
        origin: 'tee',
        message: expect.stringContaining('memory that OP-TEE knows as protected'),
      });
    } finally {
      dma.close();
    }
  });
});

test('pages of a buffer that is gone are not taken for shared memory', () => {
  // On `dmabuf` Linux uses the protected range too, and OP-TEE shares nothing that lies in it.
  for (const size of [1, 17_000, 200_000]) {
    for (const shared of [1, 6001, MiB]) {
      alloc(size).close();
      guest.tee.allocSharedMemorySync(shared).close();
      alloc(size).close();
      guest.tee.registerSharedMemorySync(new Uint8Array(new SharedArrayBuffer(shared))).close();
    }
  }
});

describe('the CPU’s access', () => {
  test('to memory of the system heap', () => {
    const dma = alloc(10_000, 'system');
    expect(dma.size).toBe(12_288);
    dma.sync('start', 'readwrite');
    const bytes = new Uint8Array(dma.map());
    expect(dma.map()).toBe(bytes.buffer);
    expect(bytes.length).toBe(12_288);
    bytes.fill(5);
    dma.sync('end', 'readwrite');
    const copy = DmaBuf.fromFd(dma.fd);
    dma.close();
    expect(bytes.length).toBe(0);
    copy.sync('start', 'read');
    expect(new Uint8Array(copy.map())[12_287]).toBe(5);
    copy.sync('end', 'read');
    for (const wrong of [() => copy.sync('begin' as never, 'read'), () => copy.sync('end', 'all' as never)]) {
      expect(wrong).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
    }
    copy[Symbol.dispose]();
    copy.close();
  });

  test('of another library: duplicated, or taken over and closed with its DmaBuf', () => {
    const dma = alloc(4096, 'system');
    const file = join(__dirname, 'children', 'adopt.js');
    const { status, stdout, stderr } = spawnSync(process.execPath, [file], {
      stdio: ['ignore', 'pipe', 'pipe', dma.fd],
      encoding: 'utf8',
    });
    dma.close();
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(JSON.parse(stdout)).toEqual({
      copied: { other: true, afterwards: true },
      own: { fd: 3, size: 4096, closeOnExec: true },
      twice: ['ERR_INVALID_ARG_VALUE', 'fd is descriptor 3, which another object of this package closes'],
      afterwards: false,
    });
  });

  test('of another library: one owner in the whole process, whichever threads try', () => {
    const dma = alloc(4096, 'system');
    const ROUNDS = 20;
    const file = join(__dirname, 'children', 'owners.js');
    const { status, stdout, stderr } = spawnSync(process.execPath, [file, String(ROUNDS)], {
      stdio: ['ignore', 'pipe', 'pipe', ...Array<number>(ROUNDS).fill(dma.fd)],
      encoding: 'utf8',
    });
    dma.close();
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(JSON.parse(stdout)).toEqual(Array(ROUNDS).fill('ERR_INVALID_ARG_VALUE,mine'));
  });

  test(
    machine === 'dmabuf' ? 'to what a TA wrote: it reads it' : 'to protected memory: an error says why not',
    async () => {
      const dma = alloc();
      try {
        if (machine !== 'dmabuf') {
          expect(() => dma.map()).toThrow(
            expect.objectContaining({
              name: 'TeeSystemError',
              syscall: 'mmap',
              message: expect.stringContaining('memory of a protected heap cannot be mapped'),
            }),
          );
          return;
        }
        const shm = guest.tee.registerDmaBufSync(dma);
        await withSession(guest.tee, (session) =>
          session.invoke(TA.TEST_TA_WRITE, [shm.out(), value.in(SIZE)]),
        );
        dma.sync('start', 'readwrite');
        const bytes = new Uint8Array(dma.map());
        expect([bytes[0], bytes[250], bytes[251], bytes[SIZE - 1]]).toEqual([0, 250, 0, (SIZE - 1) % 251]);
        bytes.fill(9);
        dma.sync('end', 'readwrite');
        const [, sum] = await withSession(guest.tee, (session) =>
          session.invoke(TA.TEST_TA_CHECKSUM, [shm.in(), value.out()]),
        );
        expect(sum.a).toBe(9 * SIZE);
        shm.close();
      } finally {
        dma.close();
      }
    },
  );
});
