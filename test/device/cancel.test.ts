import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from '@jest/globals';
import { AbortError, TeeContext, TeeError, value } from 'node-optee';
import {
  machine,
  OS_TEST,
  rejectedAtOnce,
  rejection,
  statistics,
  TEST_TA,
  timed,
  useTee,
  within,
  withSession,
} from '../support/device.js';
import * as TA from '../support/test-ta.js';

const guest = useTee();
const wait = (ms: number) => [value.in(ms)] as const;
const CANCELLED = { result: 0xffff0002, code: 'TEE_ERROR_CANCEL', origin: 'trusted-app' };

describe('in the TEE', () => {
  test('a TA that polls: the promise settles within 200 ms of the abort', () =>
    withSession(guest.tee, async (session) => {
      await within(200, async () => {
        const controller = new AbortController();
        const call = rejection<AbortError>(
          session.invoke(TA.TEST_TA_WAIT, wait(20_000), { signal: controller.signal }),
        );
        await delay(100);
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

  test("OP-TEE's TEE_Wait is not woken: the promise settles when its time is over", () =>
    withSession(
      guest.tee,
      async (session) => {
        const signal = AbortSignal.timeout(100);
        const { value: error, took } = await timed(() =>
          rejection<AbortError>(session.invoke(9, wait(1000), { signal })),
        );
        expect(took).toBeGreaterThan(950);
        expect(error.teeError).toMatchObject({ result: 0xffff0002 });
      },
      OS_TEST,
    ));

  test('a TA that masks cancellation: the call ends when the TA is done, and resolves', () =>
    withSession(guest.tee, async (session) => {
      const signal = AbortSignal.timeout(100);
      const { took } = await timed(() => session.invoke(TA.TEST_TA_WAIT_MASKED, wait(600), { signal }));
      expect(signal.aborted).toBe(true);
      expect(took).toBeGreaterThan(550);
      // The flag went with the call that it was meant for.
      await session.invoke(TA.TEST_TA_WAIT, wait(20));
    }));

  test('a call that fails in its own way after an abort', () =>
    withSession(guest.tee, async (session) => {
      const signal = AbortSignal.timeout(100);
      const error = await rejection<AbortError>(
        session.invoke(TA.TEST_TA_WAIT_MASKED, [value.in(600, 0xabcd)], { signal }),
      );
      expect(error).toMatchObject({ name: 'AbortError', cause: signal.reason });
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

  test('an open under way: rejected at once, and its session is closed when it arrives', async () => {
    const tee = TeeContext.open();
    try {
      const controller = new AbortController();
      const opening = tee.openSession(TEST_TA, { params: [value.in(0, 1000)], signal: controller.signal });
      await delay(300);
      controller.abort();
      expect(await rejectedAtOnce(opening)).toMatchObject({ name: 'AbortError' });
      await delay(1500);
      expect(statistics(tee)).toMatchObject({ sessions: 0 });
    } finally {
      await tee.close();
    }
  });
});

test('one signal for many calls', () =>
  withSession(guest.tee, async (session) => {
    const controller = new AbortController();
    const options = { signal: controller.signal };
    const calls = Array.from({ length: 20 }, () =>
      rejection(session.invoke(TA.TEST_TA_WAIT, wait(10_000), options)),
    );
    await delay(100);
    controller.abort();
    for (const error of await Promise.all(calls)) expect(error).toMatchObject({ name: 'AbortError' });
    await session.invoke(TA.TEST_TA_WAIT, wait(20)).catch((error: TeeError) => {
      expect(error.staleCancel).toBe(true);
    });
  }));

test("CANCEL waits while all of the TEE's threads are busy, but nothing of ours waits with it", async () => {
  const count = machine === 'dynamic' ? 8 : 2;
  const tee = TeeContext.open({ threads: 16 });
  const sessions = await Promise.all(Array.from({ length: count + 1 }, () => tee.openSession(OS_TEST)));
  let ticks = 0;
  const ticking = setInterval(() => ticks++, 10);
  try {
    const controller = new AbortController();
    // os_test waits in one TEE_Wait, so each holds a thread of OP-TEE for its whole second.
    const busy = sessions.slice(0, count).map((session) => session.invoke(9, wait(1000)));
    await delay(200);
    const last = rejection<AbortError>(sessions[count].invoke(9, wait(1000), { signal: controller.signal }));
    await delay(100);
    const before = ticks;
    controller.abort();
    await delay(300);
    expect(ticks - before).toBeGreaterThan(5);
    await Promise.all(busy);
    expect(await last).toMatchObject({ name: 'AbortError' });
  } finally {
    clearInterval(ticking);
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
