// A call has its own numbers, whatever code of its caller's runs on the way, and its error says who waited.
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { buffer, DmaHeap, Parameter, reportedSize, Session, TeeContext, value, type Value } from 'node-optee';
import { native, type Settle } from '#lib/client/native';
import { rejection, TEST_TA, useTee, within } from '../support/device.js';
import * as TA from '../support/test-ta.js';

const guest = useTee();

/** Runs something with two sessions. */
async function withTwo<T>(use: (one: Session, other: Session) => Promise<T>): Promise<T> {
  const [one, other] = [await guest.open(), await guest.open()];
  try {
    return await use(one, other);
  } finally {
    await Promise.all([one.close(), other.close()]);
  }
}

/** Where code of a caller's can run in a call, each with a call elsewhere in it. */
const PLACES: Record<string, (meddle: () => void) => (session: Session) => Promise<unknown[]>> = {
  'a getter of a class of byte arrays': (meddle) => {
    class Odd extends Uint8Array {
      override get byteLength(): number {
        meddle();
        return 3;
      }
      override get length(): number {
        meddle();
        return 3;
      }
    }
    return (session) =>
      session.invoke(TA.TEST_TA_COPY, [buffer.in(new Odd([1, 2, 3])), buffer.into(new Odd(3))]);
  },
  'a getter of the array of parameters': (meddle) => (session) => {
    const params: unknown[] = [undefined, undefined];
    const made = [buffer.in(Uint8Array.of(1, 2, 3)), buffer.out(3)];
    made.forEach((param, i) => {
      Object.defineProperty(params, i, {
        get: () => {
          meddle();
          return param;
        },
      });
    });
    return session.invoke(TA.TEST_TA_COPY, params as never);
  },
  'a proxy of the array of parameters': (meddle) => (session) => {
    const made = [buffer.in(Uint8Array.of(1, 2, 3)), buffer.out(3)];
    const params = new Proxy(made, {
      get(target, name) {
        meddle();
        return Reflect.get(target, name) as unknown;
      },
    });
    return session.invoke(TA.TEST_TA_COPY, params as never);
  },
  'getters of the options and the signal': (meddle) => (session) => {
    const { signal } = new AbortController();
    const odd = {
      get aborted(): boolean {
        meddle();
        return signal.aborted;
      },
      addEventListener: (...args: Parameters<AbortSignal['addEventListener']>): void => {
        meddle();
        signal.addEventListener(...args);
      },
      removeEventListener: (...args: Parameters<AbortSignal['removeEventListener']>): void => {
        meddle();
        signal.removeEventListener(...args);
      },
    };
    const options = {
      get wipe(): boolean {
        meddle();
        return true;
      },
      get signal(): unknown {
        meddle();
        return odd;
      },
    };
    return session.invoke(
      TA.TEST_TA_COPY,
      [buffer.in(Uint8Array.of(1, 2, 3)), buffer.out(3)],
      options as never,
    );
  },
  'a then of all objects': (meddle) => (session) => {
    const call = session.invoke(TA.TEST_TA_COPY, [buffer.in(Uint8Array.of(1, 2, 3)), buffer.out(3)]);
    let left = 3;
    Object.defineProperty(Object.prototype, 'then', {
      configurable: true,
      get: () => {
        if (left-- > 0) meddle();
        return undefined;
      },
    });
    return call.finally(() => {
      Reflect.deleteProperty(Object.prototype, 'then');
    });
  },
};

test.each(Object.keys(PLACES))('code of the caller in %s', (place) =>
  withTwo((one, other) =>
    fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 0xfffffffe }),
        fc.constantFrom('sync', 'async', 'both', 'throwing'),
        async (number, kind) => {
          const meddled: Promise<[Value]>[] = [];
          let depth = 0;
          const meddle = (): void => {
            if (depth > 0) return;
            depth++;
            try {
              if (kind !== 'async') {
                expect(other.invokeSync(TA.TEST_TA_VALUES, [value.inout(number)])).toEqual([
                  { a: (number + 1) >>> 0, b: 2 },
                ]);
              }
              if (kind !== 'sync') meddled.push(other.invoke(TA.TEST_TA_VALUES, [value.inout(number)]));
              if (kind === 'throwing') {
                expect(() => other.invokeSync(TA.TEST_TA_RESULT, [value.in(0x80001234)])).toThrow();
              }
            } finally {
              depth--;
            }
          };
          const [nothing, copied] = (await PLACES[place](meddle)(one)) as [undefined, Uint8Array];
          expect(nothing).toBeUndefined();
          expect([...Uint8Array.prototype.slice.call(copied)]).toEqual([1, 2, 3]);
          for (const found of await Promise.all(meddled)) expect(found[0].a).toBe((number + 1) >>> 0);
        },
      ),
      { numRuns: 25 },
    ),
  ),
);

/** Runs something with accessors in places where everybody looks who does not look out. */
function withAccessors<T>(meddle: () => void, run: () => T): T {
  const accessor = { configurable: true, get: meddle, set: meddle };
  const indices = Array.from({ length: 8 }, (_, i) => [Array.prototype, String(i)] as const);
  const names = ['bytes', 'shared', 'open', 'memory', 'status', 'errno', 'operation'].map(
    (name) => [Object.prototype, name] as const,
  );
  const places: readonly (readonly [object, string])[] = [...indices, ...names];
  // Without an iterator, which would look there, too.
  const put = (i: number): void => void Object.defineProperty(places[i][0], places[i][1], accessor);
  const take = (i: number): void => void Reflect.deleteProperty(places[i][0], places[i][1]);
  const count = places.length;
  for (let i = 0; i < count; i++) put(i);
  try {
    return run();
  } finally {
    for (let i = 0; i < count; i++) take(i);
  }
}

describe('code of the caller in accessors of prototypes', () => {
  const bytes = Uint8Array.of(1, 2, 3);
  const outputs = async (
    use: (
      one: Session,
      params: (readonly Parameter<unknown>[])[],
      meddle: () => void,
    ) => unknown[][] | Promise<unknown[][]>,
  ): Promise<number> =>
    withTwo(async (one, other) => {
      const shm = guest.tee.allocSharedMemorySync(4);
      const own = new Uint8Array(4);
      const meddled = new Set<Promise<unknown>>(); // an array would be met by the accessors itself
      let depth = 0;
      const meddle = (): void => {
        if (depth++ === 0) {
          other.invokeSync(TA.TEST_TA_VALUES, [value.inout(99)]);
          meddled.add(other.invoke(TA.TEST_TA_VALUES, [value.inout(98)]));
        }
        depth--;
      };
      const params = [buffer.out(3), buffer.into(own), shm.out()].map((out) => [buffer.in(bytes), out]);
      const found = await use(one, params, meddle);
      expect(found.map((list) => list.length)).toEqual([2, 2, 2]);
      expect([...(found[0]?.[1] as Uint8Array)]).toEqual([1, 2, 3]);
      expect([...(found[1]?.[1] as Uint8Array)]).toEqual([1, 2, 3]);
      expect([...own]).toEqual([1, 2, 3, 0]);
      expect(found[2]?.[1]).toBe(3);
      for (const each of await Promise.all(meddled)) expect(each).toEqual([{ a: 99, b: 2 }]);
      shm.close();
      return meddled.size;
    });

  test('a blocking call asks none of them', async () => {
    const meddled = await outputs((one, [first, second, third], meddle) =>
      withAccessors(meddle, () => [
        one.invokeSync(TA.TEST_TA_COPY, first),
        one.invokeSync(TA.TEST_TA_COPY, second),
        one.invokeSync(TA.TEST_TA_COPY, third),
      ]),
    );
    expect(meddled).toBe(0);
  });

  // In the middle of a delivery of several answers, however it comes about.
  test('answers that come together are not mixed by what runs between', async () => {
    const { settle } = native();
    const meddled = await outputs(async (one, params, meddle) => {
      settle.get = (ticket) => {
        const read = Map.prototype.get.call(settle, ticket) as Settle | undefined;
        return read && ((answer) => withAccessors(meddle, () => (meddle(), read(answer))));
      };
      try {
        const calls = params.map((each) => one.invoke(TA.TEST_TA_COPY, each));
        one.invokeSync(TA.TEST_TA_NOTHING); // behind them
        return await Promise.all(calls);
      } finally {
        Reflect.deleteProperty(settle, 'get');
      }
    });
    expect(meddled).toBeGreaterThanOrEqual(3);
  });
});

test('what is no session, or no context, is told by the promise', async () => {
  const session = Session.prototype;
  const context = TeeContext.prototype;
  for (const call of [
    () => session.invoke.call({}, 1),
    () => session.close.call({}),
    () => session[Symbol.asyncDispose].call({}),
    () => context.openSession.call({}, TEST_TA),
    () => context.allocSharedMemory.call({}, 1),
    () => context.registerSharedMemory.call({}, new Uint8Array(1)),
    () => context.registerDmaBuf.call({}, 1),
    () => context.close.call({}),
    () => context[Symbol.asyncDispose].call({}),
    () => DmaHeap.prototype.alloc.call({}, 1),
  ] as unknown as (() => Promise<unknown>)[]) {
    expect(await rejection(call())).toBeInstanceOf(TypeError);
  }
});

test('what only looks like a parameter is none', () =>
  withTwo(async (one) => {
    const like = Object.create(Parameter.prototype, { kind: { value: 1 }, a: { value: 5 } }) as never;
    for (const wrong of [like, new Proxy(value.in(1), {}) as never]) {
      expect(await rejection(one.invoke(TA.TEST_TA_VALUES, [wrong]))).toMatchObject({
        code: 'ERR_INVALID_ARG_TYPE',
      });
    }
  }));

// (Jest's own way to write a stack leaves "async" out.)
test('the stack of an error names the async functions that waited', () =>
  withTwo(async (one) => {
    async function readsTheKey(): Promise<void> {
      await one.invoke(TA.TEST_TA_RESULT, [value.in(0x80001234)]);
    }
    async function startsTheService(signal: AbortSignal): Promise<void> {
      await one.invoke(TA.TEST_TA_WAIT, [value.in(10_000)], { signal });
    }
    expect((await rejection(readsTheKey())).stack).toMatch(/at (async )?readsTheKey/);
    const running = new AbortController();
    const aborted = rejection(startsTheService(running.signal));
    const queued = rejection(startsTheService(running.signal));
    setTimeout(() => running.abort(), 100);
    for (const error of [await aborted, await queued]) {
      expect(error.name).toBe('AbortError');
      expect(error.stack).toMatch(/at (async )?startsTheService/);
    }
    async function opensNothing(): Promise<void> {
      await guest.open('00000000-0000-0000-0000-000000000000');
    }
    expect((await rejection(opensNothing())).stack).toMatch(/at (async )?opensNothing/);
  }));

// More answers than one delivery holds, which wait until this thread looks at them; and a test runner that has the
// microtasks in its hand.
test.each([
  ['', queueMicrotask],
  [', also where queueMicrotask is replaced', (): void => undefined],
])('users are told in the order of the calls, errors included%s', (_, replacement) =>
  withTwo(async (one) => {
    const replaced = queueMicrotask;
    globalThis.queueMicrotask = replacement;
    try {
      const order: number[] = [];
      const calls = Array.from({ length: 200 }, (__, i) =>
        one.invoke(TA.TEST_TA_RESULT, [value.in(i % 30 === 0 ? 0x80000001 : 0)]).then(
          () => order.push(i),
          () => order.push(i),
        ),
      );
      one.invokeSync(TA.TEST_TA_NOTHING); // behind them
      await Promise.race([Promise.all(calls), delay(10_000)]);
      expect(order).toEqual(calls.map((__, i) => i));
    } finally {
      globalThis.queueMicrotask = replaced;
    }
  }),
);

test('a signal that refuses listeners: nothing is sent, and no error is left over', () =>
  withTwo(async (one) => {
    const signal = {
      aborted: false,
      addEventListener() {
        throw new Error('no listeners');
      },
      removeEventListener: () => undefined,
    } as unknown as AbortSignal;
    const unhandled: unknown[] = [];
    const listener = (error: unknown): void => void unhandled.push(error);
    process.on('unhandledRejection', listener);
    const refused = one.invoke(TA.TEST_TA_RESULT, [value.in(0x80000001)], { signal });
    expect(await rejection(refused)).toMatchObject({ message: 'no listeners' });
    expect((await rejection(one.invoke(TA.TEST_TA_COUNT, [value.inout(1)], { signal }))).message).toBe(
      'no listeners',
    );
    expect(await one.invoke(TA.TEST_TA_COUNT, [value.inout(1)])).toEqual([{ a: 1, b: 0 }]);
    await new Promise(setImmediate);
    process.off('unhandledRejection', listener);
    expect(unhandled).toEqual([]);
  }));

test('a signal that calls its listener while it is added: nothing is sent', () =>
  withTwo(async (one) => {
    const signal = {
      aborted: false,
      reason: 'at once',
      addEventListener: (_: string, listener: () => void) => listener(),
      removeEventListener: () => undefined,
    } as unknown as AbortSignal;
    const aborted = await rejection(one.invoke(TA.TEST_TA_COUNT, [value.inout(1)], { signal }));
    expect(aborted).toMatchObject({ name: 'AbortError', cause: 'at once' });
    expect(await one.invoke(TA.TEST_TA_COUNT, [value.inout(1)])).toEqual([{ a: 1, b: 0 }]);
  }));

test('a size beyond the room is told together with success', () =>
  withTwo(async (one) => {
    const shm = guest.tee.allocSharedMemorySync(64);
    const params = [value.in(0, 500), shm.out({ size: 8 })] as const;
    expect(await one.invoke(TA.TEST_TA_RESULT, params)).toEqual([undefined, 500]);
    expect(one.invokeSync(TA.TEST_TA_RESULT, params)).toEqual([undefined, 500]);
    expect(await one.invoke(TA.TEST_TA_RESULT, [value.in(0, 77), buffer.null('out')])).toEqual([
      undefined,
      77,
    ]);
    const own = new Uint8Array(4);
    for (const param of [buffer.out(4), buffer.into(own)]) {
      const [, bytes] = await one.invoke(TA.TEST_TA_RESULT, [value.in(0, 500), param]);
      expect([bytes.length, reportedSize(bytes)]).toEqual([4, 500]);
    }
    shm.close();
  }));

test('many calls on one signal make no warning', () =>
  withTwo(async (one) => {
    const warnings: string[] = [];
    const emit = process.emitWarning.bind(process);
    process.emitWarning = (warning: string | Error): void => void warnings.push(String(warning));
    try {
      const { signal } = new AbortController();
      await Promise.all(Array.from({ length: 30 }, () => one.invoke(TA.TEST_TA_NOTHING, [], { signal })));
    } finally {
      process.emitWarning = emit;
    }
    expect(warnings).toEqual([]);
  }));

test(
  'what waits costs what it holds',
  () =>
    withTwo(async (one) => {
      const COUNT = 20_000;
      const mappings = (): number => readFileSync('/proc/self/maps', 'utf8').split('\n').length;
      const queue = async (params: () => Parameter<unknown>[], first: boolean): Promise<number> => {
        const controller = new AbortController();
        const options = { signal: controller.signal };
        const ending = new AbortController();
        const running = one
          .invoke(TA.TEST_TA_WAIT, [value.in(60_000)], { signal: ending.signal })
          .catch(() => {});
        global.gc?.();
        const before = { mappings: mappings(), resident: process.memoryUsage.rss() };
        const start = process.cpuUsage();
        const calls: Promise<unknown>[] = [];
        for (let i = 0; i < COUNT; i++)
          calls.push(one.invoke(TA.TEST_TA_CHECKSUM, params() as never, options));
        const { user, system } = process.cpuUsage(start);
        if (first) {
          // V8 and malloc add some of their own.
          expect(mappings() - before.mappings).toBeLessThan(COUNT / 40);
          expect((process.memoryUsage.rss() - before.resident) / COUNT).toBeLessThan(2048);
        }
        const ended = Promise.allSettled(calls);
        controller.abort();
        expect(new Set((await ended).map(({ status }) => status))).toEqual(new Set(['rejected']));
        ending.abort();
        await running;
        return user + system;
      };
      const bytes = new Uint8Array(10);
      await queue(() => [buffer.in(bytes), value.out()], true);
      await within(2, async () => {
        const without = await queue(() => [value.in(1), value.out()], false);
        return (await queue(() => [buffer.in(bytes), value.out()], false)) / without;
      });
    }),
  240_000,
);
