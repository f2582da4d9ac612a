import { describe, expect, test } from '@jest/globals';
import { buffer, TeeError, value, type Parameter, type Session } from 'node-optee';
import { rejection, statistics, TEST_TA, useTee, withSession } from '../support/device.js';
import * as TA from '../support/test-ta.js';

const guest = useTee();

/** How the TA saw its parameters. */
async function seen(session: Session): Promise<{ type: number; flags: number; a: number; b: number }[]> {
  const [bytes] = await session.invoke(TA.TEST_TA_PARAMS_READ, [buffer.out(64)]);
  const words = new Uint32Array(bytes.slice().buffer);
  return [0, 4, 8, 12].map((i) => ({
    type: words[i],
    flags: words[i + 1],
    a: words[i + 2],
    b: words[i + 3],
  }));
}

test('the array of parameters is the caller’s again at once', () =>
  withSession(guest.tee, async (session) => {
    const params: (Parameter<Uint8Array> | Parameter<undefined> | undefined)[] = [
      buffer.out(40),
      value.in(40),
    ];
    const written = session.invoke(TA.TEST_TA_WRITE, params);
    params[0] = buffer.out(10);
    expect((await written)[0]).toHaveLength(40);
    const short = rejection<TeeError>(session.invoke(TA.TEST_TA_WRITE, params));
    params.splice(0);
    const error = await short;
    expect(error).toMatchObject({ code: 'TEE_ERROR_SHORT_BUFFER', outputs: [{ size: 40 }, undefined] });
    expect(error.message).toContain('params[0] needs 40 bytes');
  }));

test('a blocking call refuses what could not abort it', () =>
  withSession(guest.tee, (session) => {
    const options = { signal: new AbortController().signal } as object;
    for (const call of [
      () => session.invokeSync(TA.TEST_TA_NOTHING, [], options),
      () => guest.tee.openSessionSync(TEST_TA, options),
    ]) {
      expect(call).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
    }
  }));

test('a signal of somebody’s own making harms nobody', () =>
  withSession(guest.tee, async (session) => {
    const remove = (): void => {
      session.invokeSync(TA.TEST_TA_TRANSFORM, [buffer.inout(new Uint8Array(32).fill(1))]);
      throw new Error('thrown on purpose');
    };
    const signal = { aborted: false, addEventListener: () => undefined, removeEventListener: remove };
    const call = (byte: number, options = {}) =>
      session.invoke(TA.TEST_TA_TRANSFORM, [buffer.inout(new Uint8Array(32).fill(byte))], options);
    const answers = await Promise.all([call(2, { signal }), call(3, { signal }), call(4)]);
    expect(answers.map(([bytes]) => bytes[31])).toEqual([2, 3, 4].map((byte) => byte ^ 0xa5));
    const half = { aborted: false, addEventListener: () => undefined };
    await expect(session.invoke(0, [], { signal: half } as never)).rejects.toMatchObject({
      code: 'ERR_INVALID_ARG_TYPE',
    });
  }));

test('a signal that calls its listener after the call has ended does not reach a later one', () =>
  withSession(guest.tee, async (session) => {
    const listeners: (() => void)[] = [];
    const signal = {
      aborted: false,
      addEventListener: (_: string, listener: () => void) => void listeners.push(listener),
      removeEventListener: () => undefined,
    };
    await session.invoke(TA.TEST_TA_NOTHING, [], { signal } as never);
    const text = new Uint8Array(32).fill(7);
    // The first is in the TEE, the others wait for it; one of them has the id of the call that has ended.
    const later = [1, 2, 3].map(() => session.invoke(TA.TEST_TA_TRANSFORM, [buffer.inout(text)]));
    for (const listener of listeners) listener();
    expect(listeners).toHaveLength(1);
    expect((await Promise.all(later)).map(([bytes]) => bytes[0])).toEqual(
      [7, 7, 7].map((byte) => byte ^ 0xa5),
    );
  }));

describe('every kind of parameter', () => {
  test('values', () =>
    withSession(guest.tee, async (session) => {
      expect(
        await session.invoke(TA.TEST_TA_VALUES, [
          value.in(0xffffffff, 1),
          value.inout(3, 0xfffffffe),
          value.out(),
          undefined,
        ]),
      ).toEqual([undefined, { a: 4, b: 0 }, { a: 2, b: 0xffffffff }, undefined]);
      await session.invoke(TA.TEST_TA_PARAMS, [undefined, value.in(1, 2), value.out(), value.inout(3)]);
      expect(await seen(session)).toEqual([
        { type: 0, flags: 0, a: 0, b: 0 },
        { type: 1, flags: 0, a: 1, b: 2 },
        { type: 2, flags: 0, a: 0, b: 0 },
        { type: 3, flags: 0, a: 3, b: 0 },
      ]);
    }));

  test('buffers: empty is not NULL', () =>
    withSession(guest.tee, async (session) => {
      await session.invoke(TA.TEST_TA_PARAMS, [
        buffer.in(new Uint8Array(0)),
        buffer.null('in'),
        buffer.out(0),
        buffer.null('inout'),
      ]);
      const [first, second, third, fourth] = await seen(session);
      expect(first).toMatchObject({ type: 5, flags: 0, a: 0 });
      expect(second).toMatchObject({ type: 5, flags: TA.TEST_TA_PARAM_NULL, a: 0 });
      expect(third).toMatchObject({ type: 6, flags: 0, a: 0 });
      expect(fourth).toMatchObject({ type: 7, flags: TA.TEST_TA_PARAM_NULL, a: 0 });
    }));

  test('whole and partial shared memory', () =>
    withSession(guest.tee, async (session) => {
      const shm = guest.tee.allocSharedMemorySync(9000);
      try {
        const params = [
          shm.in(),
          shm.out({ offset: 100, size: 50 }),
          shm.inout({ offset: 8999 }),
          shm.in({ size: 0 }),
        ];
        await session.invoke(TA.TEST_TA_PARAMS, params);
        expect(await seen(session)).toMatchObject([
          { type: 5, flags: TA.TEST_TA_PARAM_NONSECURE, a: 9000, b: 0 },
          { type: 6, a: 50, b: 100 },
          { type: 7, a: 1, b: 8999 - 8192 },
          { type: 5, a: 0 },
        ]);
      } finally {
        shm.close();
      }
    }));

  test.each([1, 16, 4095, 4096, 4097, 65536, 1 << 20])('%d bytes in, out and inout', (size) =>
    withSession(guest.tee, async (session) => {
      const bytes = new Uint8Array(size).map((_, i) => i * 13);
      const [, copy] = await session.invoke(TA.TEST_TA_COPY, [buffer.in(bytes), buffer.out(size)]);
      expect(Buffer.from(copy).equals(bytes)).toBe(true);
      const [changed] = session.invokeSync(TA.TEST_TA_TRANSFORM, [buffer.inout(bytes)]);
      expect(Buffer.from(changed).equals(bytes.map((byte) => byte ^ 0xa5))).toBe(true);
    }),
  );

  test('parameters can be used again, also at the same time', () =>
    withSession(guest.tee, async (session) => {
      const params = [buffer.in(Buffer.from('again')), buffer.out(5)] as const;
      const found = await Promise.all([1, 2, 3, 4].map(() => session.invoke(TA.TEST_TA_COPY, params)));
      for (const [, copy] of found) expect(Buffer.from(copy).toString()).toBe('again');
      expect(new Set(found.map(([, copy]) => copy.buffer)).size).toBe(4);
    }));
});

describe('inputs', () => {
  test('are copied before invoke returns, and never change', () =>
    withSession(guest.tee, async (session) => {
      const bytes = Buffer.from('before');
      const done = session.invoke(TA.TEST_TA_COPY, [buffer.in(bytes), buffer.out(6)]);
      bytes.write('after!');
      expect(Buffer.from((await done)[1]).toString()).toBe('before');
      const poke = Buffer.from('poked!');
      await session.invoke(TA.TEST_TA_POKE, [buffer.in(bytes), buffer.in(poke), value.in(0, 6)]);
      expect(bytes.toString()).toBe('after!');
    }));

  test('can be a part of a larger buffer, or over a SharedArrayBuffer', () =>
    withSession(guest.tee, async (session) => {
      const shared = new Uint8Array(new SharedArrayBuffer(20)).fill(5);
      const [, a] = await session.invoke(TA.TEST_TA_COPY, [buffer.in(shared.subarray(3, 7)), buffer.out(9)]);
      expect(a).toEqual(new Uint8Array(4).fill(5));
      const [, b] = session.invokeSync(TA.TEST_TA_COPY, [
        buffer.in(Buffer.alloc(99, 6).subarray(1, 3)),
        buffer.out(2),
      ]);
      expect(b).toEqual(new Uint8Array(2).fill(6));
    }));
});

describe('outputs', () => {
  test.each([0, 1, 99, 100])('are cut to the %d of 100 bytes that the TA wrote', (size) =>
    withSession(guest.tee, async (session) => {
      const wanted = new Uint8Array(size).map((_, i) => i);
      const [out] = await session.invoke(TA.TEST_TA_WRITE, [buffer.out(100), value.in(size)]);
      expect(out).toEqual(wanted);
      expect(out.buffer.byteLength).toBe(size);
      expect(
        session.invokeSync(TA.TEST_TA_WRITE, [buffer.inout(new Uint8Array(100)), value.in(size)])[0],
      ).toEqual(wanted);
      const shm = guest.tee.allocSharedMemorySync(100);
      expect(session.invokeSync(TA.TEST_TA_WRITE, [shm.out(), value.in(size)])[0]).toBe(size);
      shm.close();
    }),
  );

  test('a short buffer says what it needs; NULL asks the same', () =>
    withSession(guest.tee, async (session) => {
      const shm = guest.tee.allocSharedMemorySync(100);
      for (const out of [buffer.out(10), buffer.null('out'), shm.out({ size: 10 })]) {
        const error = await rejection<TeeError>(session.invoke(TA.TEST_TA_WRITE, [out, value.in(77)]));
        expect(error).toMatchObject({
          name: 'TeeError',
          code: 'TEE_ERROR_SHORT_BUFFER',
          origin: 'trusted-app',
          command: TA.TEST_TA_WRITE,
          uuid: session.uuid,
          outputs: [{ size: 77 }, undefined],
        });
        expect(error.message).toContain('params[0] needs 77 bytes');
        expect(() => session.invokeSync(TA.TEST_TA_WRITE, [out, value.in(77)])).toThrow(
          expect.objectContaining({
            code: 'TEE_ERROR_SHORT_BUFFER',
            outputs: [expect.objectContaining({ size: 77 }), undefined],
          }),
        );
      }
      shm.close();
    }));

  test("a TA's own result, with values and sizes as it left them", () =>
    withSession(guest.tee, async (session) => {
      const error = await rejection<TeeError>(
        session.invoke(TA.TEST_TA_RESULT, [value.in(0x12345678, 50), buffer.out(4), value.out()]),
      );
      expect(error).toMatchObject({
        code: 'TEE_0x12345678',
        result: 0x12345678,
        origin: 'trusted-app',
        originCode: 4,
        outputs: [undefined, { size: 50, data: new Uint8Array(4) }, { a: 0xedcba987, b: 50 }],
      });
    }));

  test('a TA that claims to have written more than there was room for', () =>
    withSession(guest.tee, async (session) => {
      const shm = guest.tee.allocSharedMemorySync(64);
      const claim = value.in(0, 0x7fffffff);
      const [, out] = await session.invoke(TA.TEST_TA_RESULT, [claim, buffer.out(4)]);
      expect(out).toHaveLength(4);
      expect(await session.invoke(TA.TEST_TA_RESULT, [claim, shm.out({ size: 8 })])).toEqual([
        undefined,
        0x7fffffff,
      ]);
      shm.close();
    }));
});

describe("memory of other calls' buffers", () => {
  const secret = new Uint8Array(4000).fill(0x5a);

  /** What a TA finds in the page of a buffer of one byte. */
  async function page(session: Session, options = {}): Promise<Buffer> {
    const params = [buffer.inout(new Uint8Array(1)), buffer.out(4096), value.in(0, 4096)] as const;
    const [, bytes] = await session.invoke(TA.TEST_TA_PEEK, params, options);
    return Buffer.from(bytes);
  }

  test('is never seen by another session', async () => {
    const first = await guest.open();
    const second = await guest.open();
    try {
      const touch = (): Promise<unknown> =>
        first.invoke(TA.TEST_TA_TOUCH, [buffer.in(secret), buffer.inout(secret)]);
      await touch();
      const { temporaryRegistrations } = statistics(guest.tee) ?? {};
      for (let i = 0; i < 4; i++) {
        await touch();
        expect((await page(second)).includes(0x5a)).toBe(false);
      }
      // The same two pages.
      expect(statistics(guest.tee)?.temporaryRegistrations).toBe(temporaryRegistrations);
    } finally {
      await Promise.all([first.close(), second.close()]);
    }
  });

  test('is zeroed after a call with wipe', () =>
    withSession(guest.tee, async (session) => {
      for (let i = 0; i < 4; i++) {
        await session.invoke(TA.TEST_TA_TOUCH, [buffer.in(secret), buffer.inout(secret)], { wipe: true });
        expect((await page(session)).includes(0x5a)).toBe(false);
        session.invokeSync(TA.TEST_TA_TOUCH, [buffer.in(secret), buffer.inout(secret)], { wipe: true });
        expect((await page(session)).includes(0x5a)).toBe(false);
      }
    }));

  test('does not reach JavaScript, whatever a TA writes beyond what it was given', () =>
    withSession(guest.tee, async (session) => {
      const bytes = new Uint8Array(4096).fill(0x77);
      const poke = [buffer.inout(new Uint8Array(16)), buffer.in(bytes), value.in(0, 4096)] as const;
      const [small] = await session.invoke(TA.TEST_TA_POKE, poke);
      expect(small).toEqual(new Uint8Array(16).fill(0x77));
      const { temporaryRegistrations } = statistics(guest.tee) ?? {};
      // Nor later: the same two pages serve all of these.
      const claim = value.in(0, 4096);
      for (let i = 0; i < 2; i++) {
        const answer = await session.invoke(TA.TEST_TA_RESULT, [claim, buffer.out(8192)]);
        expect(answer[1]).toEqual(new Uint8Array(4096));
        await session.invoke(TA.TEST_TA_POKE, poke);
        await withSession(guest.tee, async (other) => {
          expect((await page(other)).includes(0x77)).toBe(false);
        });
        await session.invoke(TA.TEST_TA_POKE, poke);
      }
      expect(statistics(guest.tee)?.temporaryRegistrations).toBe(temporaryRegistrations);
    }));

  test('does not reach JavaScript where a TA says that it wrote and did not', () =>
    withSession(guest.tee, async (session) => {
      // The same page of temporary memory: one slot of that size is enough for calls one after the other.
      const { temporaryRegistrations } = statistics(guest.tee) ?? {};
      const soil = (): Promise<unknown> => session.invoke(TA.TEST_TA_TRANSFORM, [buffer.inout(secret)]);
      await soil();
      const claim = value.in(0, 4096);
      const zeros = new Uint8Array(4096);
      for (let i = 0; i < 2; i++) {
        await soil();
        expect((await session.invoke(TA.TEST_TA_RESULT, [claim, buffer.out(4096)]))[1]).toEqual(zeros);
        await soil();
        expect(session.invokeSync(TA.TEST_TA_RESULT, [claim, buffer.out(4096)])[1]).toEqual(zeros);
        await soil();
        const into = buffer.into(new Uint8Array(4096).fill(1));
        expect(session.invokeSync(TA.TEST_TA_RESULT, [claim, into])[1]).toEqual(zeros);
      }
      expect(statistics(guest.tee)?.temporaryRegistrations).toBeLessThanOrEqual(
        (temporaryRegistrations ?? NaN) + 1,
      );
    }));
});

describe('refused before the kernel sees it', () => {
  const five = [value.in(1), value.in(1), value.in(1), value.in(1), value.in(1)];

  test('more than four parameters', () =>
    withSession(guest.tee, async (session) => {
      const expected = { code: 'ERR_OUT_OF_RANGE', message: 'params.length must be at most 4, not 5' };
      expect(await rejection(session.invoke(0, five))).toMatchObject(expected);
      expect(() => session.invokeSync(0, five)).toThrow(expect.objectContaining(expected));
      expect(await rejection(guest.open(undefined, { params: five }))).toMatchObject(expected);
    }));

  test('wrong arguments are rejections, with the name of what is wrong', () =>
    withSession(guest.tee, async (session) => {
      for (const [call, message] of [
        [() => session.invoke(-1), 'command must be a whole number from 0 to 4294967295, not -1'],
        [() => session.invoke('1' as never), "command must be a number, not string '1'"],
        [() => session.invoke(1, {} as never), 'params must be an array, not {}'],
        [() => session.invoke(1, [], null as never), 'options must be an object, not null'],
        [
          () => session.invoke(1, [], { signal: {} as never }),
          'options.signal must be an AbortSignal, not {}',
        ],
        [() => session.invoke(1, [], { wipe: 1 as never }), 'options.wipe must be a boolean, not number 1'],
        [() => guest.tee.openSession('x'), /^uuid must be 32 hexadecimal digits/],
        [() => guest.open(undefined, { login: 'user' as never }), /^options.login must be a Login/],
      ] as const) {
        const error = await rejection(call());
        expect(error).toBeInstanceOf(Error);
        expect(error.message).toEqual(typeof message === 'string' ? message : expect.stringMatching(message));
      }
    }));
});
