import { spawnSync } from 'node:child_process';
import { getEventListeners } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { onAbort } from '#lib/client/abort';
import { checkSignal } from '#lib/client/validate';

const listeners = (signal: AbortSignal) => getEventListeners(signal, 'abort').length;

setFlagsFromString('--expose-gc');
const gc = runInNewContext('gc') as () => void;

/** Collects garbage until what the reference had is gone, or does not go. */
async function isCollected(reference: WeakRef<object>): Promise<boolean> {
  for (let i = 0; i < 20 && reference.deref() !== undefined; i++) {
    await turn();
    gc();
  }
  return reference.deref() === undefined;
}

/** Runs a program with `onAbort` in a process of its own (in this one Jest has the warnings); its status and output. */
function program(code: string): { status: number | null; stdout: string; stderr: string } {
  const path = require.resolve('#lib/client/abort');
  const whole = `const { onAbort } = require(${JSON.stringify(path)}); ${code}`;
  return spawnSync(process.execPath, ['-e', whole], { encoding: 'utf8' });
}

/** A signal that is not Node's: it does what it is told to. */
class OtherSignal {
  aborted = false;
  readonly kept: (() => void)[] = [];
  addEventListener(_: string, listener: () => void): void {
    this.kept.push(listener);
  }
  removeEventListener(): void {
    // It keeps its listeners.
  }
}
const other = (signal: OtherSignal): AbortSignal => checkSignal(signal, 'signal');

test('1000 calls on one signal: one listener, each is called once', () => {
  const controller = new AbortController();
  const called = new Array<number>(1000).fill(0);
  called.forEach((_, i) => onAbort(controller.signal, () => (called[i] = (called[i] ?? 0) + 1)));
  expect(listeners(controller.signal)).toBe(1);
  controller.abort();
  expect(new Set(called)).toEqual(new Set([1]));
  expect(listeners(controller.signal)).toBe(0);
});

test('1000 calls on one signal: Node warns of nothing', () => {
  const code = (listen: string) => `
    process.on('warning', ({ name }) => console.log(name));
    const controller = new AbortController();
    require('events').setMaxListeners(10, controller.signal); // the default of Node 20; later ones have none
    let called = 0;
    for (let i = 0; i < 1000; i++) ${listen};
    setImmediate(() => { controller.abort(); console.log(called); });`;
  expect(program(code('onAbort(controller.signal, () => called++)'))).toMatchObject({
    status: 0,
    stdout: '1000\n',
    stderr: '',
  });
  // The warning would be seen.
  expect(program(code("controller.signal.addEventListener('abort', () => called++)"))).toMatchObject({
    status: 0,
    stdout: 'MaxListenersExceededWarning\n1000\n',
  });
});

test('callbacks are called in order; what was taken back is not', () => {
  const controller = new AbortController();
  const called: string[] = [];
  onAbort(controller.signal, () => called.push('a'));
  const takeBack = onAbort(controller.signal, () => called.push('b'));
  onAbort(controller.signal, () => called.push('c'));
  takeBack();
  takeBack();
  controller.abort();
  expect(called).toEqual(['a', 'c']);
});

test('one function, passed twice, is two callbacks', () => {
  const controller = new AbortController();
  let called = 0;
  const callback = () => called++;
  const takeBack = onAbort(controller.signal, callback);
  onAbort(controller.signal, callback);
  takeBack();
  takeBack();
  expect(listeners(controller.signal)).toBe(1);
  controller.abort();
  expect(called).toBe(1);
});

test('the last one that is taken back ends the listening; the next begins it anew', () => {
  const controller = new AbortController();
  const { signal } = controller;
  const both = [onAbort(signal, () => undefined), onAbort(signal, () => undefined)];
  for (const takeBack of both) takeBack();
  expect(listeners(signal)).toBe(0);
  let called = 0;
  onAbort(signal, () => called++);
  for (const takeBack of both) takeBack(); // of the group before
  expect(listeners(signal)).toBe(1);
  controller.abort();
  expect(called).toBe(1);
});

test('a callback that throws does not stop the others, and is not lost', () => {
  const found = program(`
    process.on('uncaughtException', (error) => console.log(error.message));
    const controller = new AbortController();
    onAbort(controller.signal, () => { throw new Error('first'); });
    onAbort(controller.signal, () => console.log('second'));
    onAbort(controller.signal, () => { throw new Error('third'); });
    controller.abort();
    console.log('aborted');`);
  expect(found).toMatchObject({ status: 0, stdout: 'second\naborted\nfirst\nthird\n', stderr: '' });
});

test('a callback that takes another back, or adds one, during the abort', () => {
  const controller = new AbortController();
  const { signal } = controller;
  const called: string[] = [];
  onAbort(signal, () => {
    called.push('first');
    takeBack();
    onAbort(signal, () => called.push('too late')); // it is aborted already
  });
  const takeBack = onAbort(signal, () => called.push('second'));
  onAbort(signal, () => called.push('third'));
  controller.abort();
  expect(called).toEqual(['first', 'third']);
});

describe('signals of others', () => {
  test('of another realm', () => {
    const signal = runInNewContext(`({
      aborted: false,
      addEventListener(type, listener) { this[type] = listener; },
      removeEventListener(type) { delete this[type]; },
    })`) as OtherSignal & { abort?: () => void };
    let called = 0;
    const takeBack = onAbort(other(signal), () => called++);
    signal.abort?.();
    expect(called).toBe(1);
    takeBack();
    onAbort(other(signal), () => called++)();
    expect(signal).not.toHaveProperty('abort');
  });

  test('one that keeps its listeners and calls them again and again', () => {
    const signal = new OtherSignal();
    const called: string[] = [];
    onAbort(other(signal), () => called.push('taken back'))();
    onAbort(other(signal), () => called.push('a'));
    for (const listener of [...signal.kept, ...signal.kept]) listener();
    expect(called).toEqual(['a']);
  });

  test('one that calls its listener while it is added', () => {
    const signal = new OtherSignal();
    signal.addEventListener = (_, listener) => listener();
    let called = 0;
    const takeBack = onAbort(other(signal), () => called++);
    expect(called).toBe(1);
    takeBack();
    onAbort(other(signal), () => called++); // listens anew: a group that was called is not joined
    expect(called).toBe(2);
  });

  test('one that refuses: nothing is called, and the next call tries again', () => {
    const signal = new OtherSignal();
    const called: string[] = [];
    signal.addEventListener = (_, listener) => {
      signal.kept.push(listener);
      throw new Error('refused');
    };
    expect(() => onAbort(other(signal), () => called.push('a'))).toThrow('refused');
    signal.addEventListener = (_, listener) => signal.kept.push(listener);
    onAbort(other(signal), () => called.push('b'));
    for (const listener of signal.kept) listener();
    expect(called).toEqual(['b']);
  });

  test('one that throws where a listener is removed', () => {
    const signal = new OtherSignal();
    signal.removeEventListener = () => {
      throw new Error('refused');
    };
    let called = 0;
    expect(onAbort(other(signal), () => called++)).not.toThrow();
    for (const listener of signal.kept) listener();
    expect(called).toBe(0);
  });

  test('one that makes calls of its own while a listener is added or removed', () => {
    const signal = new OtherSignal();
    const called: string[] = [];
    let depth = 0;
    const add = OtherSignal.prototype.addEventListener.bind(signal);
    signal.addEventListener = (type, listener) => {
      if (depth++ === 0) onAbort(other(signal), () => called.push('inner'));
      add(type, listener);
    };
    const takeBack = onAbort(other(signal), () => called.push('outer'));
    onAbort(other(signal), () => called.push('next'));
    signal.removeEventListener = () => {
      onAbort(other(signal), () => called.push('at the end'));
    };
    takeBack();
    for (const listener of [...signal.kept]) listener();
    expect(called.sort()).toEqual(['at the end', 'inner', 'next']);
  });
});

test('whatever is added and taken back in whatever order: an abort calls those that are left', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(9), { maxLength: 60 }), (steps) => {
      const controller = new AbortController();
      const left = new Map<number, () => void>();
      const called: number[] = [];
      for (const key of steps) {
        const takeBack = left.get(key);
        if (takeBack === undefined)
          left.set(
            key,
            onAbort(controller.signal, () => called.push(key)),
          );
        else {
          takeBack();
          left.delete(key);
        }
        expect(listeners(controller.signal)).toBe(left.size > 0 ? 1 : 0);
      }
      controller.abort();
      expect(called).toEqual([...left.keys()]);
    }),
  );
});

test('100,000 pairs beside 100,000 others: no time with their number, and nothing is left', () => {
  const { signal } = new AbortController();
  const others = Array.from({ length: 100_000 }, () => onAbort(signal, () => undefined));
  const began = performance.now();
  for (let i = 0; i < 100_000; i++) onAbort(signal, () => undefined)();
  // A list of 100,000 to be searched each time takes minutes.
  expect(performance.now() - began).toBeLessThan(5000);
  for (const takeBack of others) takeBack();
  expect(listeners(signal)).toBe(0);
  for (let i = 0; i < 100_000; i++) onAbort(signal, () => undefined)();
  expect(listeners(signal)).toBe(0);
});

describe('nothing is kept', () => {
  test('of a callback that was taken back, while others wait', async () => {
    const { signal } = new AbortController();
    const make = () => {
      const callback = () => undefined;
      onAbort(signal, callback)();
      return new WeakRef(callback);
    };
    onAbort(signal, () => undefined);
    expect(await isCollected(make())).toBe(true);
    expect(listeners(signal)).toBe(1);
  });

  test('of a callback that was called', async () => {
    const controller = new AbortController();
    const make = () => {
      const callback = () => undefined;
      onAbort(controller.signal, callback);
      return new WeakRef(callback);
    };
    const reference = make();
    controller.abort();
    expect(await isCollected(reference)).toBe(true);
    expect(controller.signal.aborted).toBe(true);
  });

  test('of a signal that nobody has any more, listened to or not', async () => {
    const make = (takenBack: boolean) => {
      const { signal } = new AbortController();
      const takeBack = onAbort(signal, () => undefined);
      if (takenBack) takeBack();
      return new WeakRef(signal);
    };
    expect(await isCollected(make(true))).toBe(true);
    expect(await isCollected(make(false))).toBe(true);
  });
});
