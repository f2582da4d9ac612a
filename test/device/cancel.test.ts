import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from '@jest/globals';
import { AbortError, buffer, TeeContext, TeeError, value, type Parameter, type Value } from 'node-optee';
import {
  inTee,
  machine,
  OS_TEST,
  PTA_STATS,
  rejectedAtOnce,
  rejection,
  TEST_TA,
  timed,
  until,
  useTee,
  within,
  withSession,
} from '../support/device.js';
import * as TA from '../support/test-ta.js';

const guest = useTee();
const wait = (ms: number) => [value.in(ms)] as const;
/** How many calls OP-TEE takes at a time. */
const THREADS = machine === 'dynamic' ? 8 : 2;
const CANCELLED = { result: 0xffff0002, code: 'TEE_ERROR_CANCEL', origin: 'trusted-app' };

describe('in the TEE', () => {
  test('a TA that polls: the promise settles within 200 ms of the abort', () =>
    withSession(guest.tee, async (session) => {
      await within(200, async () => {
        const controller = new AbortController();
        const call = rejection<AbortError>(
          session.invoke(TA.TEST_TA_WAIT, wait(20_000), { signal: controller.signal }),
        );
        await inTee();
        controller.abort(new Error('enough'));
        const { value: error, took } = await timed(() => call);
        expect(error).toBeInstanceOf(AbortError);
        expect(error).toMatchObject({
          name: 'AbortError',
          code: 'ABORT_ERR',
          cause: controller.signal.reason,
        });
        expect(error.teeError).toMatchObject(CANCELLED);
        expect(error.teeError?.constructor).toBe(TeeError);
        // It has answered with TEE_ERROR_CANCEL, so nothing is left over.
        await session.invoke(TA.TEST_TA_WAIT, wait(20));
        return took;
      });
    }));

  /** Aborts a call when it is in the TEE, and waits for its end. */
  async function abortInTee<T>(
    start: (signal: AbortSignal) => Promise<T>,
  ): Promise<{ value: T; took: number }> {
    const controller = new AbortController();
    return timed(async () => {
      const call = start(controller.signal);
      await inTee();
      controller.abort('enough');
      return call;
    });
  }

  test("OP-TEE's TEE_Wait is not woken: the promise settles when its time is over", () =>
    withSession(
      guest.tee,
      async (session) => {
        const { value: error, took } = await abortInTee((signal) =>
          rejection<AbortError>(session.invoke(9, wait(2000), { signal })),
        );
        expect(took).toBeGreaterThan(1950);
        expect(error.teeError).toMatchObject({ result: 0xffff0002 });
      },
      OS_TEST,
    ));

  test('a TA that masks cancellation: the call ends when the TA is done, and resolves', () =>
    withSession(guest.tee, async (session) => {
      const { value: outputs, took } = await abortInTee((signal) =>
        session.invoke(TA.TEST_TA_WAIT_MASKED, [value.in(1500), value.out()], { signal }),
      );
      expect(outputs[1].b).toBe(0);
      expect(took).toBeGreaterThan(1450);
      // The flag went with the call that it was meant for.
      await session.invoke(TA.TEST_TA_WAIT, wait(20));
    }));

  test('a call that fails in its own way after an abort', () =>
    withSession(guest.tee, async (session) => {
      const { value: error } = await abortInTee((signal) =>
        rejection<AbortError>(session.invoke(TA.TEST_TA_WAIT_MASKED, [value.in(1500, 0xabcd)], { signal })),
      );
      expect(error).toMatchObject({ name: 'AbortError', cause: 'enough' });
      expect(error.teeError).toMatchObject({ result: 0xabcd, origin: 'trusted-app' });
    }));
});

describe('not in the TEE', () => {
  test('aborted before it starts: nothing is sent', () =>
    withSession(guest.tee, async (session) => {
      const signal = AbortSignal.abort('never');
      const error = await rejection<AbortError>(
        session.invoke(TA.TEST_TA_COUNT, [value.inout(1)], { signal }),
      );
      expect(error).toMatchObject({ name: 'AbortError', cause: 'never' });
      expect(error.teeError).toBeUndefined();
      const open = await rejection(guest.open(TEST_TA, { signal }));
      expect(open).toMatchObject({ name: 'AbortError', cause: 'never' });
      expect(await session.invoke(TA.TEST_TA_COUNT, [value.inout(2)])).toEqual([{ a: 1, b: 0 }]);
    }));

  test("aborted by code of the caller's own while the call is being made: nothing is sent", () =>
    withSession(guest.tee, async (session) => {
      const controllers = [new AbortController(), new AbortController()];
      const [invoking, opening] = controllers.map((controller) => {
        const get = (): Parameter<Value> => {
          controller.abort();
          return value.inout(1);
        };
        return {
          signal: controller.signal,
          params: Object.defineProperty([value.inout(1)] as const, 0, { get }),
        };
      });
      const call = rejection(session.invoke(TA.TEST_TA_COUNT, invoking.params, { signal: invoking.signal }));
      expect(await call).toMatchObject({ name: 'AbortError' });
      expect(await rejection(guest.open(TEST_TA, opening))).toMatchObject({ name: 'AbortError' });
      expect(await session.invoke(TA.TEST_TA_COUNT, [value.inout(2)])).toEqual([{ a: 1, b: 0 }]);
    }));

  test('aborted in the queue: it is rejected at once, and nothing is sent', () =>
    withSession(guest.tee, async (session) => {
      const first = session.invoke(TA.TEST_TA_WAIT, wait(500));
      const controller = new AbortController();
      const queued = rejectedAtOnce<AbortError>(
        session.invoke(TA.TEST_TA_COUNT, [value.inout(1)], { signal: controller.signal }),
      );
      const after = session.invoke(TA.TEST_TA_COUNT, [value.inout(2)]);
      controller.abort();
      const error = await queued;
      expect(error).toMatchObject({ name: 'AbortError' });
      expect(error?.teeError).toBeUndefined();
      await first;
      expect(await after).toEqual([{ a: 1, b: 0 }]);
    }));

  test('aborted after its end: nothing is sent', () =>
    withSession(guest.tee, async (session) => {
      const controller = new AbortController();
      await session.invoke(TA.TEST_TA_WAIT, wait(10), { signal: controller.signal });
      controller.abort();
      await delay(50);
      await session.invoke(TA.TEST_TA_WAIT, wait(50));
    }));

  test('an open under way: rejected at once, and its session is closed when it arrives', () =>
    withSession(
      guest.tee,
      async (pta) => {
        /** Bytes of OP-TEE's memory for TAs that are in use; each session of the test TA has some of its own. */
        const memory = async (): Promise<number> => {
          const [, stats] = await pta.invoke(1, [value.in(3), buffer.out(256)]);
          return Buffer.from(stats).readUInt32LE(40); // `allocated` of struct pta_stats_alloc
        };
        const before = await memory();
        const controller = new AbortController();
        const opening = guest.open(TEST_TA, { params: [value.in(0, 3000)], signal: controller.signal });
        await until(async () => (await memory()) > before);
        controller.abort();
        expect(await rejectedAtOnce(opening)).toMatchObject({
          name: 'AbortError',
          message: expect.stringContaining('was given up'),
        });
        await until(async () => (await memory()) === before);
        expect(await memory()).toBe(before);
      },
      PTA_STATS,
    ));
});

test('one signal for many calls', () =>
  withSession(guest.tee, async (session) => {
    const controller = new AbortController();
    const options = { signal: controller.signal };
    const calls = Array.from({ length: 20 }, () =>
      rejection(session.invoke(TA.TEST_TA_WAIT, wait(10_000), options)),
    );
    await inTee();
    controller.abort();
    for (const error of await Promise.all(calls)) expect(error).toMatchObject({ name: 'AbortError' });
    await session.invoke(TA.TEST_TA_WAIT, wait(20)).catch((error: TeeError) => {
      expect(error.staleCancel).toBe(true);
    });
  }));

test("CANCEL waits while all of the TEE's threads are busy, but nothing of ours waits with it", async () => {
  const tee = TeeContext.open({ threads: 16 });
  const sessions = await Promise.all(Array.from({ length: THREADS + 1 }, () => tee.openSession(OS_TEST)));
  let ticks = 0;
  const ticking = setInterval(() => ticks++, 10);
  try {
    const controller = new AbortController();
    // os_test waits in one TEE_Wait, so each holds a thread of OP-TEE for all of its time.
    const busy = sessions.slice(0, THREADS).map((session) => session.invoke(9, wait(3000)));
    await inTee(THREADS);
    let ended = false;
    const last = rejection<AbortError>(
      sessions[THREADS].invoke(9, wait(2500), { signal: controller.signal }).finally(() => (ended = true)),
    );
    await inTee(THREADS + 1);
    const before = ticks;
    controller.abort();
    await delay(500);
    expect(ticks - before).toBeGreaterThan(5);
    await Promise.all(busy);
    // The call and its CANCEL both waited; the driver can wake one of them only, until another call ends (remains.h).
    while (!ended) await sessions[0].invoke(9, wait(20));
    expect(await last).toMatchObject({ name: 'AbortError' });
  } finally {
    clearInterval(ticking);
    await tee.close();
  }
});

test('a CANCEL that no thread of the TEE takes before the end of its call hits the next one', async () => {
  // One of the TEE's threads is the call's, all others are busy for longer.
  const others = THREADS - 1;
  const tee = TeeContext.open({ threads: 16 });
  try {
    const session = await tee.openSession(TEST_TA);
    const sessions = await Promise.all(Array.from({ length: others }, () => tee.openSession(OS_TEST)));
    // Long waits: on a busy host the abort must come within the second one, and the others outlast it.
    const busy = sessions.map((other) => other.invoke(9, wait(9000)));
    await inTee(others);
    const controller = new AbortController();
    const masked = session.invoke(TA.TEST_TA_WAIT_MASKED, wait(4000), { signal: controller.signal });
    await inTee(THREADS);
    controller.abort();
    expect(await masked).toEqual([undefined]);
    const error = await rejection<TeeError>(session.invoke(TA.TEST_TA_WAIT, wait(20)));
    expect(error).toMatchObject({ ...CANCELLED, staleCancel: true });
    expect(error.message).toContain('the cancel of the call before');
    await session.invoke(TA.TEST_TA_WAIT, wait(20));
    await Promise.all(busy);
  } finally {
    await tee.close();
  }
});

test('how often a cancel goes stale when it is sent close to the end of a call', () =>
  withSession(guest.tee, async (session) => {
    let aborted = 0;
    let stale = 0;
    let other = 0;
    const rounds = 150;
    const { took } = await timed(async () => {
      for (let i = 0; i < 20; i++) await session.invoke(TA.TEST_TA_NOTHING);
    });
    for (let i = 0; i < rounds; i++) {
      const controller = new AbortController();
      const call = session.invoke(TA.TEST_TA_NOTHING, [], { signal: controller.signal });
      const settled = call.then(
        () => undefined,
        (error: AbortError) => error,
      );
      // About when such a call ends, a little earlier or later each time.
      const end = performance.now() + (took / 20) * (0.2 + (i % 30) / 25);
      while (performance.now() < end);
      controller.abort();
      aborted++;
      const error = await settled;
      const hit = error?.teeError instanceof TeeError && error.teeError.result === 0xffff0002;
      try {
        await session.invoke(TA.TEST_TA_WAIT, wait(1));
      } catch (next) {
        expect(next).toMatchObject({ code: 'TEE_ERROR_CANCEL', staleCancel: true });
        expect((next as Error).message).toContain('the cancel of the call before');
        expect(hit).toBe(false);
        stale++;
      }
      if (error !== undefined && !hit) other++;
    }
    process.stdout.write(
      `[cancel] ${machine}: of ${aborted} aborts close to the end of a call ${stale} hit the next call, ` +
        `${other} were rejected without having been cancelled in the TEE\n`,
    );
    expect(stale).toBeLessThan(aborted);
    // Whatever happened, the session is good.
    await session.invoke(TA.TEST_TA_WAIT, wait(20));
  }));
