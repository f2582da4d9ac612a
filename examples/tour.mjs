// The tour that `npm run demo` gives: every kind of thing that one does with a Trusted Application, in one session.
// It needs our test TA (test/ta) and runs wherever there is a /dev/tee0: in the guest, or on a board.
import { performance } from 'node:perf_hooks';
import { DmaHeap, TeeContext, buffer, value } from 'node-optee';

// The TA's interface, see test/ta/include/node_optee_test_ta.h.
const TEST_TA = '346e01a1-3d71-4feb-894b-ae252d064bde';
const [VALUES, TRANSFORM, COPY, CHECKSUM, FILL, WAIT] = [1, 3, 4, 5, 6, 9];

let step = 0;
/** Says what is done, does it, and says what came back and how long it took. */
async function show(title, work) {
  const start = performance.now();
  const answer = await work();
  const took = performance.now() - start;
  console.log(`\n${++step}. ${title}   (${took.toFixed(1)} ms)`);
  for (const line of [answer].flat()) console.log(`   ${line}`);
}

const tee = TeeContext.open();
try {
  await show('Which TEE is there?', () => {
    const { implementation, path, capabilities } = tee.version;
    const able = Object.keys(capabilities).filter((name) => capabilities[name]);
    return [`${implementation} at ${path}`, `it can: ${able.join(', ')}`];
  });

  let session;
  await show(`Open a session with the TA ${TEST_TA}`, async () => {
    session = await tee.openSession(TEST_TA);
    return 'the TA was loaded by tee-supplicant, verified by OP-TEE, and runs in the secure world';
  });

  await show('A value that the TA changes', async () => {
    const [answer] = await session.invoke(VALUES, [value.inout(41, 40)]);
    return `value.inout(41, 40) came back as { a: ${answer.a}, b: ${answer.b} }`;
  });

  await show('Text through a temporary buffer', async () => {
    const text = 'Hello, secure world';
    const [scrambled] = await session.invoke(TRANSFORM, [buffer.inout(Buffer.from(text))]);
    const [clear] = await session.invoke(TRANSFORM, [buffer.inout(scrambled)]);
    return [
      `'${text}' came back as ${Buffer.from(scrambled).toString('hex')}`,
      `and once more: '${Buffer.from(clear)}'`,
    ];
  });

  await show('Shared memory, changed in place: nothing is copied', async () => {
    const shm = await tee.allocSharedMemory(65536);
    try {
      const bytes = new Uint8Array(shm.buffer);
      bytes.fill(0);
      await session.invoke(FILL, [shm.inout(), value.in(0x5a), value.in(100, 3)]);
      const written = [...bytes.subarray(98, 106)].map((byte) => byte.toString(16).padStart(2, '0'));
      return [
        `${shm.size} bytes shared; the TA was asked for 3 bytes of 5a at offset 100`,
        `bytes 98 to 105 are now ${written.join(' ')}`,
      ];
    } finally {
      shm.close();
    }
  });

  await show('A dma-buf from the protected heap: the CPU cannot read it, the TA can', async () => {
    const name = DmaHeap.list().find((heap) => heap.startsWith('protected') || heap.startsWith('sdp'));
    if (name === undefined) return 'this machine has no protected heap';
    const heap = DmaHeap.open(name);
    const dma = await heap.alloc(65536);
    const secret = await tee.registerDmaBuf(dma);
    try {
      // The TEE holds the memory now; our descriptor is not needed any more.
      dma.close();
      await session.invoke(COPY, [buffer.in(Buffer.from('frame 1')), secret.inout()]);
      const [, sum] = await session.invoke(CHECKSUM, [secret.in({ offset: 0, size: 7 }), value.out()]);
      const [, back] = await session.invoke(COPY, [secret.in(), buffer.out(7), value.in(0, 7)]);
      return [
        `65536 bytes of heap '${name}' registered as shared memory ${secret.id}`,
        `the TA wrote 7 bytes there; it computes their sum, ${sum.a}, and hands them out: '${Buffer.from(back)}'`,
      ];
    } finally {
      secret.close();
      dma.close();
      heap.close();
    }
  });

  await show('A wait of 10 s, cancelled after 300 ms', async () => {
    const { name, code, teeError } = await session
      .invoke(WAIT, [value.in(10_000)], { signal: AbortSignal.timeout(300) })
      .then(
        () => ({ name: 'nothing', code: 'it was not cancelled' }),
        (error) => error,
      );
    return `${name} (${code}); the TA itself answered ${teeError?.code}`;
  });

  await show('An error, as you will see it: an output that is too small', async () => {
    const error = await session
      .invoke(COPY, [buffer.in(new Uint8Array(100)), buffer.out(10)])
      .catch((e) => e);
    return [
      `${error.name}: ${error.message}`,
      `code ${error.code}, origin ${error.origin}; the TA needs ${error.outputs?.[1]?.size} bytes`,
    ];
  });

  await session.close();
} finally {
  await tee.close();
}
