import { tracingChannel } from 'node:diagnostics_channel';
import { describe, expect, test } from '@jest/globals';
import { buffer, Login, TeeContext, value, type Session } from 'node-optee';
import { machine, rejection, TEST_TA, timed, useTee, within, withSession } from '../support/device.js';
import * as TA from '../support/test-ta.js';

const guest = useTee();
const wait = (ms: number) => [value.in(ms)] as const;

describe('order', () => {
  test('calls of one session run in the order in which they were made, blocking ones among them', () =>
    withSession(guest.tee, async (session) => {
      const order: number[] = [];
      const call = (i: number): Promise<unknown> =>
        session.invoke(TA.TEST_TA_COUNT, [value.inout(i)]).then(([found]) => {
          order.push(i);
          expect(found).toEqual({ a: i, b: i - 1 });
        });
      const waiting = session.invoke(TA.TEST_TA_WAIT, wait(100));
      const calls = [1, 2, 3, 4, 5].map(call);
      // Behind all of the above, which need no event loop.
      expect(session.invokeSync(TA.TEST_TA_COUNT, [value.inout(6)])).toEqual([{ a: 6, b: 5 }]);
      calls.push(call(7));
      await Promise.all([waiting, ...calls]);
      expect(order).toEqual([1, 2, 3, 4, 5, 7]);
    }));

  test('a failed call does not hold up the next', () =>
    withSession(guest.tee, async (session) => {
      const failed = rejection(session.invoke(TA.TEST_TA_RESULT, [value.in(0xffff0000)]));
      const after = session.invoke(TA.TEST_TA_COUNT, [value.inout(1)]);
      expect(await failed).toMatchObject({ code: 'TEE_ERROR_GENERIC' });
      expect(await after).toEqual([{ a: 1, b: 0 }]);
    }));

  test('8 sessions at once', async () => {
    const sessions = await Promise.all(Array.from({ length: 8 }, () => guest.open()));
    let ticks = 0;
    const ticking = setInterval(() => ticks++, 10);
    let before = 0;
    const waitAll = async (): Promise<number> => {
      const first = before;
      before += 3;
      const { took } = await timed(() =>
        Promise.all(
          sessions.map(async (session) => {
            const counts = [1, 2].map((i) => session.invoke(TA.TEST_TA_COUNT, [value.inout(first + i)]));
            await session.invoke(TA.TEST_TA_WAIT, wait(500));
            counts.push(session.invoke(TA.TEST_TA_COUNT, [value.inout(first + 3)]));
            expect(await Promise.all(counts)).toEqual(
              [1, 2, 3].map((i) => [{ a: first + i, b: first + i - 1 }]),
            );
          }),
        ),
      );
      return took;
    };
    try {
      // OP-TEE runs 8 of them at a time on `dynamic`, 2 on the others; the event loop goes on everywhere.
      if (machine === 'dynamic') await within(4 * 500, waitAll);
      else await waitAll();
      expect(ticks).toBeGreaterThan(10);
    } finally {
      clearInterval(ticking);
      await Promise.all(sessions.map((session) => session.close()));
    }
  });

  test('with one thread, calls of two sessions take turns', async () => {
    const tee = TeeContext.open({ threads: 1 });
    const sessions = await Promise.all([1, 2].map(() => tee.openSession(TEST_TA)));
    const { took } = await timed(() =>
      Promise.all(sessions.map((session) => session.invoke(TA.TEST_TA_WAIT, wait(200)))),
    );
    expect(took).toBeGreaterThan(390);
    await tee.close();
  });
});

describe('opening', () => {
  test('its parameters go in and come out', async () => {
    const params = [value.in(0), value.inout(1, 2), buffer.in(Buffer.from('abc')), buffer.out(10)] as const;
    const session = await guest.open(TEST_TA, { params });
    expect(session.outputs).toEqual([
      undefined,
      { a: 2, b: 4 },
      undefined,
      new Uint8Array(Buffer.from('cba')),
    ]);
    await session.close();
    const sync = guest.tee.openSessionSync(Uint8Array.from(Buffer.from(TEST_TA.replaceAll('-', ''), 'hex')), {
      params,
    });
    expect(sync.outputs).toEqual(session.outputs);
    expect(sync.uuid).toBe(TEST_TA);
    expect(sync.invokeSync(TA.TEST_TA_OPEN_STATE, [value.out(), buffer.out(64)])).toEqual([
      { a: 0, b: 0 },
      new Uint8Array(Buffer.from('abc')),
    ]);
    await sync.close();
  });

  test('shared memory can be a parameter', async () => {
    const shm = guest.tee.allocSharedMemorySync(4096);
    shm.write(Buffer.from('shared'));
    const params = [undefined, undefined, shm.in({ size: 6 }), shm.out({ offset: 100, size: 6 })] as const;
    const session = await guest.open(TEST_TA, { params });
    expect(session.outputs).toEqual([undefined, undefined, undefined, 6]);
    expect(Buffer.from(shm.read(100, 6)).toString()).toBe('derahs');
    await session.close();
    shm.close();
  });

  test("a TA's refusal", async () => {
    const params = [value.in(0xabcd), value.inout(1)] as const;
    const error = await rejection(guest.open(TEST_TA, { params }));
    expect(error).toMatchObject({
      name: 'TeeError',
      code: 'TEE_0x0000abcd',
      origin: 'trusted-app',
      uuid: TEST_TA,
      outputs: [undefined, { a: 2, b: 2 }],
    });
    expect('command' in error).toBe(false);
    expect(error.message).toBe(
      `result 0x0000abcd from the TA for opening a session with TA ${TEST_TA} (login public) with [value.in, value.inout]`,
    );
    expect(() => guest.tee.openSessionSync(TEST_TA, { params })).toThrow(
      expect.objectContaining({ result: 0xabcd }),
    );
  });

  test('a TA that is not there', async () => {
    const uuid = '00000000-1111-2222-3333-444444444444';
    const error = await rejection(guest.open(uuid));
    expect(error).toMatchObject({ code: 'TEE_ERROR_ITEM_NOT_FOUND', uuid });
    expect(error.message).toContain('is its UUID right');
  });

  test('one session more than the TEE has memory for: the error says that, and does not ask for the signing key', async () => {
    const sessions: Session[] = [];
    let error: Error | undefined;
    try {
      while (error === undefined && sessions.length < 500) {
        await guest.open().then(
          (session) => sessions.push(session),
          (refused: Error) => (error = refused),
        );
      }
    } finally {
      await Promise.all(sessions.map((session) => session.close()));
    }
    expect(error?.message).toContain(
      `no memory for another session with this TA (open here: ${sessions.length})`,
    );
    await (await guest.open()).close();
  }, 120_000);

  test('a group that the caller is not in', async () => {
    expect(await rejection(guest.open(TEST_TA, { login: Login.group(4711) }))).toMatchObject({
      name: 'TeeSystemError',
      code: 'EPERM',
      errno: -1,
      syscall: 'ioctl',
      operation: 'TEE_IOC_OPEN_SESSION',
      path: '/dev/tee0',
      message: expect.stringContaining('not a member of that group'),
    });
  });

  test.each([Login.application, Login.userApplication, Login.groupApplication(0)])(
    '%s: the kernel has no such identity, and says so',
    async (login) => {
      const error = await rejection(guest.open(TEST_TA, { login }));
      expect(error).toMatchObject({ code: 'EINVAL', operation: 'TEE_IOC_OPEN_SESSION' });
      expect(error.message).toContain(`(login ${login.name})`);
      expect(error.message).toContain('no application identity');
    },
  );
});

describe('closing', () => {
  test('a session: calls made before run to their end, later ones are refused', async () => {
    const session = await guest.open();
    const calls = [
      session.invoke(TA.TEST_TA_WAIT, wait(100)),
      session.invoke(TA.TEST_TA_COUNT, [value.inout(1)]),
    ] as const;
    const closing = session.close();
    expect(session.closed).toBe(true);
    expect(session.close()).toBe(closing);
    expect(await rejection(session.invoke(0))).toMatchObject({
      code: 'ERR_TEE_CLOSED',
      message: `the Session with TA ${TEST_TA} is closed`,
    });
    expect(() => session.invokeSync(0)).toThrow(expect.objectContaining({ code: 'ERR_TEE_CLOSED' }));
    await closing;
    expect(await calls[1]).toEqual([{ a: 1, b: 0 }]);
    await session[Symbol.asyncDispose]();
  });

  test('a context: its sessions and its memory close with it, in order', async () => {
    const tee = TeeContext.open();
    const sessions = await Promise.all([1, 2].map(() => tee.openSession(TEST_TA)));
    const [first, second] = sessions;
    const shm = tee.allocSharedMemorySync(4096);
    const bytes = new Uint8Array(shm.buffer as ArrayBuffer);
    const calls = sessions.map((session) => session.invoke(TA.TEST_TA_WAIT, wait(100)));
    const opening = tee.openSession(TEST_TA);
    const using = first.invoke(TA.TEST_TA_FILL, [shm.inout(), value.in(1)]);
    const closing = tee.close();
    expect(tee.close()).toBe(closing);
    expect([tee.closed, first.closed, second.closed, shm.closed]).toEqual([true, true, true, true]);
    expect([bytes.byteLength, shm.fd]).toEqual([0, -1]);
    for (const refused of [
      () => tee.allocSharedMemorySync(1),
      () => tee.openSessionSync(TEST_TA),
      () => shm.read(),
      () => shm.in(),
    ]) {
      expect(refused).toThrow(expect.objectContaining({ code: 'ERR_TEE_CLOSED' }));
    }
    expect(await rejection(first.invoke(0))).toMatchObject({ code: 'ERR_TEE_CLOSED' });
    const late = await opening.catch((error: Error) => error);
    await Promise.all([...calls, using, closing]);
    if (!(late instanceof Error)) expect(late.closed).toBe(true);
    // Children that are closed after their parent have nothing left to do.
    await Promise.all([first.close(), second[Symbol.asyncDispose]()]);
    second[Symbol.dispose]();
    shm.close();
    shm[Symbol.dispose]();
    tee[Symbol.dispose]();
  });
});

test('a subscriber of the tracing channel sees every call', () =>
  withSession(guest.tee, async (session) => {
    const channel = tracingChannel('node-optee:invoke');
    const events: string[] = [];
    const note = (name: string) => (message: object) => {
      const { uuid, command, error } = message as { uuid: string; command: number; error?: { code: string } };
      expect(uuid).toBe(TEST_TA);
      events.push([name, command, error?.code].join(' ').trim());
    };
    const subscribers = {
      start: note('start'),
      end: note('end'),
      asyncStart: note('asyncStart'),
      asyncEnd: note('asyncEnd'),
      error: note('error'),
    };
    channel.subscribe(subscribers);
    try {
      expect(await session.invoke(TA.TEST_TA_VALUES, [value.inout(1)])).toEqual([{ a: 2, b: 2 }]);
      expect(events).toEqual(['start 1', 'end 1', 'asyncStart 1', 'asyncEnd 1']);
      events.length = 0;
      expect(() => session.invokeSync(99)).toThrow('TEE_ERROR_NOT_SUPPORTED');
      expect(events).toEqual([
        'start 99',
        'error 99 TEE_ERROR_NOT_SUPPORTED',
        'end 99 TEE_ERROR_NOT_SUPPORTED',
      ]);
    } finally {
      channel.unsubscribe(subscribers);
    }
    events.length = 0;
    await session.invoke(TA.TEST_TA_NOTHING);
    expect(events).toEqual([]);
  }));

test('secure storage, which needs tee-supplicant', () =>
  withSession(guest.tee, async (session) => {
    const name = buffer.in(Buffer.from('node-optee'));
    await session.invoke(TA.TEST_TA_STORAGE_WRITE, [name, buffer.in(Buffer.from('kept'))]);
    const [, data] = await session.invoke(TA.TEST_TA_STORAGE_READ, [name, buffer.out(100)]);
    expect(Buffer.from(data).toString()).toBe('kept');
    await session.invoke(TA.TEST_TA_STORAGE_DELETE, [name]);
    expect(await rejection(session.invoke(TA.TEST_TA_STORAGE_READ, [name, buffer.out(100)]))).toMatchObject({
      code: 'TEE_ERROR_ITEM_NOT_FOUND',
    });
  }));
