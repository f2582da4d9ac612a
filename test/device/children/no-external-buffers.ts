/**
 * Everything that is done with memory, where the runtime does not allow buffers over memory from outside: as nothing of
 * it depends on them, nothing waits for the garbage collector either. Prints what was held at the beginning and is at
 * the end.
 */
import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import {
  buffer,
  DmaHeap,
  TeeContext,
  TeeError,
  value,
  type Session,
  type TeeContextOptions,
} from 'node-optee';
import { census, PROTECTED_HEAP, TEST_TA, type Census } from '../../support/census.js';
import * as TA from '../../support/test-ta.js';

const LARGEST = 200_000;

/** What TEST_TA_WRITE writes, and TEST_TA_TRANSFORM makes of it. */
const PATTERN = new Uint8Array(LARGEST).map((_, i) => i % 251);
const TRANSFORMED = PATTERN.map((byte) => byte ^ 0xa5);
const written = (size: number): Uint8Array => PATTERN.subarray(0, size);

async function sharedMemory(tee: TeeContext, session: Session): Promise<void> {
  for (const shm of [await tee.allocSharedMemory(10_000), tee.allocSharedMemorySync(10_000)]) {
    const bytes = (): number | undefined => shm.buffer?.byteLength;
    assert.deepEqual([bytes(), bytes()], [undefined, undefined]);
    shm.write(written(1000), 9000);
    assert.deepEqual(shm.read(9000), written(1000));
    const [, sum] = session.invokeSync(TA.TEST_TA_CHECKSUM, [shm.in(), value.out()]);
    assert.equal(
      sum.a,
      written(1000).reduce((all, byte) => all + byte, 0),
    );
    const [size] = await session.invoke(TA.TEST_TA_WRITE, [shm.out({ offset: 1 }), value.in(500)]);
    assert.equal(size, 500);
    assert.deepEqual(shm.read(1, 500), written(500));
    shm.close();
    assert.equal(bytes(), 0);
    assert.throws(() => shm.read(), { code: 'ERR_TEE_CLOSED' });
  }
  // Closed under a call, and with its context.
  const shm = await tee.allocSharedMemory(4096);
  const filled = session.invoke(TA.TEST_TA_FILL, [shm.inout(), value.in(8)]);
  shm.close();
  assert.deepEqual(await filled, [4096, undefined]);
  tee.allocSharedMemorySync(LARGEST).write(PATTERN);
}

async function registeredMemory(tee: TeeContext, session: Session): Promise<void> {
  const view = new Uint8Array(new SharedArrayBuffer(5000), 10, 4096);
  const shm = await tee.registerSharedMemory(view);
  await session.invoke(TA.TEST_TA_FILL, [shm.inout({ offset: 4000 }), value.in(7)]);
  assert.deepEqual([...view.subarray(3999, 4002)], [0, 7, 7]);
  assert.deepEqual([...shm.read(3999, 2)], [0, 7]);
  shm.close();
}

async function dmaBufs(tee: TeeContext, session: Session): Promise<void> {
  const system = DmaHeap.open('system');
  const mappable = await system.alloc(1 << 20);
  for (let tries = 0; tries < 2; tries++) {
    assert.throws(() => mappable.map(), {
      code: 'ERR_TEE_NOT_SUPPORTED',
      message: /does not allow an ArrayBuffer/,
    });
  }
  mappable.close();
  system.close();
  const heap = DmaHeap.open(PROTECTED_HEAP);
  const dma = await heap.alloc(1 << 16);
  assert.throws(() => dma.map(), { name: 'TeeSystemError', syscall: 'mmap' });
  const shm = await tee.registerDmaBuf(dma);
  await session.invoke(TA.TEST_TA_FILL, [shm.inout(), value.in(3)]);
  const [, sum] = await session.invoke(TA.TEST_TA_CHECKSUM, [shm.in(), value.out()]);
  assert.equal(sum.a, 3 << 16);
  for (const closed of [shm, dma, heap]) closed.close();
}

async function temporaryBuffers(session: Session): Promise<void> {
  for (const size of [0, 1, 16, 4096, 5000, 65536, 70_000, LARGEST]) {
    const into = Buffer.alloc(size);
    const asked = [buffer.out(size), value.in(size)] as const;
    assert.deepEqual((await session.invoke(TA.TEST_TA_WRITE, asked))[0], written(size));
    assert.deepEqual(session.invokeSync(TA.TEST_TA_WRITE, asked, { wipe: true })[0], written(size));
    const mine = [buffer.into(into), value.in(size)] as const;
    const [whole] = await session.invoke(TA.TEST_TA_WRITE, mine);
    assert.equal(whole, into);
    const [changed] = session.invokeSync(TA.TEST_TA_TRANSFORM, [buffer.inPlace(into)]);
    assert.equal(changed, into);
    assert.deepEqual(new Uint8Array(into), TRANSFORMED.subarray(0, size));
    const [back] = await session.invoke(TA.TEST_TA_TRANSFORM, [buffer.inout(into)]);
    assert.deepEqual(back, written(size));
  }
  // Many at the same time, told of together.
  const all = Array.from({ length: 100 }, (_, i) =>
    session.invoke(TA.TEST_TA_WRITE, [buffer.out(i * 50), value.in(i * 50)]),
  );
  session.invokeSync(TA.TEST_TA_NOTHING);
  for (const [i, [out]] of (await Promise.all(all)).entries()) assert.deepEqual(out, written(i * 50));
}

async function errors(session: Session): Promise<void> {
  await assert.rejects(
    session.invoke(TA.TEST_TA_RESULT, [value.in(5, 4), buffer.out(10)]),
    (error) =>
      error instanceof TeeError && Buffer.alloc(4).equals((error.outputs[1] as { data: Uint8Array }).data),
  );
  const signal = AbortSignal.timeout(50);
  await assert.rejects(session.invoke(TA.TEST_TA_WAIT, [value.in(20_000)], { signal }), {
    code: 'ABORT_ERR',
  });
}

/** @param registration false: as where a TEE cannot register memory */
async function all(registration: boolean): Promise<void> {
  const tee = TeeContext.open({ registration } as TeeContextOptions);
  const params = [undefined, undefined, buffer.in(written(50)), buffer.out(64)] as const;
  const session = await tee.openSession(TEST_TA, { params });
  assert.deepEqual(session.outputs[3], written(50).slice().reverse());
  await sharedMemory(tee, session);
  if (registration) await registeredMemory(tee, session);
  await dmaBufs(tee, session);
  await temporaryBuffers(session);
  await errors(session);
  await tee.close();
}

async function main(): Promise<void> {
  const before = census();
  await all(true);
  await all(false);
  let after: Census = {};
  for (let i = 0; i < 50; i++) {
    after = census();
    if (JSON.stringify(after) === JSON.stringify(before)) break;
    await delay(100); // a thread of the addon may still be about to release something
  }
  console.log(JSON.stringify({ before, after }));
}

void main();
