/**
 * Cases of OP-TEE's own suite (optee_test), by their numbers there, against the same TAs. What is not here is about
 * the TEE's inside, or needs what Debian's package does not have.
 */
import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import { beforeAll, describe, expect, test } from '@jest/globals';
import {
  buffer,
  DmaHeap,
  value,
  type Parameter,
  type Session,
  type SharedMemory,
  type TeeError,
} from 'node-optee';
import {
  native,
  ParamKind,
  Place,
  RequestPlace,
  Status,
  type ContextHandle,
  type SessionHandle,
  type SharedMemoryHandle,
} from '#lib/client/native';
import { parseUuid } from '#lib/client/uuid';
import {
  child,
  CONCURRENT,
  CREATE_FAIL,
  LARGE,
  lastLine,
  OS_TEST,
  PROTECTED_HEAP,
  PTA_INVOKE_TESTS,
  rejection,
  SIMS,
  TEST_TA,
  timed,
  useTee,
  withSession,
} from '../support/device.js';
import * as TA from '../support/test-ta.js';

const guest = useTee();
const withOsTest = <T>(use: (session: Session) => T | Promise<T>): Promise<T> =>
  withSession(guest.tee, use, OS_TEST);

test('1002: 16 KiB to a PTA and back', () =>
  withSession(
    guest.tee,
    async (session) => {
      const bytes = new Uint8Array(16384).map((_, i) => i + 1);
      const sum = bytes.reduce((a, b) => (a + b) & 0xff, 0);
      const [back] = await session.invoke(1, [buffer.inout(bytes)]);
      expect(back[0]).toBe(sum);
      expect(back.subarray(1)).toEqual(bytes.subarray(1));
    },
    PTA_INVOKE_TESTS,
  ));

test('1005: many sessions', async () => {
  const sessions = await Promise.all([1, 2, 3].map(() => guest.open(CONCURRENT)));
  await Promise.all(sessions.map((session) => session.close()));
});

test('1006: a temporary input, and the basic functions of a TA', () =>
  withOsTest((session) => session.invoke(5, [buffer.in(new Uint8Array(32))])));

test('1007: a panic, and what comes after it', () =>
  withOsTest(async (session) => {
    for (const command of [6, 0]) {
      const error = await rejection<TeeError>(session.invoke(command));
      expect(error).toMatchObject({
        code: 'TEE_ERROR_TARGET_DEAD',
        result: 0xffff3024,
        origin: 'tee',
        command,
      });
      expect(error.message).toContain('close it and open another');
    }
    await withOsTest((another) => another.invoke(9, [value.in(1)]));
  }));

describe('1008', () => {
  test('TA to TA', () => withOsTest((session) => session.invoke(7)));
  test('a TA whose creation fails', async () => {
    const error = await rejection<TeeError>(guest.open(CREATE_FAIL));
    expect(error).toMatchObject({ code: 'TEE_ERROR_GENERIC', result: 0xffff0000, uuid: CREATE_FAIL });
    expect(error.command).toBeUndefined();
  });
});

describe('1009: TEE_Wait', () => {
  test.each([100, 500, 2000])('%d ms', (ms) =>
    withOsTest(async (session) => {
      const { took } = await timed(() => session.invoke(9, [value.in(ms)]));
      expect(took).toBeGreaterThan(ms - 20);
    }),
  );
  test('2000 ms with a cancel after 500 ms ends with TEE_ERROR_CANCEL, but only when its time is over', () =>
    withOsTest(async (session) => {
      const signal = AbortSignal.timeout(500);
      const { value: error, took } = await timed(() =>
        rejection<Error & { teeError?: TeeError }>(session.invoke(9, [value.in(2000)], { signal })),
      );
      expect(error).toMatchObject({ name: 'AbortError', cause: signal.reason });
      expect(error.teeError).toMatchObject({ result: 0xffff0002 });
      expect(took).toBeGreaterThan(1900);
    }));
});

describe('1010: invalid memory access', () => {
  test.each([1, 2, 3, 4, 5, 7])('%d', (kind) =>
    withOsTest(async (session) => {
      const error = await rejection(session.invoke(10, [value.in(kind)]));
      expect(error).toMatchObject({ code: 'TEE_ERROR_TARGET_DEAD', origin: 'tee' });
    }),
  );
});

test('1012: single instance, several sessions', () =>
  withSession(
    guest.tee,
    async (first) => {
      const bytes = Buffer.from(createHash('sha256').update('1012').digest());
      await first.invoke(2, [value.in(0), buffer.in(bytes)]);
      for (let i = 1; i < 3; i++) {
        await withSession(
          guest.tee,
          async (second) => {
            const [, out] = await second.invoke(1, [value.in(0), buffer.out(32)]);
            expect(Buffer.from(out)).toEqual(bytes);
            expect(await first.invoke(3, [value.out()])).toMatchObject([{ a: 0 }]);
            expect(await second.invoke(3, [value.out()])).toMatchObject([{ a: i }]);
          },
          SIMS,
        );
      }
    },
    SIMS,
  ));

test('1013: calls of several sessions at the same time', async () => {
  const shared = guest.tee.allocSharedMemorySync(8);
  const sessions = await Promise.all([1, 2].map(() => guest.open(CONCURRENT)));
  try {
    // The first may be done before the second begins, so the work grows until they meet; on one processor until the
    // kernel lets them take turns.
    let most = 0;
    for (let rounds = 100_000; most < 2 && rounds <= 6_400_000; rounds *= 4) {
      const found = await Promise.all(
        sessions.map((session) => session.invoke(0, [shared.inout(), value.inout(rounds)])),
      );
      // b: how many were active when this one began.
      most = Math.max(...found.map(([, { b }]) => b));
    }
    expect(most).toBe(2);
  } finally {
    await Promise.all(sessions.map((session) => session.close()));
    shared.close();
  }
});

describe('1014: dma-bufs of the protected heap', () => {
  const SIZE = 17000;

  async function withProtected<T>(use: (shm: SharedMemory) => Promise<T>): Promise<T> {
    const heap = DmaHeap.open(PROTECTED_HEAP);
    const dma = heap.allocSync(SIZE);
    const shm = guest.tee.registerDmaBufSync(dma);
    dma.close();
    heap.close();
    try {
      expect(shm.size).toBeGreaterThanOrEqual(SIZE);
      return await use(shm);
    } finally {
      shm.close();
    }
  }

  /** Runs a command in the session's own instance of the test TA, or has that pass it on to another instance. */
  async function invoke(
    session: Session,
    second: boolean,
    command: number,
    a: Parameter<unknown>,
    b?: Parameter<unknown>,
  ): Promise<unknown[]> {
    if (!second) return session.invoke(command, [a, b]);
    return (await session.invoke(TA.TEST_TA_FORWARD, [value.in(command), a, b])).slice(1);
  }

  test.each([false, true])('fill, change and dump at offsets 0 to 255; through a second TA: %s', (second) =>
    withProtected((shm) =>
      withSession(guest.tee, async (session) => {
        const bytes = new Uint8Array(SIZE).map((_, i) => i * 7);
        const changed = bytes.map((byte) => byte ^ 0xa5);
        for (let offset = 0; offset < 256; offset++) {
          const size = SIZE - offset;
          const range = { offset, size };
          const part = bytes.subarray(0, size);
          await invoke(session, second, TA.TEST_TA_COPY, buffer.in(part), shm.out(range));
          await invoke(session, second, TA.TEST_TA_TRANSFORM, shm.inout(range));
          const [, dump] = await invoke(session, second, TA.TEST_TA_COPY, shm.in(range), buffer.out(size));
          expect(Buffer.compare(dump as Uint8Array, changed.subarray(0, size))).toBe(0);
        }
      }),
    ),
  );

  test('references out of bounds never reach the TA', () =>
    withProtected((shm) =>
      withSession(guest.tee, async (session) => {
        await session.invoke(TA.TEST_TA_COUNT, [value.inout(0)]);
        for (const range of [
          { offset: shm.size + 1 },
          { offset: 1, size: shm.size },
          { offset: shm.size, size: 1 },
          { size: 2 ** 53 - 1 },
          { offset: 2 ** 53 - 1, size: 2 ** 53 - 1 },
        ]) {
          expect(() => shm.in(range)).toThrow(expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }));
        }
        expect(await session.invoke(TA.TEST_TA_COUNT, [value.inout(0)])).toEqual([{ a: 2, b: 0 }]);
      }),
    ));

  test('references out of bounds are refused by the addon, too', async () => {
    // Without the checks of TypeScript.
    const n = native();
    n.openContext('/dev/tee0', 1, 0, true);
    const context = n.answer.number(Place.made) as ContextHandle;
    const heap = DmaHeap.open(PROTECTED_HEAP);
    const dma = heap.allocSync(SIZE);
    n.registerDmaBuf(context, dma.fd, true);
    const memory = n.answer.number(Place.made) as SharedMemoryHandle;
    const none = [undefined, undefined, undefined, undefined] as const;
    n.request.set([context, 0, 0, 0]);
    n.openSessionSync(...none, parseUuid(TEST_TA), new Uint8Array(16));
    const session = n.answer.number(Place.made) as SessionHandle;
    const invoke = (offset: number, size: number): number => {
      n.request.set([session, TA.TEST_TA_TOUCH, 0, 2]);
      n.request.set(
        [ParamKind.none, 0, 0, 0, ParamKind.sharedInout, offset, size, memory],
        RequestPlace.kind,
      );
      n.invokeSync(...none);
      return n.answer.number(Place.status);
    };
    try {
      expect(invoke(dma.size - 1, 1)).toBe(Status.answered);
      expect(n.answer.number(Place.result)).toBe(0);
      for (const [offset, size] of [
        [dma.size + 1, 0],
        [1, dma.size],
        [dma.size, 1],
        [0, 2 ** 53 - 1],
        [2 ** 53 - 1, 2 ** 53 - 1],
      ] as const) {
        expect(invoke(offset, size)).toBe(Status.outOfBounds);
        expect(n.answer.number(Place.detail)).toBe(1);
      }
    } finally {
      const closing = n.closeContext(context);
      await new Promise<void>((resolve) => n.settle.set(closing, () => () => void resolve()));
      dma.close();
      heap.close();
    }
  });

  test.each([3, 4, 5])(
    'PTA command %d with protected memory straight from the normal world fails, and does nothing',
    (command) =>
      withProtected((shm) =>
        withSession(guest.tee, async (own) => {
          const small = { size: 256 };
          const secret = new Uint8Array(256).map((_, i) => i + 1);
          await own.invoke(TA.TEST_TA_COPY, [buffer.in(secret), shm.out(small)]);
          const params = {
            3: [buffer.in(new Uint8Array(256)), shm.out(small)],
            4: [shm.inout(small)],
            5: [shm.in(small), buffer.out(256)],
          }[command] as Parameter<unknown>[];
          const error = await withSession(
            guest.tee,
            (session) => rejection<TeeError>(session.invoke(command, params as never)),
            PTA_INVOKE_TESTS,
          );
          expect(error).toMatchObject({
            code: 'TEE_ERROR_BAD_PARAMETERS',
            origin: 'tee',
            message: expect.stringContaining('TA_FLAG_SECURE_DATA_PATH'),
          });
          const [, kept] = await own.invoke(TA.TEST_TA_COPY, [shm.in(small), buffer.out(256)]);
          expect(Buffer.compare(kept, secret)).toBe(0);
          for (const output of error.outputs) {
            if (output !== undefined && 'data' in output) expect(output.data).toEqual(new Uint8Array(256));
          }
        }),
      ),
  );
});

describe('1016: empty buffers from TA to TA', () => {
  test('a TA passes memory of its own', () => withOsTest((session) => session.invoke(11)));
  test('empty, but not NULL', () =>
    withOsTest(async (session) => {
      const none = new Uint8Array(0);
      expect(await session.invoke(37, [buffer.in(none), buffer.inout(none), buffer.out(0)])).toEqual([
        undefined,
        none,
        none,
      ]);
    }));
});

test('1018: out of bounds of shared memory', () => {
  for (const shm of [
    guest.tee.allocSharedMemorySync(6001),
    guest.tee.registerSharedMemorySync(new Uint8Array(new SharedArrayBuffer(6001))),
  ]) {
    const half = Math.floor(shm.size / 2);
    expect(() => shm.in({ offset: shm.size - half + 1, size: half })).toThrow(
      'range.size must be a whole number from 0 to 2999, not 3000',
    );
    shm.close();
  }
});

describe('1025: NULL buffers', () => {
  const none = new Uint8Array(0);
  test('beside empty ones', () =>
    withOsTest((session) =>
      session.invoke(19, [buffer.in(none), buffer.null('in'), buffer.out(0), buffer.null('out')]),
    ));
  test('beside one that is not empty', () =>
    withOsTest(async (session) => {
      const error = await rejection(
        session.invoke(19, [
          buffer.in(new Uint8Array(1)),
          buffer.null('in'),
          buffer.out(0),
          buffer.null('out'),
        ]),
      );
      expect(error).toMatchObject({ code: 'TEE_ERROR_BAD_PARAMETERS' });
    }));
  test('to a PTA', () =>
    withSession(guest.tee, (session) => session.invoke(10, [buffer.null('inout')]), PTA_INVOKE_TESTS));
});

describe('1026 to 1028: who the client is', () => {
  /** The kernel's version 5 UUID. */
  function identity(name: string): string {
    const namespace = parseUuid('58ac9ca0-2086-4683-a1b8-ec4bc08e01b6');
    const bytes = createHash('sha1').update(namespace).update(name).digest().subarray(0, 16);
    bytes[6] = (bytes[6] & 0x0f) | 0x50;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    return bytes.toString('hex');
  }
  /** Neither root nor a group of the same number, and a member of the device's group. */
  const [uid, gid] = [1001, 1000];
  const teeGroup = statSync('/dev/tee0').gid;
  let found: Record<string, unknown>;
  beforeAll(async () => {
    found = lastLine(await child('identity', [uid, gid, teeGroup].map(String))) as typeof found;
  });

  test.each([
    [1026, 'public', 0, '0'.repeat(32)],
    [1027, 'user', 1, identity(`uid=${uid.toString(16)}`)],
    [1028, `group(${gid})`, 2, identity(`gid=${gid.toString(16)}`)],
    [1028, `group(${teeGroup})`, 2, identity(`gid=${teeGroup.toString(16)}`)],
  ])('%d: %s', (_, login, method, uuid) => {
    // Of os_test, then of the test TA.
    expect(found[login]).toEqual([method, uuid, method, uuid]);
  });

  test('1028: the kernel does not vouch for a group that the process is not in', () => {
    expect(found['group(0)']).toBe('EPERM');
  });

  test('the identities of uid 0 and gid 1000', () => {
    expect(identity('uid=0')).toBe('ef0180a313f35d1cb7f5888c0e21059a');
    expect(identity('gid=3e8')).toBe('0ece43ed001d51bdbab7480c8954c3cf');
  });
});

test('1034: a large TA opens, or the TEE says that it has no memory for it', async () => {
  try {
    await (await guest.open(LARGE)).close();
  } catch (error) {
    expect(error).toMatchObject({ code: 'TEE_ERROR_OUT_OF_MEMORY' });
  }
});
