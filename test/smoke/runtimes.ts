/**
 * A little of everything for Bun and Deno: what they have of Node-API, of workers and of the event loop is their own.
 * Prints a line for each part, and the counts that scripts/test.mjs reads.
 */
import assert from 'node:assert/strict';
import { buffer, DmaHeap, TeeContext, TeeError, value } from 'node-optee';
import { PROTECTED_HEAP, TEST_TA } from '../support/census.js';
import * as TA from '../support/test-ta.js';

const parts: [name: string, run: () => unknown][] = [];
const part = (name: string, run: () => unknown): unknown => parts.push([name, run]);

const tee = TeeContext.open();

part('the device', () => assert.deepEqual(TeeContext.list(), [{ path: '/dev/tee0', version: tee.version }]));

part('calls, asynchronous and blocking', async () => {
  const session = await tee.openSession(TEST_TA);
  assert.deepEqual(await session.invoke(TA.TEST_TA_NOTHING), []);
  assert.deepEqual(session.invokeSync(TA.TEST_TA_VALUES, [value.inout(41, 0), value.out()]), [
    { a: 42, b: 2 },
    { a: 41, b: 0 },
  ]);
  const text = Buffer.from('smoke');
  const [copy] = await session.invoke(TA.TEST_TA_TRANSFORM, [buffer.inout(text)]);
  assert.deepEqual([...copy], [...text.map((byte) => byte ^ 0xa5)]);
  const many = Array.from({ length: 50 }, (_, a) => session.invoke(TA.TEST_TA_VALUES, [value.inout(a, 0)]));
  assert.deepEqual(
    (await Promise.all(many)).map(([{ a }]) => a),
    many.map((_, a) => a + 1),
  );
  await session.close();
});

part('memory: shared, and a dma-buf of the protected heap', async () => {
  const session = await tee.openSession(TEST_TA);
  const shm = await tee.allocSharedMemory(8192);
  shm.write(new Uint8Array(8192).fill(1));
  await session.invoke(TA.TEST_TA_FILL, [shm.inout({ offset: 4096, size: 10 }), value.in(7)]);
  assert.deepEqual([...shm.read(4094, 4)], [1, 1, 7, 7]);
  if (shm.buffer !== undefined) assert.equal(new Uint8Array(shm.buffer)[4096], 7);
  shm.close();
  const heap = DmaHeap.open(PROTECTED_HEAP);
  const dma = await heap.alloc(1 << 16);
  const registered = await tee.registerDmaBuf(dma);
  await session.invoke(TA.TEST_TA_FILL, [registered.inout(), value.in(3)]);
  const [, sum] = await session.invoke(TA.TEST_TA_CHECKSUM, [registered.in(), value.out()]);
  assert.equal(sum.a, 3 << 16);
  for (const thing of [registered, dma, heap]) thing.close();
  await session.close();
});

part('errors and an abort', async () => {
  const session = await tee.openSession(TEST_TA);
  await assert.rejects(session.invoke(TA.TEST_TA_WRITE, [buffer.out(10), value.in(20)]), (error) => {
    assert.ok(error instanceof TeeError);
    assert.equal(error.code, 'TEE_ERROR_SHORT_BUFFER');
    return true;
  });
  const signal = AbortSignal.timeout(50);
  await assert.rejects(session.invoke(TA.TEST_TA_WAIT, [value.in(10_000)], { signal }), {
    code: 'ABORT_ERR',
  });
  await session.close();
});

part('everything is closed, and the process may end', () => tee.close());

void (async () => {
  let failed = 0;
  for (const [name, run] of parts) {
    try {
      await run();
      console.log(`ok ${name}`);
    } catch (error) {
      failed++;
      console.log(`not ok ${name}:`, error);
    }
  }
  console.log(`# pass ${parts.length - failed}\n# fail ${failed}`);
  process.exitCode = failed > 0 ? 1 : 0;
})();
