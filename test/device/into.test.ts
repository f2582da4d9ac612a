/** Outputs of temporary buffers in memory of the caller's own: `buffer.into` and `buffer.inPlace`. */
import { describe, expect, test } from '@jest/globals';
import { buffer, TeeError, value, type Params, type Session } from 'node-optee';
import { rejection, statistics, TEST_TA, until, useTee, withSession } from '../support/device.js';
import * as TA from '../support/test-ta.js';

const guest = useTee();

/** What TEST_TA_WRITE writes. */
const written = (size: number): Buffer => Buffer.from(Array.from({ length: size }, (_, i) => i % 251));
const equal = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

/** Blocking and not. */
const WAYS = {
  invoke: (session: Session, command: number, params: Params) => session.invoke(command, params),
  invokeSync: async (session: Session, command: number, params: Params) =>
    session.invokeSync(command, params),
} as const;

describe.each(Object.entries(WAYS))('%s', (_, call) => {
  test.each([0, 1, 16, 4096, 10_000, 65536, 1 << 20])('%d bytes', (size) =>
    withSession(guest.tee, async (session) => {
      const into = new Uint8Array(size).fill(9);
      const [whole] = await call(session, TA.TEST_TA_WRITE, [buffer.into(into), value.in(size)]);
      expect(whole).toBe(into);
      expect(equal(into, written(size))).toBe(true);
      const [changed] = await call(session, TA.TEST_TA_TRANSFORM, [buffer.inPlace(into)]);
      expect(changed).toBe(into);
      expect(
        equal(
          into,
          written(size).map((byte) => byte ^ 0xa5),
        ),
      ).toBe(true);
    }),
  );

  test('the part that the TA wrote is brought back; the rest stays as it was', () =>
    withSession(guest.tee, async (session) => {
      for (const way of ['into', 'inPlace'] as const) {
        const all = new Uint8Array(new SharedArrayBuffer(200)).fill(9);
        const [part] = (await call(session, TA.TEST_TA_WRITE, [
          buffer[way](all.subarray(50, 150)),
          value.in(60),
        ])) as Uint8Array[];
        expect(part.buffer).toBe(all.buffer);
        expect([part.byteOffset, part.byteLength]).toEqual([50, 60]);
        expect(equal(part, written(60))).toBe(true);
        expect(all.filter((byte, i) => (i < 50 || i >= 110) && byte !== 9)).toHaveLength(0);
      }
    }));

  test('a TA that claims to have written more than there was room for', () =>
    withSession(guest.tee, async (session) => {
      const all = new Uint8Array(8).fill(9);
      const claim = value.in(0, 0x7fffffff);
      const [out] = await call(session, TA.TEST_TA_RESULT, [claim, buffer.into(all.subarray(2, 6))]).then(
        ([, second]) => [second as Uint8Array],
      );
      expect([out.byteOffset, out.byteLength]).toEqual([2, 4]);
      // Nothing was written, and nothing of another call is there either.
      expect([...all]).toEqual([9, 9, 0, 0, 0, 0, 9, 9]);
    }));

  test('a call that fails leaves them as they were', () =>
    withSession(guest.tee, async (session) => {
      const into = new Uint8Array(10).fill(9);
      const short = await rejection<TeeError>(
        call(session, TA.TEST_TA_WRITE, [buffer.into(into), value.in(77)]),
      );
      expect(short).toMatchObject({ code: 'TEE_ERROR_SHORT_BUFFER', outputs: [{ size: 77 }, undefined] });
      expect(short.message).toContain('[buffer.into of 10 bytes, value.in]: params[0] needs 77 bytes');
      const failed = await rejection<TeeError>(
        call(session, TA.TEST_TA_RESULT, [value.in(5, 4), buffer.into(into)]),
      );
      expect(failed).toMatchObject({ result: 5, outputs: [undefined, { size: 4 }] });
      expect(equal(into, new Uint8Array(10).fill(9))).toBe(true);
    }));

  test('two of them, beside others', () =>
    withSession(guest.tee, async (session) => {
      const first = new Uint8Array(16).fill(7);
      const second = new Uint8Array(100).fill(9);
      const found = await call(session, TA.TEST_TA_PEEK, [
        buffer.inPlace(first),
        buffer.into(second),
        value.in(0, 100),
      ]);
      expect(found).toEqual([first, second, undefined]);
      expect([...first]).toEqual(Array(16).fill(7));
      expect([...second]).toEqual([...Array<number>(16).fill(7), ...Array<number>(84).fill(0)]);
    }));

  test('memory that grows while the call is under way', () =>
    withSession(guest.tee, async (session) => {
      const memory = resizable(100, 9000);
      const done = call(session, TA.TEST_TA_WRITE, [buffer.into(new Uint8Array(memory)), value.in(100)]);
      memory.resize(9000);
      const [out] = (await done) as Uint8Array[];
      // What is brought back is what the TA wrote, also where the array itself is longer now.
      expect(equal(out.subarray(0, 100), written(100))).toBe(true);
      if (call === WAYS.invoke) expect(out).toHaveLength(100);
    }));
});

test('calls at the same time, each into its own', () =>
  withSession(guest.tee, async (session) => {
    const calls = Array.from({ length: 70 }, (_, i) => {
      const into = new Uint8Array(100 + i);
      return { into, done: session.invoke(TA.TEST_TA_TRANSFORM, [buffer.inPlace(into.fill(i))]) };
    });
    // Behind all of them, so that they are told of together, in two batches.
    session.invokeSync(TA.TEST_TA_NOTHING);
    for (const [i, { into, done }] of calls.entries()) {
      expect((await done)[0]).toBe(into);
      expect(equal(into, new Uint8Array(100 + i).fill(i ^ 0xa5))).toBe(true);
    }
  }));

test('what goes in is copied before invoke returns', () =>
  withSession(guest.tee, async (session) => {
    const bytes = written(64);
    const done = session.invoke(TA.TEST_TA_TRANSFORM, [buffer.inPlace(bytes)]);
    bytes.fill(0);
    expect(
      equal(
        (await done)[0],
        written(64).map((byte) => byte ^ 0xa5),
      ),
    ).toBe(true);
  }));

test('bytes that are changed in place are as they were if the call fails', () =>
  withSession(guest.tee, async (session) => {
    const bytes = new Uint8Array(10).fill(9);
    const failing = rejection<TeeError>(
      session.invoke(TA.TEST_TA_RESULT, [value.in(5, 4), buffer.inPlace(bytes)]),
    );
    bytes.fill(8); // what went in was copied, so a copy back would be seen
    expect(await failing).toMatchObject({ result: 5, outputs: [undefined, { size: 4 }] });
    expect(equal(bytes, new Uint8Array(10).fill(8))).toBe(true);
  }));

test('with wipe', () =>
  withSession(guest.tee, async (session) => {
    const into = new Uint8Array(64);
    const params = [buffer.into(into), value.in(64)] as const;
    for (const call of [
      () => session.invoke(TA.TEST_TA_WRITE, params, { wipe: true }),
      () => session.invokeSync(TA.TEST_TA_WRITE, params, { wipe: true }),
    ]) {
      await call();
      expect(equal(into, written(64))).toBe(true);
      into.fill(0);
    }
  }));

test('of the opening of a session', async () => {
  const kept = written(50);
  const reversed = Buffer.from(kept).reverse();
  const into = new Uint8Array(200);
  const params = [undefined, undefined, buffer.in(kept), buffer.into(into)] as const;
  for (const open of [
    () => guest.open(TEST_TA, { params }),
    () => guest.tee.openSessionSync(TEST_TA, { params }),
  ]) {
    const session = await open();
    const [, , , out] = session.outputs as Uint8Array[];
    expect(out.buffer).toBe(into.buffer);
    expect(out.byteLength).toBe(50);
    expect(equal(out, reversed)).toBe(true);
    into.fill(0);
    await session.close();
  }
});

/** ES2024; Node.js 20 has it. */
function resizable(size: number, maxByteLength: number): ArrayBuffer & { resize(size: number): void } {
  const make = ArrayBuffer as unknown as new (
    size: number,
    options: { maxByteLength: number },
  ) => ArrayBuffer;
  return new make(size, { maxByteLength }) as ArrayBuffer & { resize(size: number): void };
}

describe('memory that is no longer there when the call has ended', () => {
  test.each(['transferred', 'made smaller'])('%s', (how) =>
    withSession(guest.tee, async (session) => {
      const memory = resizable(5000, 9000);
      const done = rejection(
        session.invoke(TA.TEST_TA_WRITE, [buffer.into(new Uint8Array(memory, 0, 5000)), value.in(5000)]),
      );
      if (how === 'transferred') structuredClone(memory, { transfer: [memory] });
      else memory.resize(4999);
      expect(await done).toMatchObject({
        code: 'ERR_INVALID_ARG_VALUE',
        message: expect.stringMatching(
          /^params\[0\] has no room any more for the 5000 bytes.* which itself has succeeded$/,
        ),
      });
      // The session is as good as before.
      expect(await session.invoke(TA.TEST_TA_VALUES, [value.inout(1)])).toEqual([{ a: 2, b: 2 }]);
    }),
  );

  test('a session that arrives without its output is closed', async () => {
    const sessions = (): number | undefined => statistics(guest.tee)?.sessions;
    const before = sessions();
    const into = new Uint8Array(100);
    const opening = rejection(
      guest.open(TEST_TA, { params: [undefined, undefined, buffer.in(written(100)), buffer.into(into)] }),
    );
    structuredClone(into, { transfer: [into.buffer] });
    expect(await opening).toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
    await until(() => sessions() === before);
  });
});
