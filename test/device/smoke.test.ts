/** A little of everything: this file alone also runs on the other versions of Node. */
import { expect, test } from '@jest/globals';
import { buffer, DmaHeap, TeeContext, TeeError, value } from 'node-optee';
import { PROTECTED_HEAP, rejection, TEST_TA, useTee, withSession } from '../support/device.js';
import * as TA from '../support/test-ta.js';

const guest = useTee();

test('the device and what it can do', () => {
  const [device, ...others] = TeeContext.list();
  expect(others).toEqual([]);
  expect(device).toEqual({ path: '/dev/tee0', version: guest.tee.version });
  expect(guest.tee.version).toEqual({
    implementation: 'optee',
    path: '/dev/tee0',
    capabilities: {
      globalPlatform: true,
      privileged: false,
      registeredMemory: true,
      nullMemref: true,
      objects: false,
    },
  });
});

test('values and buffers, asynchronous and blocking', () =>
  withSession(guest.tee, async (session) => {
    expect(session.uuid).toBe(TEST_TA);
    expect(await session.invoke(TA.TEST_TA_NOTHING)).toEqual([]);
    expect(session.invokeSync(TA.TEST_TA_VALUES, [value.inout(41, 0), value.out()])).toEqual([
      { a: 42, b: 2 },
      { a: 41, b: 0 },
    ]);
    const text = Buffer.from('smoke');
    const [copy] = await session.invoke(TA.TEST_TA_TRANSFORM, [buffer.inout(text)]);
    expect(copy).toEqual(new Uint8Array(text.map((byte) => byte ^ 0xa5)));
    expect(text.toString()).toBe('smoke');
  }));

test('shared memory is the same bytes on both sides', () =>
  withSession(guest.tee, async (session) => {
    const shm = guest.tee.allocSharedMemory(8192);
    try {
      const bytes = new Uint8Array(shm.buffer as ArrayBuffer);
      bytes.fill(1);
      await session.invoke(TA.TEST_TA_FILL, [shm.inout({ offset: 4096, size: 10 }), value.in(7)]);
      expect(bytes.subarray(4094, 4108)).toEqual(new Uint8Array([1, 1, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 1, 1]));
      expect(shm.read(4095, 2)).toEqual(new Uint8Array([1, 7]));
    } finally {
      shm.close();
    }
  }));

test("a caller's SharedArrayBuffer", () =>
  withSession(guest.tee, async (session) => {
    const view = new Uint8Array(new SharedArrayBuffer(6001), 1000, 5000);
    const shm = guest.tee.registerSharedMemory(view);
    try {
      await session.invoke(TA.TEST_TA_FILL, [shm.inout({ offset: 10, size: 2 }), value.in(9)]);
      expect([...view.subarray(9, 13)]).toEqual([0, 9, 9, 0]);
    } finally {
      shm.close();
    }
  }));

test('a dma-buf of the protected heap', () =>
  withSession(guest.tee, async (session) => {
    const heap = DmaHeap.open(PROTECTED_HEAP);
    const dma = heap.alloc(1 << 16);
    const shm = guest.tee.registerDmaBuf(dma);
    try {
      await session.invoke(TA.TEST_TA_FILL, [shm.inout(), value.in(3)]);
      const [, sum] = await session.invoke(TA.TEST_TA_CHECKSUM, [shm.in(), value.out()]);
      expect(sum.a).toBe(3 << 16);
    } finally {
      shm.close();
      dma.close();
      heap.close();
    }
  }));

test('a short buffer, an abort', () =>
  withSession(guest.tee, async (session) => {
    const short = await rejection<TeeError>(session.invoke(TA.TEST_TA_WRITE, [buffer.out(10), value.in(20)]));
    expect(short).toBeInstanceOf(TeeError);
    expect(short).toMatchObject({ code: 'TEE_ERROR_SHORT_BUFFER', outputs: [{ size: 20 }, undefined] });
    const signal = AbortSignal.timeout(50);
    const aborted = await rejection(session.invoke(TA.TEST_TA_WAIT, [value.in(10_000)], { signal }));
    expect(aborted).toMatchObject({ name: 'AbortError', code: 'ABORT_ERR', cause: signal.reason });
  }));
