import { getEventListeners } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  AbortError,
  buffer,
  reportedSize,
  TeeContext,
  TeeError,
  value,
  type Params,
  type Session,
  type SessionPool,
  type SessionPoolOptions,
} from 'node-optee';
import {
  child,
  inTee,
  lastLine,
  rejectedAtOnce,
  rejection,
  SINGLE_SESSION,
  statistics,
  TEST_TA,
  until,
  useTee,
} from '../support/device.js';
import * as TA from '../support/test-ta.js';

const guest = useTee();
const wait = (ms: number) => [value.in(ms)] as const;
const NO_TA = '00000000-1111-2222-3333-444444444444';

/** Sessions that are open in the TEE. */
const inTheTee = (): number | undefined => statistics(guest.tee)?.sessions;

/** Runs something with a pool and closes that; no session of it may be left then. */
async function withPool<T, const P extends Params = []>(
  options: SessionPoolOptions<P>,
  run: (pool: SessionPool<P>) => Promise<T>,
  uuid = TEST_TA,
): Promise<T> {
  const before = inTheTee();
  const pool = guest.tee.pool(uuid, options);
  try {
    return await run(pool);
  } finally {
    await pool.close();
    expect(inTheTee()).toBe(before);
    expect(pool.statistics()).toMatchObject({ open: 0, opening: 0, closing: 0, waiting: 0 });
  }
}

/** A session of a pool for as long as a test wants it. */
class Held {
  session: Session | undefined;
  readonly ended: Promise<unknown>;
  release: (outcome?: Error) => void = () => undefined;

  constructor(pool: SessionPool, signal?: AbortSignal) {
    const held = new Promise<void>((resolve, reject) => {
      this.release = (outcome) => (outcome === undefined ? resolve() : reject(outcome));
    });
    this.ended = pool
      .use(
        async (session) => {
          this.session = session;
          await held;
        },
        { signal },
      )
      .catch((error: unknown) => error);
  }
}

/** So many sessions of a pool, held. */
async function hold(pool: SessionPool, count: number): Promise<Held[]> {
  const held = Array.from({ length: count }, () => new Held(pool));
  await until(() => held.every(({ session }) => session !== undefined));
  return held;
}

describe('calls', () => {
  test('take what is idle, else open a session, else wait their turn', () =>
    withPool({ max: 2 }, async (pool) => {
      expect(pool.uuid).toBe(TEST_TA);
      expect(pool.statistics()).toEqual({
        open: 0,
        idle: 0,
        busy: 0,
        opening: 0,
        closing: 0,
        waiting: 0,
        opened: 0,
        closed: 0,
        replaced: 0,
        failed: 0,
      });
      expect(await pool.invoke(TA.TEST_TA_VALUES, [value.inout(41, 0), value.out()])).toEqual([
        { a: 42, b: 2 },
        { a: 41, b: 0 },
      ]);
      expect(await pool.invoke(TA.TEST_TA_COUNT, [value.inout(1)])).toEqual([{ a: 1, b: 0 }]);
      expect(pool.statistics()).toMatchObject({ open: 1, idle: 1, opened: 1 });
      // The first lasts longer than an opening does on a busy host.
      const calls = [5000, 100, 1, 1, 1, 1].map((ms) => pool.invoke(TA.TEST_TA_WAIT, wait(ms)));
      expect(pool.statistics()).toMatchObject({ busy: 1, opening: 1, waiting: 5 });
      await until(() => pool.statistics().busy === 2);
      await Promise.all(calls);
      expect(pool.statistics()).toMatchObject({ open: 2, idle: 2, busy: 0, waiting: 0, opened: 2 });
      expect(inTheTee()).toBe(2);
    }));

  test('inputs are copied before invoke returns, also where the call waits', () =>
    withPool({ max: 1 }, async (pool) => {
      const [held] = await hold(pool, 1);
      const given = Buffer.from('as it was');
      const place = Buffer.from('as it was');
      const target = Buffer.alloc(9);
      const calls = [
        pool.invoke(TA.TEST_TA_COPY, [buffer.in(given), buffer.out(9)]),
        pool.invoke(TA.TEST_TA_COPY, [buffer.in(given), buffer.into(target)]),
        pool.invoke(TA.TEST_TA_TRANSFORM, [buffer.inPlace(place)]),
        pool.invoke(TA.TEST_TA_COPY, [buffer.in(given), buffer.out(4)]).catch((error: unknown) => error),
      ] as const;
      given.fill(0);
      place.fill(0);
      held.release();
      const [copied, into, inPlace, refused] = await Promise.all(calls);
      expect(Buffer.from(copied[1]).toString()).toBe('as it was');
      expect(into[1]).toBe(target);
      expect(target.toString()).toBe('as it was');
      expect(inPlace[0]).toBe(place);
      expect(place).toEqual(Buffer.from('as it was').map((byte) => byte ^ 0xa5));
      expect(refused).toMatchObject({ code: 'TEE_ERROR_SHORT_BUFFER', outputs: [undefined, { size: 9 }] });
    }));

  test('bytes that are changed in place: what the TA wrote, its size, and bytes that are gone meanwhile', () =>
    withPool({ max: 1 }, async (pool) => {
      const resultOf = (size: number) => value.in(0, size);
      const [held] = await hold(pool, 1);
      const [part, more, gone] = [Buffer.alloc(10, 1), Buffer.alloc(10, 1), new Uint8Array(10)];
      const shorter = pool.invoke(TA.TEST_TA_RESULT, [resultOf(4), buffer.inPlace(part)]);
      const longer = pool.invoke(TA.TEST_TA_RESULT, [resultOf(99), buffer.inPlace(more)]);
      const lost = rejection(pool.invoke(TA.TEST_TA_RESULT, [resultOf(4), buffer.inPlace(gone)]));
      structuredClone(gone.buffer, { transfer: [gone.buffer] });
      held.release();
      expect((await shorter)[1]).toEqual(Buffer.alloc(4, 1));
      expect((await shorter)[1].buffer).toBe(part.buffer);
      expect((await longer)[1]).toBe(more);
      expect(reportedSize((await longer)[1])).toBe(99);
      expect(await lost).toMatchObject({
        code: 'ERR_INVALID_ARG_VALUE',
        message: expect.stringContaining('params[1] has no room any more for the 10 bytes'),
      });
    }));

  test('wrong arguments are refused at once, and take no session', () =>
    withPool({ max: 1 }, async (pool) => {
      const [held] = await hold(pool, 1);
      for (const [wrong, code] of [
        [() => pool.invoke(-1), 'ERR_OUT_OF_RANGE'],
        [() => pool.invoke(0, [1 as never]), 'ERR_INVALID_ARG_TYPE'],
        [() => pool.invoke(0, [], { wipe: 1 as never }), 'ERR_INVALID_ARG_TYPE'],
        [() => pool.invoke(0, [], { signal: {} as never }), 'ERR_INVALID_ARG_TYPE'],
        [() => pool.use(1 as never), 'ERR_INVALID_ARG_TYPE'],
        [() => pool.use(() => 1, { signal: 1 as never }), 'ERR_INVALID_ARG_TYPE'],
        [() => pool.use(() => 1, { wipe: true } as never), 'ERR_INVALID_ARG_VALUE'],
      ] as const) {
        expect(await rejectedAtOnce(wrong())).toMatchObject({ code });
      }
      expect(pool.statistics()).toMatchObject({ busy: 1, waiting: 0 });
      held.release();
    }));

  test('errors name the async functions that waited', () =>
    withPool({ max: 1 }, async (pool) => {
      const controller = new AbortController();
      const { signal } = controller;
      async function callsTheTa(): Promise<void> {
        await pool.invoke(TA.TEST_TA_RESULT, [value.in(0x80001234)], { signal });
      }
      async function usesTheTa(): Promise<void> {
        await pool.use((session) => session.invoke(TA.TEST_TA_RESULT, [value.in(0x80001234)]), { signal });
      }
      expect((await rejection(callsTheTa())).stack).toMatch(/at (async )?callsTheTa/);
      expect((await rejection(usesTheTa())).stack).toMatch(/at (async )?usesTheTa/);
      const [held] = await hold(pool, 1);
      const [calling, using] = [rejection(callsTheTa()), rejection(usesTheTa())];
      controller.abort();
      expect((await calling).stack).toMatch(/at (async )?callsTheTa/);
      expect((await using).stack).toMatch(/at (async )?usesTheTa/);
      held.release();
      const nothing = guest.tee.pool(NO_TA);
      async function opensNothing(): Promise<void> {
        await nothing.invoke(0);
      }
      const error = await rejection(opensNothing());
      expect(error).toMatchObject({ code: 'TEE_ERROR_ITEM_NOT_FOUND', uuid: NO_TA });
      expect(error.stack).toMatch(/at (async )?opensNothing/);
      await nothing.close();
    }));
});

describe('opening', () => {
  test('its parameters are those of each session, as they were', async () => {
    const bytes = Buffer.from('abc');
    const params = [value.in(0), value.inout(1, 2), buffer.in(bytes), buffer.out(10)] as const;
    await withPool({ max: 2, params }, async (pool) => {
      bytes.fill(0);
      const held = await hold(pool, 2);
      for (const { session } of held) {
        expect(session?.outputs).toEqual([
          undefined,
          { a: 2, b: 4 },
          undefined,
          new Uint8Array(Buffer.from('cba')),
        ]);
      }
      expect(held[0].session).not.toBe(held[1].session);
      held.forEach(({ release }) => release());
    });
  });

  test('shared memory is kept, and an error names it where it was closed', async () => {
    const shm = guest.tee.allocSharedMemorySync(4096);
    shm.write(Buffer.from('shared'));
    const params = [undefined, undefined, shm.in({ size: 6 }), shm.out({ offset: 100, size: 6 })] as const;
    await withPool({ max: 2, params }, async (pool) => {
      await pool.invoke(TA.TEST_TA_NOTHING);
      expect(Buffer.from(shm.read(100, 6)).toString()).toBe('derahs');
      const [held] = await hold(pool, 1);
      shm.close();
      expect(await rejection(pool.invoke(TA.TEST_TA_NOTHING))).toMatchObject({
        code: 'ERR_TEE_CLOSED',
        message: 'params[2], a SharedMemory, is closed',
      });
      held.release();
      await held.ended;
      await pool.invoke(TA.TEST_TA_NOTHING); // what is there can be used
    });
  });

  test("a TA's refusal is each request's own, and the next one asks again", () =>
    withPool({ params: [value.in(0xabcd)] }, async (pool) => {
      const errors = await Promise.all([1, 2, 3].map(() => rejection<TeeError>(pool.invoke(0))));
      for (const error of errors) expect(error).toMatchObject({ name: 'TeeError', result: 0xabcd });
      expect(new Set(errors).size).toBe(3);
      expect(pool.statistics()).toMatchObject({ open: 0, opened: 0, failed: 3 });
    }));

  test('aborted: rejected at once, and the session that arrives is kept', () =>
    withPool({ params: [value.in(0, 300)] }, async (pool) => {
      const controller = new AbortController();
      const call = rejection<AbortError>(pool.invoke(0, [], { signal: controller.signal }));
      await inTee();
      controller.abort('enough');
      expect(await call).toMatchObject({ name: 'AbortError', cause: 'enough' });
      expect(pool.statistics()).toMatchObject({ opening: 1, waiting: 0 });
      await until(() => pool.statistics().idle === 1);
      await pool.invoke(TA.TEST_TA_NOTHING);
      expect(pool.statistics()).toMatchObject({ opened: 1 });
    }));

  test('aborted before: nothing is opened', () =>
    withPool({}, async (pool) => {
      const signal = AbortSignal.abort('never');
      for (const refused of [
        () => pool.invoke(0, [], { signal }),
        () => pool.use(() => expect(false).toBe(true), { signal }),
      ]) {
        expect(await rejectedAtOnce(refused())).toMatchObject({ name: 'AbortError', cause: 'never' });
      }
      expect(pool.statistics()).toMatchObject({ opening: 0, opened: 0 });
    }));
});

describe('use', () => {
  test('brings back what the function does; its session comes back also where that throws', () =>
    withPool({ max: 1 }, async (pool) => {
      expect(await pool.use(({ uuid }) => uuid)).toBe(TEST_TA);
      const counts = await pool.use(async (session) => {
        await session.invoke(TA.TEST_TA_COUNT, [value.inout(5)]);
        return session.invoke(TA.TEST_TA_COUNT, [value.inout(6)]);
      });
      expect(counts).toEqual([{ a: 2, b: 5 }]);
      const thrown = new Error('of the function');
      const fails = (): never => {
        throw thrown;
      };
      expect(await rejection(pool.use(fails))).toBe(thrown);
      expect(await rejection(pool.use(() => Promise.reject(thrown)))).toBe(thrown);
      expect(pool.statistics()).toMatchObject({ open: 1, idle: 1, busy: 0, opened: 1 });
    }));

  test('a function that closes its session: another takes its place', () =>
    withPool({ max: 1 }, async (pool) => {
      const waiting = pool.use(async (session) => {
        void session.close();
        await delay(50);
      });
      await pool.invoke(TA.TEST_TA_NOTHING);
      await waiting;
      await until(() => pool.statistics().closed === 1);
      expect(pool.statistics()).toMatchObject({ open: 1, opened: 2, replaced: 0 });
      // One that keeps the session and closes it later.
      const kept = await pool.use((session) => session);
      const closing = kept.close();
      await pool.invoke(TA.TEST_TA_NOTHING);
      await closing;
      expect(pool.statistics()).toMatchObject({ open: 1, opened: 3 });
    }));

  test('calls that the function did not wait for run before those of the next', () =>
    withPool({ max: 1 }, async (pool) => {
      let left: Promise<unknown> = Promise.resolve();
      await pool.use((session) => {
        left = session.invoke(TA.TEST_TA_WAIT, wait(100)).then(() => session.invoke(TA.TEST_TA_NOTHING));
        void session.invoke(TA.TEST_TA_COUNT, [value.inout(7)]);
      });
      expect(await pool.invoke(TA.TEST_TA_COUNT, [value.inout(8)])).toEqual([{ a: 2, b: 7 }]);
      await left;
    }));
});

describe('replaced', () => {
  const panic = (session: Session): Promise<TeeError> =>
    rejection<TeeError>(session.invoke(TA.TEST_TA_PANIC));

  test('a session whose TA panicked, in a call or in a function that hides it', () =>
    withPool({ max: 1 }, async (pool) => {
      const call = rejection<TeeError>(pool.invoke(TA.TEST_TA_PANIC));
      const next = pool.invoke(TA.TEST_TA_COUNT, [value.inout(1)]);
      expect(await call).toMatchObject({ code: 'TEE_ERROR_TARGET_DEAD' });
      expect(await next).toEqual([{ a: 1, b: 0 }]);
      expect(pool.statistics()).toMatchObject({ open: 1, opened: 2, replaced: 1 });
      await pool.use(panic);
      await pool.invoke(TA.TEST_TA_NOTHING);
      expect(pool.statistics()).toMatchObject({ open: 1, opened: 3, replaced: 2 });
      await pool.use((session) => expect(() => session.invokeSync(TA.TEST_TA_PANIC)).toThrow('TARGET_DEAD'));
      await pool.invoke(TA.TEST_TA_NOTHING);
      expect(pool.statistics()).toMatchObject({ open: 1, opened: 4, replaced: 3 });
    }));

  test('a session that is found dead when it is idle', () =>
    withPool({ max: 1 }, async (pool) => {
      const kept = await pool.use((session) => session);
      await panic(kept);
      await pool.invoke(TA.TEST_TA_NOTHING);
      expect(pool.statistics()).toMatchObject({ open: 1, opened: 2, replaced: 1 });
    }));

  /** Aborts a call in the TEE that ends in its own way. */
  async function abortMasked(pool: SessionPool): Promise<void> {
    await pool.invoke(TA.TEST_TA_NOTHING);
    const controller = new AbortController();
    const call = pool.invoke(TA.TEST_TA_WAIT_MASKED, wait(300), { signal: controller.signal });
    await inTee();
    controller.abort();
    await call;
  }

  test('a session whose cancel may have come too late, where that is asked for', async () => {
    await withPool({ max: 1, replaceAfterCancel: true }, async (pool) => {
      await abortMasked(pool);
      await pool.invoke(TA.TEST_TA_NOTHING);
      expect(pool.statistics()).toMatchObject({ open: 1, opened: 2, replaced: 1 });
      // Of a call that ended with TEE_ERROR_CANCEL nothing is left.
      const controller = new AbortController();
      const call = rejection(pool.invoke(TA.TEST_TA_WAIT, wait(20_000), { signal: controller.signal }));
      await inTee();
      controller.abort();
      await call;
      await pool.invoke(TA.TEST_TA_NOTHING);
      expect(pool.statistics()).toMatchObject({ open: 1, opened: 2, replaced: 1 });
      // The next call of the same session took it, if it was there.
      await pool.use(async (session) => {
        const masked = new AbortController();
        const aborted = session.invoke(TA.TEST_TA_WAIT_MASKED, wait(300), { signal: masked.signal });
        await inTee();
        masked.abort();
        await aborted;
        await session.invoke(TA.TEST_TA_NOTHING);
      });
      await pool.invoke(TA.TEST_TA_NOTHING);
      expect(pool.statistics()).toMatchObject({ open: 1, opened: 2, replaced: 1 });
    });
    await withPool({ max: 1 }, async (pool) => {
      await abortMasked(pool);
      await pool.invoke(TA.TEST_TA_NOTHING);
      expect(pool.statistics()).toMatchObject({ open: 1, opened: 1, replaced: 0 });
    });
  });
});

describe('no room for one session more', () => {
  test('a TA that takes one session at a time: requests wait for the one that the pool has', () =>
    withPool(
      { max: 4 },
      async (pool) => {
        const seen = new Set<Session>();
        let [now, most] = [0, 0];
        const work = async (session: Session): Promise<void> => {
          seen.add(session);
          most = Math.max(most, ++now);
          await delay(20);
          now--;
        };
        await Promise.all(Array.from({ length: 8 }, () => pool.use(work)));
        expect([seen.size, most]).toEqual([1, 1]);
        expect(pool.statistics()).toMatchObject({ open: 1, idle: 1, opened: 1, failed: 3 });
        // It is in the way until it is closed.
        const kept = await pool.use((session) => session);
        void kept.close();
        await pool.use(work);
        expect(pool.statistics()).toMatchObject({ open: 1, opened: 2, closed: 1 });
      },
      SINGLE_SESSION,
    ));

  test('a TA whose one session is somebody else’s: requests fail with TEE_ERROR_BUSY', () =>
    withPool(
      { max: 4 },
      async (pool) => {
        const other = await guest.open(SINGLE_SESSION);
        const errors = await Promise.all([1, 2, 3].map(() => rejection(pool.use(() => 1))));
        for (const error of errors) expect(error).toMatchObject({ code: 'TEE_ERROR_BUSY', origin: 'tee' });
        await other.close();
        expect(await pool.use(() => 1)).toBe(1);
      },
      SINGLE_SESSION,
    ));

  test(
    'more sessions than the TEE has memory for: requests wait for one that the pool has',
    () =>
      withPool({ max: 500 }, async (pool) => {
        const all: Held[] = [];
        while (pool.statistics().failed === 0 && all.length < 500) {
          const held = new Held(pool);
          all.push(held);
          await until(() => held.session !== undefined || pool.statistics().failed > 0);
        }
        all.push(new Held(pool));
        expect(pool.statistics()).toMatchObject({ open: all.length - 2, failed: 1, opening: 0, waiting: 2 });
        all.forEach(({ release }) => release());
        for (const { ended } of all) expect(await ended).toBeUndefined();
      }),
    300_000,
  );
});

describe('waiting', () => {
  test('with a signal: rejected at once, out of the middle, and the order stays', () =>
    withPool({ max: 1 }, async (pool) => {
      const [held] = await hold(pool, 1);
      const order: number[] = [];
      const controllers = [0, 1, 2, 3].map(() => new AbortController());
      const requests = controllers.map(({ signal }, i) =>
        i % 2 === 0
          ? pool.use(() => void order.push(i), { signal })
          : pool.invoke(TA.TEST_TA_NOTHING, [], { signal }).then(() => void order.push(i)),
      );
      const aborted = [1, 2].map((i) => rejectedAtOnce<AbortError>(requests[i]));
      controllers[1].abort('one');
      controllers[2].abort('two');
      const [one, two] = await Promise.all(aborted);
      expect(one).toMatchObject({ name: 'AbortError', code: 'ABORT_ERR', cause: 'one' });
      expect(one?.message).toContain(`command ${TA.TEST_TA_NOTHING} of TA ${TEST_TA} did not take place`);
      expect(two).toMatchObject({ name: 'AbortError', cause: 'two' });
      expect(pool.statistics()).toMatchObject({ waiting: 2 });
      held.release();
      await Promise.all([requests[0], requests[3]]);
      expect(order).toEqual([0, 3]);
      for (const { signal } of controllers) expect(getEventListeners(signal, 'abort').length).toBe(0);
    }));

  test('aborted between the arrival of its session and its turn: the function does not begin', () =>
    withPool({ max: 1 }, async (pool) => {
      const [held] = await hold(pool, 1);
      const signal = {
        aborted: false,
        addEventListener: () => undefined,
        // When the session is handed over.
        removeEventListener: () => (signal.aborted = true),
      };
      const begins = (): never => {
        throw new Error('it began');
      };
      const next = rejection(pool.use(begins, { signal: signal as unknown as AbortSignal }));
      held.release();
      expect((await next).name).toBe('AbortError');
      expect(pool.statistics()).toMatchObject({ open: 1, idle: 1 });
    }));

  test('10,000 requests with one signal', () =>
    withPool({ max: 1 }, async (pool) => {
      const [held] = await hold(pool, 1);
      const { signal } = new AbortController();
      let done = 0;
      const all = Array.from({ length: 10_000 }, () => pool.use(() => done++, { signal }));
      held.release();
      await Promise.all(all);
      expect(done).toBe(10_000);
    }));
});

describe('closing', () => {
  test('who waits is rejected, who has a session goes on, and nothing is left', async () => {
    const pool = guest.tee.pool(TEST_TA, { max: 2 });
    const stop = new AbortController();
    const running = rejection<AbortError>(
      pool.invoke(TA.TEST_TA_WAIT, wait(60_000), { signal: stop.signal }),
    );
    const [held] = await hold(pool, 1);
    const waiting = [rejection(pool.invoke(0)), rejection(pool.use(() => 1))];
    const closing = pool.close();
    expect([pool.closed, pool.close()]).toEqual([true, closing]);
    const refused = { code: 'ERR_TEE_CLOSED', message: `the SessionPool with TA ${TEST_TA} is closed` };
    for (const error of waiting) expect(await error).toMatchObject(refused);
    expect(await rejectedAtOnce(pool.invoke(0))).toMatchObject(refused);
    expect(await rejectedAtOnce(pool.use(() => 1))).toMatchObject(refused);
    expect(await held.session?.invoke(TA.TEST_TA_VALUES, [value.inout(1)])).toEqual([{ a: 2, b: 2 }]);
    stop.abort();
    // It was in the TEE until then.
    expect((await running).teeError).toMatchObject({ code: 'TEE_ERROR_CANCEL' });
    expect(await Promise.race([closing, delay(50, 'waits')])).toBe('waits');
    held.release();
    await closing;
    expect(inTheTee()).toBe(0);
    await pool[Symbol.asyncDispose]();
    pool[Symbol.dispose]();
  });

  test('while sessions are being opened', async () => {
    const pool = guest.tee.pool(TEST_TA, { params: [value.in(0, 1000)] });
    const errors = [1, 2].map(() => rejection(pool.invoke(0)));
    await inTee();
    const closing = pool.close();
    for (const error of errors) expect(await error).toMatchObject({ code: 'ERR_TEE_CLOSED' });
    expect(pool.statistics()).toMatchObject({ opening: 2 });
    await closing;
    expect(pool.statistics()).toMatchObject({ opening: 0, opened: 2, closed: 2 });
    expect(inTheTee()).toBe(0);
  });

  test('the context under it: its pools close with it', async () => {
    const tee = TeeContext.open();
    const pools = [tee.pool(TEST_TA, { max: 1 }), tee.pool(TEST_TA)];
    await pools[1].invoke(TA.TEST_TA_NOTHING);
    const [held] = await hold(pools[0], 1);
    const waiting = rejection(pools[0].invoke(0));
    const opening = rejection(pools[1].use(async () => pools[1].use(() => 1)));
    const closing = tee.close();
    expect(pools.map(({ closed }) => closed)).toEqual([true, true]);
    expect(held.session?.closed).toBe(true);
    for (const error of [await waiting, await opening, await rejection(pools[0].invoke(0))]) {
      expect(error).toMatchObject({ code: 'ERR_TEE_CLOSED' });
    }
    await closing; // does not wait for who has a session, which is closed
    const ended = pools.map((pool) => pool.close());
    expect(await Promise.race([ended[0], delay(20, 'waits')])).toBe('waits');
    held.release();
    await Promise.all(ended);
    for (const pool of pools) {
      expect(pool.statistics()).toMatchObject({ open: 0, opening: 0, closing: 0, waiting: 0 });
    }
    expect(() => tee.pool(TEST_TA)).toThrow(expect.objectContaining({ code: 'ERR_TEE_CLOSED' }));
  });

  test('right behind its context: not before the TEE has closed all sessions', async () => {
    const tee = TeeContext.open();
    const other = await tee.openSession(TEST_TA);
    const pool = tee.pool(TEST_TA, { max: 1 });
    await pool.invoke(TA.TEST_TA_NOTHING);
    const order: string[] = [];
    const tell = (what: string) => (): unknown => order.push(what);
    const ends = [
      other.invoke(TA.TEST_TA_WAIT, wait(100)).then(tell('call')),
      tee.close().then(tell('closed')),
      pool.close().then(tell('closed')),
    ];
    await Promise.all(ends);
    expect(order).toEqual(['call', 'closed', 'closed']);
  });

  test('idle sessions, after their time', () =>
    withPool({ idle: 100 }, async (pool) => {
      await pool.invoke(TA.TEST_TA_NOTHING);
      expect(inTheTee()).toBe(1);
      await until(() => inTheTee() === 0);
      await until(() => pool.statistics().closed === 1);
      await pool.invoke(TA.TEST_TA_NOTHING);
      expect(pool.statistics()).toMatchObject({ opened: 2 });
    }));
});

test('a pool that is lost, one that nobody closes at the end, and one whose sessions are idle', async () => {
  const result = await child('lost-pool');
  expect(lastLine(result)).toEqual({
    warnings: [
      `A SessionPool with TA ${TEST_TA} was closed by the garbage collector; close it when it is no longer needed (said once for all of kind SessionPool)`,
    ],
    sessions: [2, 0],
    busy: 1,
    ended: 'by itself',
  });
}, 60_000);

describe('anything in any order', () => {
  const MAX = 3;

  /** What the pool should be like. */
  interface Model {
    idle: number;
    /** Requests by their number: who has a session, and who waits. */
    having: number[];
    waiting: number[];
    asked: number;
  }

  interface Real {
    readonly pool: SessionPool;
    readonly held: Held[];
    readonly controllers: AbortController[];
  }

  /** Waits until all that is under way has come to its end, and compares. */
  async function compare(model: Model, { pool, held }: Real): Promise<void> {
    const open = model.having.length + model.idle;
    const matches = (): boolean => {
      const now = pool.statistics();
      return (
        now.opening === 0 && now.closing === 0 && model.having.every((i) => held[i].session !== undefined)
      );
    };
    await until(matches);
    expect(pool.statistics()).toMatchObject({
      open,
      idle: model.idle,
      busy: model.having.length,
      waiting: model.waiting.length,
    });
    expect(inTheTee()).toBe(open);
    for (const i of model.waiting) expect(held[i].session).toBeUndefined();
    const sessions = model.having.map((i) => held[i].session);
    expect(new Set(sessions).size).toBe(sessions.length);
  }

  class Ask implements fc.AsyncCommand<Model, Real> {
    check = (): boolean => true;
    toString = (): string => 'ask';
    async run(model: Model, real: Real): Promise<void> {
      const controller = new AbortController();
      real.controllers.push(controller);
      real.held.push(new Held(real.pool, controller.signal));
      const request = model.asked++;
      if (model.idle > 0) model.idle--;
      if (model.having.length + model.idle < MAX) model.having.push(request);
      else model.waiting.push(request);
      await compare(model, real);
    }
  }

  /** Somebody's session goes back; the function ends well, throws, panics the TA, or closes the session. */
  class End implements fc.AsyncCommand<Model, Real> {
    readonly which: number;
    readonly how: 'returns' | 'throws' | 'panics' | 'closes';
    constructor(which: number, how: End['how']) {
      this.which = which;
      this.how = how;
    }
    check = ({ having }: Readonly<Model>): boolean => having.length > 0;
    toString = (): string => `${this.which} ${this.how}`;
    async run(model: Model, real: Real): Promise<void> {
      const request = model.having.splice(this.which % model.having.length, 1)[0];
      const { session, release } = real.held[request];
      if (this.how === 'panics') await rejection(session?.invoke(TA.TEST_TA_PANIC) ?? Promise.resolve());
      else await session?.invoke(TA.TEST_TA_NOTHING);
      if (this.how === 'closes') void session?.close();
      release(this.how === 'throws' ? new Error('of the function') : undefined);
      await real.held[request].ended;
      const next = model.waiting.shift();
      if (next !== undefined) model.having.push(next);
      else if (this.how === 'returns' || this.how === 'throws') model.idle++;
      await compare(model, real);
    }
  }

  class Abort implements fc.AsyncCommand<Model, Real> {
    readonly which: number;
    constructor(which: number) {
      this.which = which;
    }
    check = ({ asked }: Readonly<Model>): boolean => asked > 0;
    toString = (): string => `abort ${this.which}`;
    async run(model: Model, real: Real): Promise<void> {
      const request = this.which % model.asked;
      real.controllers[request].abort();
      const waited = model.waiting.includes(request);
      model.waiting = model.waiting.filter((i) => i !== request);
      if (waited) expect(await real.held[request].ended).toMatchObject({ name: 'AbortError' });
      await compare(model, real);
    }
  }

  test('the pool is what a small model says, after each step', async () => {
    const commands = fc.commands(
      [
        fc.constant(new Ask()),
        fc.constant(new Ask()),
        fc
          .tuple(fc.nat(9), fc.constantFrom('returns', 'throws', 'panics', 'closes'))
          .map(([which, how]) => new End(which, how)),
        fc.nat(99).map((which) => new Abort(which)),
      ],
      { maxCommands: 25 },
    );
    await fc.assert(
      fc.asyncProperty(commands, (plan) =>
        withPool({ max: MAX }, async (pool) => {
          const real: Real = { pool, held: [], controllers: [] };
          try {
            const model = { idle: 0, having: [], waiting: [], asked: 0 };
            await fc.asyncModelRun(() => ({ model, real }), plan);
          } finally {
            real.held.forEach(({ release }) => release());
          }
        }),
      ),
      { numRuns: 12, endOnFailure: true },
    );
  }, 180_000);

  test('without a pause between the steps: no session is lost, never more than max, and nobody overtakes', async () => {
    const request = fc.record({
      /** What it does with its session. */
      how: fc.constantFrom('invoke', 'use', 'throw', 'panic', 'close', 'abort'),
      /** Milliseconds before it comes, before it is aborted, and in the TEE. */
      after: fc.nat(20),
      abortAfter: fc.nat(30),
      takes: fc.nat(10),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(request, { minLength: 8, maxLength: 24 }),
        fc.boolean(),
        async (requests, replaceAfterCancel) => {
          let most = 0;
          await withPool({ max: MAX, idle: 30, replaceAfterCancel }, async (pool) => {
            const began: number[] = [];
            let asked = 0;
            const ended = requests.map(async ({ how, after, abortAfter, takes }) => {
              await delay(after);
              const turn = asked++;
              const controller = new AbortController();
              const { signal } = controller;
              if (how === 'abort') setTimeout(() => controller.abort(), abortAfter);
              if (how === 'invoke') return pool.invoke(TA.TEST_TA_WAIT, wait(takes), { signal });
              return pool.use(
                async (session) => {
                  began.push(turn);
                  most = Math.max(most, inTheTee() ?? 0);
                  if (how === 'panic') await session.invoke(TA.TEST_TA_PANIC);
                  await session.invoke(TA.TEST_TA_WAIT, wait(takes), { signal });
                  if (how === 'close') void session.close();
                  if (how === 'throw') throw new Error('of the function');
                },
                { signal },
              );
            });
            const results = await Promise.allSettled(ended);
            results.forEach((result, i) => {
              const { how } = requests[i];
              if (how === 'panic') {
                expect(result).toMatchObject({ reason: { code: 'TEE_ERROR_TARGET_DEAD' } });
              } else if (how !== 'throw' && how !== 'abort' && result.status === 'rejected') {
                // Only by the abort of another request, and only where that is not prevented.
                expect(result.reason).toMatchObject({ staleCancel: true });
                expect(replaceAfterCancel).toBe(false);
              }
            });
            // Who came first begins first.
            expect(began).toEqual([...began].sort((one, other) => one - other));
            const { opened, open, closing, closed, waiting, busy } = pool.statistics();
            expect([opened, waiting, busy]).toEqual([open + closing + closed, 0, 0]);
          });
          expect(most).toBeLessThanOrEqual(MAX);
        },
      ),
      { numRuns: 8, endOnFailure: true },
    );
  }, 180_000);
});
