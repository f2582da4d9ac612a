/**
 * A little of everything, for each version of Node in turn. With Node's own test runner: Jest takes the guest more
 * time than all of this.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { buffer, DmaHeap, TeeContext, TeeError, value, type Session } from 'node-optee';
import { census, collectGarbage, PROTECTED_HEAP, TEST_TA } from '../support/census.js';
import * as TA from '../support/test-ta.js';

const atFirst = census();
let tee: TeeContext;
let session: Session;

before(async () => {
  tee = TeeContext.open();
  session = await tee.openSession(TEST_TA);
});

after(async () => {
  await tee.close();
  // Pages of an ArrayBuffer go when the collector has taken it.
  for (let i = 0; i < 20 && !isDeepStrictEqual(census(), atFirst); i++) await collectGarbage(10);
  assert.deepEqual(census(), atFirst, 'nothing is left');
});

void test('this is the Node.js that was asked for', () => {
  assert.equal(process.versions.node.split('.')[0], process.env['NODE_OPTEE_NODE']);
});

void test('the device and what it can do', () => {
  assert.deepEqual(TeeContext.list(), [{ path: '/dev/tee0', version: tee.version }]);
  assert.deepEqual(tee.version, {
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

void test('values and buffers, asynchronous and blocking', async () => {
  assert.equal(session.uuid, TEST_TA);
  assert.deepEqual(await session.invoke(TA.TEST_TA_NOTHING), []);
  assert.deepEqual(session.invokeSync(TA.TEST_TA_VALUES, [value.inout(41, 0), value.out()]), [
    { a: 42, b: 2 },
    { a: 41, b: 0 },
  ]);
  const text = Buffer.from('smoke');
  const [copy] = await session.invoke(TA.TEST_TA_TRANSFORM, [buffer.inout(text)]);
  assert.deepEqual(copy, new Uint8Array(text.map((byte) => byte ^ 0xa5)));
  assert.equal(text.toString(), 'smoke');
});

void test('shared memory is the same bytes on both sides', async () => {
  const shm = tee.allocSharedMemorySync(8192);
  const bytes = new Uint8Array(shm.buffer as ArrayBuffer);
  bytes.fill(1);
  await session.invoke(TA.TEST_TA_FILL, [shm.inout({ offset: 4096, size: 10 }), value.in(7)]);
  assert.deepEqual([...bytes.subarray(4094, 4108)], [1, 1, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 1, 1]);
  assert.deepEqual([...shm.read(4095, 2)], [1, 7]);
  shm.close();
  assert.equal(bytes.length, 0);
});

void test("a caller's SharedArrayBuffer", async () => {
  const view = new Uint8Array(new SharedArrayBuffer(6001), 1000, 5000);
  const shm = tee.registerSharedMemorySync(view);
  await session.invoke(TA.TEST_TA_FILL, [shm.inout({ offset: 10, size: 2 }), value.in(9)]);
  assert.deepEqual([...view.subarray(9, 13)], [0, 9, 9, 0]);
  shm.close();
});

void test('a dma-buf of the protected heap', async () => {
  const heap = DmaHeap.open(PROTECTED_HEAP);
  const dma = heap.allocSync(1 << 16);
  const shm = tee.registerDmaBufSync(dma);
  await session.invoke(TA.TEST_TA_FILL, [shm.inout(), value.in(3)]);
  const [, sum] = await session.invoke(TA.TEST_TA_CHECKSUM, [shm.in(), value.out()]);
  assert.equal(sum.a, 3 << 16);
  shm.close();
  dma.close();
  heap.close();
});

void test('everything can be disposed of', async () => {
  const context = TeeContext.open();
  const another = await context.openSession(TEST_TA);
  const shm = context.allocSharedMemorySync(1);
  shm[Symbol.dispose]();
  assert.equal(shm.closed, true);
  await another[Symbol.asyncDispose]();
  assert.equal(another.closed, true);
  (await context.openSession(TEST_TA))[Symbol.dispose]();
  await context[Symbol.asyncDispose]();
  assert.equal(context.closed, true);
});

void test('a short buffer, an abort', async () => {
  await assert.rejects(session.invoke(TA.TEST_TA_WRITE, [buffer.out(10), value.in(20)]), (error) => {
    assert.ok(error instanceof TeeError);
    assert.equal(error.code, 'TEE_ERROR_SHORT_BUFFER');
    const [short] = error.outputs;
    assert.ok(short !== undefined && 'size' in short);
    assert.equal(short.size, 20);
    return true;
  });
  const signal = AbortSignal.timeout(50);
  await assert.rejects(session.invoke(TA.TEST_TA_WAIT, [value.in(10_000)], { signal }), (error: Error) => {
    assert.equal(error.name, 'AbortError');
    assert.equal((error as Error & { code: string }).code, 'ABORT_ERR');
    assert.equal(error.cause, signal.reason);
    return true;
  });
});
