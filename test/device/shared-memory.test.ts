import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from '@jest/globals';
import {
  buffer,
  TeeContext,
  TeeError,
  TeeSystemError,
  value,
  type SharedMemory,
  type TeeContextOptions,
} from 'node-optee';
import { machine } from '../support/census.js';
import {
  census,
  child,
  collectGarbage,
  kernelWarnings,
  lastLine,
  lost,
  rejection,
  TEST_TA,
  useTee,
  withSession,
} from '../support/device.js';
import * as TA from '../support/test-ta.js';

const MiB = 1 << 20;

/** As far as it is needed: the types of Node 20 do not have it. */
declare const WebAssembly: {
  Memory: new (options: { initial: number; maximum: number; shared: true }) => {
    readonly buffer: SharedArrayBuffer;
    grow(pages: number): number;
  };
};

/** `dmabuf` has one of the boot. */
let warningsAtStart: string[];
beforeAll(async () => {
  warningsAtStart = await kernelWarnings();
});

/** `registration` is an internal switch: false allocates as where a TEE cannot register memory. */
describe.each([true, false])('with registration: %s', (registration) => {
  const guest = useTee({ registration } as TeeContextOptions);
  const view = (shm: SharedMemory): Uint8Array => new Uint8Array(shm.buffer as ArrayBuffer);

  test('both sides see the same bytes', () =>
    withSession(guest.tee, async (session) => {
      const shm = guest.tee.allocSharedMemorySync(10_000);
      expect(shm).toMatchObject({ size: 10_000, closed: false });
      expect(shm.id).toBeGreaterThanOrEqual(0);
      expect(shm.buffer?.byteLength).toBe(10_000);
      expect(shm.buffer).toBe(shm.buffer);
      expect(view(shm).every((byte) => byte === 0)).toBe(true);
      await session.invoke(TA.TEST_TA_WRITE, [shm.out(), value.in(10_000)]);
      expect(view(shm)[300]).toBe(49);
      view(shm)[5] = 250;
      expect(Buffer.from(shm.read(4, 2))).toEqual(Buffer.from([4, 250]));
      shm.write(Buffer.from([9, 9]), 9998);
      const [, sum] = session.invokeSync(TA.TEST_TA_CHECKSUM, [shm.in({ offset: 9998 }), value.out()]);
      expect(sum.a).toBe(18);
      shm.close();
    }));

  test('temporary buffers of all sizes', () =>
    withSession(guest.tee, async (session) => {
      for (const size of [0, 1, 4096, 5000, 70_000]) {
        const bytes = new Uint8Array(size).fill(size);
        const [, copy] = await session.invoke(TA.TEST_TA_COPY, [buffer.in(bytes), buffer.out(size)]);
        expect(Buffer.from(copy).equals(bytes)).toBe(true);
      }
    }));

  test('its descriptor is close-on-exec and a tee_shm', () => {
    const shm = guest.tee.allocSharedMemorySync(1);
    const flags = /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${shm.fd}`, 'utf8'))?.[1];
    expect(Number.parseInt(flags ?? '0', 8) & 0o2000000).toBe(0o2000000);
    shm.close();
    expect(shm.fd).toBe(-1);
  });

  test('out of bounds', () => {
    const shm = guest.tee.allocSharedMemorySync(100);
    for (const wrong of [
      () => shm.read(101),
      () => shm.read(0, 101),
      () => shm.read(100, 1),
      () => shm.read(-1),
      () => shm.read(0.5),
      () => shm.read(2 ** 53, 2 ** 53),
      () => shm.write(new Uint8Array(1), 100),
      () => shm.write(new Uint8Array(101)),
      () => shm.write(new Uint8Array(0), 101),
      () => shm.in({ offset: 101 }),
      () => shm.out({ offset: 1, size: 100 }),
      () => shm.inout({ size: -1 }),
    ]) {
      expect(wrong).toThrow(expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }));
    }
    expect(shm.read(100)).toHaveLength(0);
    shm.write(new Uint8Array(0), 100);
    shm.close();
    expect(() => guest.tee.allocSharedMemorySync(0)).toThrow(
      'size must be a whole number from 1 to 4294967295, not 0',
    );
  });

  test('closed: its views are empty, and it cannot be used', () =>
    withSession(guest.tee, async (session) => {
      const shm = guest.tee.allocSharedMemorySync(4096);
      const bytes = view(shm);
      const param = shm.in();
      shm.close();
      shm.close();
      expect(shm.closed).toBe(true);
      expect([bytes.length, shm.buffer?.byteLength]).toEqual([0, 0]);
      expect(() => shm.in()).toThrow(expect.objectContaining({ code: 'ERR_TEE_CLOSED' }));
      expect(() => shm.read()).toThrow(expect.objectContaining({ code: 'ERR_TEE_CLOSED' }));
      expect(await rejection(session.invoke(TA.TEST_TA_TOUCH, [param]))).toMatchObject({
        code: 'ERR_TEE_CLOSED',
        message: expect.stringMatching(/^params\[0\], a SharedMemory of 4096 bytes, is closed/),
      });
    }));

  test('closed under a call: the call has it until it ends', () =>
    withSession(guest.tee, async (session) => {
      const shm = guest.tee.allocSharedMemorySync(4096);
      const waiting = session.invoke(TA.TEST_TA_WAIT, [value.in(100)]);
      const filled = session.invoke(TA.TEST_TA_FILL, [shm.inout(), value.in(8)]);
      shm.close();
      await waiting;
      expect(await filled).toEqual([4096, undefined]);
    }));

  test('a buffer that the caller moved stays readable after close', () => {
    const shm = guest.tee.allocSharedMemorySync(16);
    view(shm).fill(3);
    const moved = (shm.buffer as ArrayBuffer & { transfer(): ArrayBuffer }).transfer();
    shm.close();
    expect([...new Uint8Array(moved)]).toEqual(new Array(16).fill(3));
  });

  test("another context's", () =>
    withSession(guest.tee, async (session) => {
      const other = TeeContext.open();
      const shm = other.allocSharedMemorySync(4096);
      expect(
        await rejection(session.invoke(TA.TEST_TA_TOUCH, [value.in(1), shm.in()] as never)),
      ).toMatchObject({
        code: 'ERR_TEE_WRONG_CONTEXT',
        message: expect.stringMatching(/^params\[1\] is shared memory of another TeeContext/),
      });
      expect(
        await rejection(guest.open(TEST_TA, { params: [undefined, undefined, shm.in()] })),
      ).toMatchObject({
        code: 'ERR_TEE_WRONG_CONTEXT',
      });
      await other.close();
    }));

  test('4 MiB each way', () =>
    withSession(guest.tee, async (session) => {
      const source = guest.tee.allocSharedMemorySync(4 * MiB);
      const target = guest.tee.allocSharedMemorySync(4 * MiB);
      view(source).fill(7);
      await session.invoke(TA.TEST_TA_COPY, [source.in(), target.out()]);
      expect(
        Buffer.from(target.buffer as ArrayBuffer).equals(Buffer.from(source.buffer as ArrayBuffer)),
      ).toBe(true);
      source.close();
      target.close();
    }));
});

describe('large shared memory', () => {
  const guest = useTee();

  test('too large to be registered; registered and too large to be mapped', () =>
    withSession(guest.tee, async (session) => {
      const tooLarge = expect.objectContaining({
        name: 'TeeSystemError',
        operation: 'TEE_IOC_SHM_REGISTER',
        message: expect.stringContaining('use smaller pieces'),
      });
      expect(() => guest.tee.allocSharedMemorySync(128 * MiB)).toThrow(tooLarge);
      // An OP-TEE with 8 threads maps less than 32 MiB for a TA, one with 2 less than 16. Whether its heap has one free
      // piece for the list of so many pages depends on what else is there: the more sizes can be tried, the better.
      const least = machine === 'dynamic' ? 32 : 16;
      let shm: SharedMemory | undefined;
      for (let size = 34; shm === undefined && size >= least; size--) {
        try {
          shm = guest.tee.allocSharedMemorySync(size * MiB);
        } catch (error) {
          expect(error).toEqual(tooLarge);
        }
      }
      // The suites before have left OP-TEE's heap in pieces: each refusal was the error that was expected.
      if (shm === undefined) return;
      expect(await rejection(session.invoke(TA.TEST_TA_TOUCH, [shm.inout()]))).toMatchObject({
        code: 'TEE_ERROR_OUT_OF_MEMORY',
        message: expect.stringContaining(`it was given ${shm.size} bytes of memory`),
      });
      await session.invoke(TA.TEST_TA_TOUCH, [shm.inout({ offset: shm.size - 2 * MiB })]);
      shm.close();
    }));
});

describe('large temporary buffers', () => {
  const guest = useTee();

  test('4 MiB each way', () =>
    withSession(guest.tee, async (session) => {
      const bytes = new Uint8Array(4 * MiB).fill(1);
      const [, copy] = await session.invoke(TA.TEST_TA_COPY, [buffer.in(bytes), buffer.out(bytes.length)]);
      expect(Buffer.from(copy).equals(bytes)).toBe(true);
    }));

  test('beyond what OP-TEE can map: an error that says so, and the session is still good', () =>
    withSession(guest.tee, async (session) => {
      const failed: (TeeError | TeeSystemError)[] = [];
      for (const size of [8, 16, 32, 64]) {
        const bytes = new Uint8Array(size * MiB);
        try {
          await session.invoke(TA.TEST_TA_TOUCH, [buffer.in(bytes), buffer.out(bytes.length)]);
          expect(failed).toEqual([]);
        } catch (error) {
          failed.push(error as TeeError | TeeSystemError);
          expect((error as Error).message).toContain(`${2 * size * MiB} bytes`);
          expect((error as Error).message).toMatch(/pass (less at a time|them in smaller parts)$/);
          if (error instanceof TeeError) expect(error.code).toBe('TEE_ERROR_OUT_OF_MEMORY');
          else expect(error).toBeInstanceOf(TeeSystemError);
        }
        expect(await session.invoke(TA.TEST_TA_VALUES, [value.inout(size)])).toEqual([{ a: size + 1, b: 2 }]);
      }
      expect(failed.length).toBeGreaterThan(0);
    }));

  test('without a trace in the log of the kernel', async () => {
    // Of SHM_ALLOC the kernel complains beyond 4 MiB, so it is not asked.
    const tee = TeeContext.open({ registration: false } as TeeContextOptions);
    const noAllocation = expect.objectContaining({ code: 'ENOMEM', operation: 'TEE_IOC_SHM_ALLOC' });
    await expect(tee.allocSharedMemory(4 * MiB + 1)).rejects.toEqual(noAllocation);
    const session = await tee.openSession(TEST_TA);
    const bytes = new Uint8Array(3 * MiB);
    const both = [buffer.in(bytes), buffer.out(bytes.length)];
    await expect(session.invoke(TA.TEST_TA_TOUCH, both)).rejects.toEqual(noAllocation);
    await tee.close();
    expect(await kernelWarnings()).toEqual(warningsAtStart);
  });
});

describe('handles', () => {
  const guest = useTee();

  test('pages that were closed go, though their closed object is still there', async () => {
    await collectGarbage(100); // what earlier tests left
    const mappings = (): number => census()['memfd mappings'] ?? 0;
    const before = mappings();
    const closed = Array.from({ length: 10 }, () => {
      const shm = guest.tee.allocSharedMemorySync(4096);
      expect(shm.buffer?.byteLength).toBe(4096);
      shm.close();
      return shm;
    });
    for (let i = 0; i < 30 && mappings() > before; i++) await collectGarbage(100);
    expect(mappings()).toBeLessThanOrEqual(before);
    for (const shm of closed) expect(shm.buffer?.byteLength).toBe(0);
  });

  test('pages that were closed do not pile up until the collector happens to come', async () => {
    const { closed, left } = lastLine(await child('pile')) as { closed: number; left: number };
    expect(left).toBeLessThanOrEqual(closed - 20);
  });

  test('a handle that is lost is noticed', async () => {
    const before = lost.length;
    await (async () => {
      const tee = TeeContext.open();
      tee.allocSharedMemorySync(123);
      await tee.close();
      const other = TeeContext.open();
      other.allocSharedMemorySync(321);
    })();
    for (let i = 0; i < 30 && lost.length === before; i++) await collectGarbage();
    // What closed with its context was not lost.
    expect(lost.splice(before).join()).toMatch(/^(?!.*123).*(A SharedMemory of 321 bytes|A TeeContext of)/);
  });
});

describe('until the TEE is full', () => {
  const guest = useTee();

  /** How often it takes the same memory, and the error of once too often; all are closed again. */
  function fill(): { pieces: number; error: Error | undefined } {
    const all: SharedMemory[] = [];
    const memory = new Uint8Array(new SharedArrayBuffer(MiB));
    try {
      while (all.length < 10_000) all.push(guest.tee.registerSharedMemorySync(memory));
      return { pieces: all.length, error: undefined };
    } catch (error) {
      return { pieces: all.length, error: error as Error };
    } finally {
      for (const shm of all) shm.close();
    }
  }

  /** One in a thousand times OP-TEE's heap is so fragmented that only half of it can be used. */
  function expectAsMany(pieces: number): void {
    const again = [fill().pieces, fill().pieces, fill().pieces].sort((a, b) => a - b);
    expect(again[1]).toBeGreaterThan(0.8 * pieces);
  }

  test('the error says so, and what was closed makes room at once', () => {
    const { pieces, error } = fill();
    expect(error).toMatchObject({ code: expect.stringMatching(/^E(INVAL|NOMEM)$/) });
    expect(error?.message).toMatch(/close what is not needed|out of memory/);
    expect(pieces).toBeGreaterThan(16);
    expectAsMany(pieces);
  });

  test('also while a call is in the TEE', () =>
    withSession(guest.tee, async (session) => {
      const { pieces } = fill();
      const controller = new AbortController();
      const waiting = session.invoke(TA.TEST_TA_WAIT, [value.in(5000)], { signal: controller.signal });
      expectAsMany(pieces);
      controller.abort();
      await waiting.catch((error: Error) => expect(error.name).toBe('AbortError'));
    }));
});

describe('registered memory', () => {
  const guest = useTee();

  test('is the memory of the caller', () =>
    withSession(guest.tee, async (session) => {
      const memory = new SharedArrayBuffer(3 * 4096 + 17);
      const bytes = new Uint8Array(memory, 5, 2 * 4096);
      const shm = guest.tee.registerSharedMemorySync(bytes);
      expect(shm.size).toBe(bytes.length);
      expect(shm.buffer).toBeUndefined();
      await session.invoke(TA.TEST_TA_FILL, [shm.inout({ offset: 1, size: 3 }), value.in(4)]);
      expect([...bytes.subarray(0, 5)]).toEqual([0, 4, 4, 4, 0]);
      expect([...shm.read(0, 5)]).toEqual([0, 4, 4, 4, 0]);
      shm.write(Buffer.from([1]), 0);
      expect(bytes[0]).toBe(1);
      shm.close();
      expect(bytes[1]).toBe(4);
    }));

  test('what can move or shrink is refused', () => {
    const resizable = new (ArrayBuffer as unknown as new (size: number, o: object) => ArrayBuffer)(8, {
      maxByteLength: 16,
    });
    const growable = new (SharedArrayBuffer as unknown as new (size: number, o: object) => SharedArrayBuffer)(
      8,
      {
        maxByteLength: 16,
      },
    );
    for (const [view, code, message] of [
      [
        new Uint8Array(8),
        'ERR_INVALID_ARG_VALUE',
        /^view must be over a SharedArrayBuffer.*allocSharedMemory/,
      ],
      [Buffer.alloc(8), 'ERR_INVALID_ARG_VALUE', /SharedArrayBuffer/],
      [new Uint8Array(resizable), 'ERR_INVALID_ARG_VALUE', /SharedArrayBuffer/],
      [new Uint8Array(growable), 'ERR_INVALID_ARG_VALUE', /fixed length, not a growable one/],
      [new Uint8Array(new SharedArrayBuffer(0)), 'ERR_INVALID_ARG_VALUE', /must not be empty/],
      [new Uint16Array(new SharedArrayBuffer(8)), 'ERR_INVALID_ARG_TYPE', /Uint8Array/],
      [new SharedArrayBuffer(8), 'ERR_INVALID_ARG_TYPE', /Uint8Array/],
    ] as const) {
      expect(() => guest.tee.registerSharedMemorySync(view as Uint8Array)).toThrow(
        expect.objectContaining({ code, message: expect.stringMatching(message) }),
      );
    }
  });

  test('memory of WebAssembly', () =>
    withSession(guest.tee, async (session) => {
      const memory = new WebAssembly.Memory({ initial: 1, maximum: 4, shared: true });
      const bytes = new Uint8Array(memory.buffer);
      const shm = guest.tee.registerSharedMemorySync(bytes);
      memory.grow(1);
      await session.invoke(TA.TEST_TA_FILL, [shm.inout({ size: 2 }), value.in(6)]);
      expect([...new Uint8Array(memory.buffer, 0, 3)]).toEqual([6, 6, 0]);
      shm.close();
    }));

  test('where the TEE takes none', async () => {
    const tee = TeeContext.open({ registration: false } as TeeContextOptions);
    expect(() => tee.registerSharedMemorySync(new Uint8Array(new SharedArrayBuffer(8)))).toThrow(
      expect.objectContaining({
        code: 'ERR_TEE_NOT_SUPPORTED',
        message: expect.stringContaining('use allocSharedMemory'),
      }),
    );
    await tee.close();
  });
});
