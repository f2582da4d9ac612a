import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { WaitingList, type Entry } from '#lib/client/waiting-list';

test('it is an array from which anything can be taken', () => {
  const step = fc.oneof(
    fc.constant({ kind: 'add' as const }),
    fc.constant({ kind: 'next' as const }),
    fc.record({ kind: fc.constant('remove' as const), of: fc.nat(200) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const list = new WaitingList<number>();
      const model: number[] = [];
      const entries: Entry<number>[] = [];
      for (const step of steps) {
        if (step.kind === 'add') {
          model.push(entries.length);
          entries.push(list.add(entries.length));
        } else if (step.kind === 'next') {
          expect(list.next()).toBe(model.shift());
        } else if (step.of < entries.length) {
          const at = model.indexOf(step.of);
          expect(list.remove(entries[step.of])).toBe(at !== -1);
          if (at !== -1) model.splice(at, 1);
        }
        expect(list.length).toBe(model.length);
      }
      for (const value of model) expect(list.next()).toBe(value);
      expect(list.next()).toBeUndefined();
    }),
  );
});

test('an entry of another list is not taken out', () => {
  const [one, other] = [new WaitingList<number>(), new WaitingList<number>()];
  const entry = one.add(1);
  expect(other.remove(entry)).toBe(false);
  expect([one.length, other.length]).toEqual([1, 0]);
});

test('100,000 that come, leave from the middle and are served take no longer each than a few', () => {
  const list = new WaitingList<number>();
  const entries = Array.from({ length: 100_000 }, (_, i) => list.add(i));
  const start = performance.now();
  for (let i = 1; i < entries.length; i += 2) list.remove(entries[i]);
  let wrong = 0;
  for (let i = 0; i < entries.length; i += 2) if (list.next() !== i) wrong++;
  // In the square of their number it takes a minute.
  expect(performance.now() - start).toBeLessThan(5000);
  expect([wrong, list.length]).toEqual([0, 0]);
});
