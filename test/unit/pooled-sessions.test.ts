/** Which session goes to whom. What a pool opens here is no session: its rules know nothing of the TEE. */
import { getEventListeners } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { AbortError } from 'node-optee';
import { PooledSessions, type Closable, type PoolRules } from '#lib/client/pooled-sessions';

/** Something that can be opened, closed and spent when the test says so. */
class Thing implements Closable {
  closed = false;
  spent = false;
  readonly id: number;
  finishClosing: (error?: Error) => void = () => undefined;
  #closing: Promise<void> | undefined;

  constructor(id: number) {
    this.id = id;
  }

  close(): Promise<void> {
    this.closed = true;
    this.#closing ??= new Promise((resolve, reject) => {
      this.finishClosing = (error) => (error === undefined ? resolve() : reject(error));
    });
    return this.#closing;
  }
}

interface Opening {
  readonly arrive: () => Thing;
  readonly fail: (error: Error) => void;
}

const FULL = new Error('full');

/** A pool, and the hands of the test on what it opens. */
function pool(rules: Partial<PoolRules<Thing>> = {}): {
  sessions: PooledSessions<Thing>;
  openings: Opening[];
  things: Thing[];
} {
  const openings: Opening[] = [];
  const things: Thing[] = [];
  const sessions = new PooledSessions<Thing>({
    max: 4,
    idle: Infinity,
    open: () =>
      new Promise((resolve, reject) => {
        openings.push({
          arrive: () => {
            const thing = new Thing(things.length);
            things.push(thing);
            resolve(thing);
            return thing;
          },
          fail: reject,
        });
      }),
    isSpent: ({ spent }) => spent,
    isFull: (error) => error === FULL,
    closedError: () => Object.assign(new Error('closed'), { code: 'CLOSED' }),
    ...rules,
  });
  return { sessions, openings, things };
}

/** What became of a request so far. */
function request(
  sessions: PooledSessions<Thing>,
  signal?: AbortSignal,
): { got?: Thing; error?: Error & { code?: string } } {
  const found: { got?: Thing; error?: Error } = {};
  const taken = sessions.take();
  if (taken !== undefined) found.got = taken;
  else {
    const wait = async (): Promise<Thing> =>
      sessions.wait(signal, () => new AbortError(signal?.reason, 'it'));
    wait().then(
      (got) => (found.got = got),
      (error: Error) => (found.error = error),
    );
  }
  return found;
}

/** A pool with so many idle sessions, and those, in the order in which they became idle. */
async function withIdle(count: number, rules: Partial<PoolRules<Thing>> = {}) {
  const made = pool(rules);
  for (let i = 0; i < count; i++) request(made.sessions);
  made.openings.splice(0).forEach((opening) => opening.arrive());
  await turn();
  for (const thing of made.things) made.sessions.giveBack(thing);
  return made;
}

describe('who gets which', () => {
  test('sessions are opened on demand, not more than max; who waits longest is next', async () => {
    const { sessions, openings } = pool({ max: 2 });
    expect(sessions.statistics()).toMatchObject({ open: 0, opening: 0 });
    const requests = [1, 2, 3, 4].map(() => request(sessions));
    expect(sessions.statistics()).toMatchObject({ open: 0, opening: 2, waiting: 4 });
    const second = openings[1].arrive();
    await turn();
    expect(requests.map(({ got }) => got)).toEqual([second, undefined, undefined, undefined]);
    sessions.giveBack(second);
    await turn();
    expect(requests.map(({ got }) => got)).toEqual([second, second, undefined, undefined]);
    const first = openings[0].arrive();
    await turn();
    expect(requests[2].got).toBe(first);
    expect(sessions.statistics()).toMatchObject({ open: 2, busy: 2, opening: 0, waiting: 1, opened: 2 });
  });

  test('of the idle ones, the one that was used last', async () => {
    const { sessions, things } = await withIdle(3);
    expect([1, 2, 3, 4].map(() => sessions.take())).toEqual([things[2], things[1], things[0], undefined]);
  });

  test('one that was closed while idle is not handed out', async () => {
    const { sessions, things } = await withIdle(2);
    void things[1].close();
    expect(sessions.take()).toBe(things[0]);
    expect(sessions.statistics()).toMatchObject({ open: 1, closing: 1, replaced: 0 });
    things[1].finishClosing();
    await turn();
    expect(sessions.statistics()).toMatchObject({ open: 1, closing: 0, closed: 1 });
  });

  test('a spent one is replaced, not before it is closed where there is no other room', async () => {
    const { sessions, openings } = pool({ max: 1 });
    const requests = [request(sessions), request(sessions)];
    const first = openings[0].arrive();
    await turn();
    first.spent = true;
    sessions.giveBack(first);
    await turn();
    expect(openings.length).toBe(1);
    first.finishClosing();
    await turn();
    const second = openings[1].arrive();
    await turn();
    expect(requests[1].got).toBe(second);
    expect(sessions.statistics()).toMatchObject({ open: 1, opened: 2, closed: 1, replaced: 1 });
  });
});

describe('no room for one more', () => {
  test('a request waits for a session of its own pool, and another is tried after a second', async () => {
    const { sessions, openings } = pool();
    const requests = [1, 2, 3].map(() => request(sessions));
    const only = openings[0].arrive();
    openings[1].fail(FULL);
    openings[2].fail(FULL);
    await turn();
    expect(sessions.statistics()).toMatchObject({ open: 1, opening: 0, waiting: 2, failed: 2 });
    requests.push(request(sessions));
    expect(openings.length).toBe(3);
    sessions.giveBack(only);
    await turn();
    expect(requests.map(({ got }) => got)).toEqual([only, only, undefined, undefined]);
    await new Promise((resolve) => setTimeout(resolve, 1050));
    expect(openings.length).toBe(3);
    sessions.giveBack(only);
    expect(openings.length).toBe(4);
    await turn();
    const more = openings[3].arrive();
    await turn();
    expect(requests[3].got).toBe(more);
  });

  test('a request fails where the pool has none, and so does the one behind it, each with its own answer', async () => {
    const { sessions, openings } = pool({ max: 2 });
    const requests = [request(sessions), request(sessions)];
    openings[0].fail(FULL);
    await turn();
    expect(requests).toEqual([{}, {}]);
    openings[1].fail(FULL);
    await turn();
    expect(requests[0].error).toBe(FULL);
    expect(requests[1]).toEqual({});
    openings[2].fail(FULL);
    await turn();
    expect(requests[1].error).toBe(FULL);
    expect(sessions.statistics()).toMatchObject({ open: 0, opening: 0, waiting: 0, failed: 3 });
  });

  test("the pool's own last session was in the way: it is tried again", async () => {
    const { sessions, openings, things } = await withIdle(1);
    void things[0].close();
    const waiting = request(sessions);
    things[0].finishClosing();
    await turn(); // it is gone before the opening, which met it, has failed
    openings[0].fail(FULL);
    await turn();
    expect(waiting).toEqual({});
    const again = openings[1].arrive();
    await turn();
    expect(waiting.got).toBe(again);
  });

  test('the session that is still being closed is waited for', async () => {
    const { sessions, openings, things } = await withIdle(1);
    void things[0].close();
    const waiting = request(sessions);
    openings[0].fail(FULL);
    await turn();
    expect(waiting).toEqual({});
    things[0].finishClosing();
    await turn();
    const again = openings[1].arrive();
    await turn();
    expect(waiting.got).toBe(again);
  });

  test('another error fails a request also where the pool has sessions', async () => {
    const { sessions, openings } = pool();
    const requests = [request(sessions), request(sessions)];
    openings[0].arrive();
    const error = new Error('denied');
    openings[1].fail(error);
    await turn();
    expect(requests[0].got).toBeDefined();
    expect(requests[1].error).toBe(error);
    expect(sessions.statistics()).toMatchObject({ open: 1, waiting: 0, failed: 1 });
  });
});

describe('aborts', () => {
  test('who waits is rejected at once, without a listener; the session that was opened for it is kept', async () => {
    const { sessions, openings } = pool();
    const controller = new AbortController();
    const aborted = request(sessions, controller.signal);
    expect(getEventListeners(controller.signal, 'abort').length).toBe(1);
    controller.abort('enough');
    await turn();
    expect(aborted.error).toMatchObject({ name: 'AbortError', cause: 'enough' });
    expect(getEventListeners(controller.signal, 'abort').length).toBe(0);
    const kept = openings[0].arrive();
    await turn();
    expect(sessions.statistics()).toMatchObject({ open: 1, idle: 1, busy: 0 });
    expect(sessions.take()).toBe(kept);
  });

  test('the opening of one that aborted serves the next, and its error nobody', async () => {
    const { sessions, openings } = pool();
    const controller = new AbortController();
    const requests = [request(sessions, controller.signal), request(sessions)];
    controller.abort();
    openings[0].fail(new Error('denied'));
    await turn();
    expect(requests[1]).toEqual({});
    const arrived = openings[1].arrive();
    await turn();
    expect(requests[1].got).toBe(arrived);
    expect(openings.length).toBe(2);
  });

  test('one that was served has no listener left, and its abort takes nothing away', async () => {
    const { sessions, openings } = pool();
    const controller = new AbortController();
    const served = request(sessions, controller.signal);
    openings[0].arrive();
    await turn();
    expect(getEventListeners(controller.signal, 'abort').length).toBe(0);
    controller.abort();
    await turn();
    expect(served.got).toBeDefined();
    expect(sessions.statistics()).toMatchObject({ busy: 1, waiting: 0 });
  });

  test.each(['aborts', 'closes the pool', 'gives a session back', 'throws'])(
    'a signal that %s when it is listened to',
    async (what) => {
      const { sessions, openings } = pool({ max: 1 });
      request(sessions);
      const only = openings[0].arrive();
      await turn();
      const signal = {
        aborted: false,
        addEventListener: (_: string, listener: () => void) => {
          if (what === 'aborts') listener();
          else if (what === 'closes the pool') void sessions.close();
          else if (what === 'gives a session back') sessions.giveBack(only);
          else throw new Error('its own');
        },
        removeEventListener: () => undefined,
      } as unknown as AbortSignal;
      const found: unknown[] = [];
      const wait = async (): Promise<Thing> => sessions.wait(signal, () => new Error('aborted'));
      wait().then(
        (got) => found.push(got),
        (error: Error) => found.push(error.message),
      );
      await turn();
      expect(found).toEqual([
        { aborts: 'aborted', 'closes the pool': 'closed', 'gives a session back': only, throws: 'its own' }[
          what
        ],
      ]);
      expect(sessions.statistics()).toMatchObject({ waiting: 0, busy: 1 });
    },
  );
});

describe('idle sessions', () => {
  const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

  test('are closed after their time, the one that was not used again first', async () => {
    const { sessions, things } = await withIdle(2, { idle: 300 });
    await sleep(150);
    sessions.giveBack(sessions.take() as Thing);
    await sleep(200);
    expect(things.map(({ closed }) => closed)).toEqual([true, false]);
    await sleep(200);
    expect(things.map(({ closed }) => closed)).toEqual([true, true]);
    expect(sessions.statistics()).toMatchObject({ open: 0, closing: 2, replaced: 0 });
  });

  test('with 0, at once, unless somebody waits', async () => {
    const { sessions, openings } = pool({ idle: 0, max: 1 });
    const requests = [request(sessions), request(sessions)];
    const only = openings[0].arrive();
    await turn();
    sessions.giveBack(only);
    await turn();
    expect(requests[1].got).toBe(only);
    sessions.giveBack(only);
    expect(only.closed).toBe(true);
  });
});

describe('closing', () => {
  test('idle ones now, busy ones when they are given back, those on their way when they arrive', async () => {
    const { sessions, openings, things } = await withIdle(2, { max: 3 });
    const busy = sessions.take() as Thing;
    const other = sessions.take() as Thing;
    sessions.giveBack(other);
    request(sessions);
    const controller = new AbortController();
    const waiting = [request(sessions, controller.signal), request(sessions)];
    expect(sessions.statistics()).toMatchObject({ busy: 2, opening: 1, waiting: 2 });
    let closed = false;
    const closing = sessions.close();
    expect(sessions.close()).toBe(closing);
    void closing.then(() => (closed = true));
    await turn();
    for (const { error } of waiting) expect(error).toMatchObject({ code: 'CLOSED' });
    expect(getEventListeners(controller.signal, 'abort').length).toBe(0);
    expect(request(sessions).got).toBeUndefined();
    sessions.giveBack(busy);
    sessions.giveBack(other);
    openings[0].arrive();
    await turn();
    expect(things.map((thing) => thing.closed)).toEqual([true, true, true]);
    expect(closed).toBe(false);
    things.forEach((thing) => thing.finishClosing());
    await turn();
    expect(closed).toBe(true);
    expect(sessions.statistics()).toMatchObject({ open: 0, opening: 0, closing: 0, opened: 3, closed: 3 });
  });

  test('an empty pool, and one whose opening fails', async () => {
    expect(await pool().sessions.close()).toBeUndefined();
    const { sessions, openings } = pool();
    const waiting = request(sessions);
    const closing = sessions.close();
    openings[0].fail(FULL);
    expect(await closing).toBeUndefined();
    await turn();
    expect(waiting.error).toMatchObject({ code: 'CLOSED' });
  });

  test('the first error of a close is told when all are closed', async () => {
    const { sessions, things } = await withIdle(3);
    const closing = sessions.close();
    const errors = things.map((_, i) => new Error(`${i}`));
    things.forEach((thing, i) => thing.finishClosing(i === 0 ? undefined : errors[i]));
    expect(await closing).toBe(errors[1]);
    expect(sessions.statistics()).toMatchObject({ closing: 0, closed: 3 });
  });
});

describe('anything in any order', () => {
  /** What a request is, to the model. */
  interface Asked {
    readonly found: ReturnType<typeof request>;
    readonly controller: AbortController;
    state: 'waits' | 'has' | 'gave up' | 'failed' | 'done';
  }
  interface Real {
    readonly pool: ReturnType<typeof pool>;
    readonly asked: Asked[];
    /** Openings and closes that the test has still to end. */
    readonly opening: Opening[];
    readonly closing: Thing[];
    closed: boolean;
  }

  const MAX = 3;
  const steps = fc.oneof(
    { weight: 50, arbitrary: fc.constant('ask' as const) },
    { weight: 40, arbitrary: fc.constant('give back' as const) },
    { weight: 40, arbitrary: fc.constant('arrive' as const) },
    { weight: 20, arbitrary: fc.constant('abort' as const) },
    { weight: 20, arbitrary: fc.constant('spend' as const) },
    { weight: 10, arbitrary: fc.constant('close a session' as const) },
    { weight: 30, arbitrary: fc.constant('end a close' as const) },
    { weight: 20, arbitrary: fc.constant('no room' as const) },
    { weight: 10, arbitrary: fc.constant('fail' as const) },
    { weight: 2, arbitrary: fc.constant('close' as const) },
  );

  function of<T>(all: T[], which: number): T | undefined {
    return all.length === 0 ? undefined : all[which % all.length];
  }

  function act(real: Real, step: string, which: number): void {
    const { sessions, openings } = real.pool;
    const having = real.asked.filter(({ state }) => state === 'has');
    switch (step) {
      case 'ask': {
        const controller = new AbortController();
        const found = request(sessions, controller.signal);
        real.asked.push({ found, controller, state: 'waits' });
        break;
      }
      case 'give back':
      case 'spend':
      case 'close a session': {
        const one = of(having, which);
        if (one?.found.got === undefined) break;
        const { got } = one.found;
        if (step === 'spend') got.spent = true;
        if (step === 'close a session') void got.close();
        one.state = 'done';
        sessions.giveBack(got);
        break;
      }
      case 'abort':
        of(real.asked, which)?.controller.abort();
        break;
      case 'arrive':
      case 'no room':
      case 'fail': {
        const opening = of(openings, which);
        if (opening === undefined) break;
        openings.splice(openings.indexOf(opening), 1);
        if (step === 'arrive') opening.arrive();
        else opening.fail(step === 'fail' ? new Error('denied') : FULL);
        break;
      }
      case 'end a close':
        of(
          real.pool.things.filter(({ closed }) => closed),
          which,
        )?.finishClosing();
        break;
      case 'close':
        real.closed = true;
        void sessions.close();
        break;
    }
  }

  /** What must be so after each step. */
  function check(real: Real, before: readonly Asked['state'][]): void {
    const { sessions, openings, things } = real.pool;
    const now = sessions.statistics();
    // Who waited and has a session now, or an error, waited longest of all that wait still.
    for (const one of real.asked) {
      if (one.state !== 'waits') continue;
      if (one.found.got !== undefined) one.state = 'has';
      else if (one.found.error !== undefined)
        one.state = one.controller.signal.aborted ? 'gave up' : 'failed';
    }
    const waiting = real.asked.filter(({ state }) => state === 'waits');
    const served = real.asked.filter(
      ({ state }, i) => before[i] === 'waits' && (state === 'has' || state === 'failed'),
    );
    for (const one of served) {
      for (const other of waiting) expect(real.asked.indexOf(one)).toBeLessThan(real.asked.indexOf(other));
    }
    // No session is lost, none has two users, and there are never too many.
    const having = real.asked.filter(({ state }) => state === 'has').map(({ found }) => found.got);
    expect(new Set(having).size).toBe(having.length);
    expect(now.busy).toBe(having.length);
    expect(now.waiting).toBe(waiting.length);
    expect(now.opening).toBe(openings.length);
    expect(now.opened).toBe(things.length);
    expect(now.opened).toBe(now.open + now.closing + now.closed);
    expect(now.open + now.opening + now.closing).toBeLessThanOrEqual(MAX);
    // Nobody waits for nothing.
    if (now.waiting > 0) {
      expect(now.idle).toBe(0);
      expect(now.open + now.opening + now.closing).toBeGreaterThan(0);
      expect(real.closed).toBe(false);
    }
  }

  test('no session is lost, there are never too many, and who waits longest is next', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(steps, fc.nat(1000)), { maxLength: 60 }),
        async (plan: [string, number][]) => {
          const real: Real = { pool: pool({ max: MAX }), asked: [], opening: [], closing: [], closed: false };
          for (const [step, which] of plan) {
            const before = real.asked.map(({ state }) => state);
            act(real, step, which);
            await turn();
            check(real, before);
          }
          // To the end: whoever waits is served, or told, and all is closed.
          for (let i = 0; i < 200 && real.asked.some(({ state }) => state === 'waits'); i++) {
            for (const step of ['arrive', 'give back', 'end a close']) {
              const before = real.asked.map(({ state }) => state);
              act(real, step, 0);
              await turn();
              check(real, before);
            }
            real.pool.things.forEach((thing) => thing.finishClosing());
          }
          expect(real.asked.filter(({ state }) => state === 'waits')).toEqual([]);
          const closing = real.pool.sessions.close();
          for (const opening of real.pool.openings.splice(0)) opening.arrive();
          for (const { found, state } of real.asked) {
            if (state === 'has' && found.got !== undefined) real.pool.sessions.giveBack(found.got);
          }
          await turn();
          real.pool.things.forEach((thing) => thing.finishClosing());
          expect(await closing).toBeUndefined();
          expect(real.pool.things.filter(({ closed }) => !closed)).toEqual([]);
          expect(real.pool.sessions.statistics()).toMatchObject({
            open: 0,
            opening: 0,
            closing: 0,
            waiting: 0,
          });
        },
      ),
      { numRuns: 500 },
    );
  }, 120_000);
});
