import { describe, expect, test } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import { BuildError } from '#lib/qemu/build/command';
import type { Part } from '#lib/qemu/build/part';
import { buildInOrder, unsuitable } from '#lib/qemu/build/schedule';
import { LINUX, UnsuitableError } from '#lib/qemu/build/sources';

const part = (name: string, ...after: Part[]): Part => ({
  name,
  title: name,
  needs: [],
  after,
  inputs: name,
  build: () => Promise.resolve(),
});

const kernel = part('kernel');
const kit = part('kit');
const rootfs = part('rootfs', kit);
const firmware = part('firmware', kernel, kit);
const ALL = [firmware, kernel, rootfs, kit];

/** Builds them, and tells what began and ended, and how many there were at once. */
async function build(
  how: (part: Part, signal: AbortSignal) => Promise<void>,
  parts = ALL,
  signal = new AbortController().signal,
): Promise<{ said: string[]; most: number; error: unknown }> {
  const said: string[] = [];
  let [now, most] = [0, 0];
  const error = await buildInOrder(
    parts,
    2,
    async (one, ended) => {
      said.push(`${one.name} begins`);
      most = Math.max(most, ++now);
      await how(one, ended).finally(() => now--);
      said.push(`${one.name} ends`);
    },
    signal,
  ).catch((reason: unknown) => reason);
  expect(now).toBe(0);
  return { said, most, error };
}

describe('parts', () => {
  test('are built after those that they are made from, two beside each other', async () => {
    const { said, most, error } = await build(() => sleep(5));
    expect(error).toBeUndefined();
    expect(most).toBe(2);
    expect(said).toHaveLength(8);
    for (const one of ALL)
      for (const other of one.after)
        expect(said.indexOf(`${other.name} ends`)).toBeLessThan(said.indexOf(`${one.name} begins`));
  });

  test('that are there already are not waited for', async () => {
    const { said } = await build(() => Promise.resolve(), [rootfs]);
    expect(said).toEqual(['rootfs begins', 'rootfs ends']);
  });

  test('end when one fails, and what it said is the error', async () => {
    const { said, error } = await build(async (one, signal) => {
      if (one === kernel) throw new BuildError('no kernel');
      await sleep(60_000, undefined, { signal });
    });
    expect(error).toMatchObject({ message: 'no kernel' });
    expect(said).toEqual(['kernel begins', 'kit begins']);
  });

  test('go on when a package will not do, of which there may be another version', async () => {
    const reason = new UnsuitableError(LINUX, 'the patch does not apply');
    const { said, error } = await build(async (one) => {
      if (one === kernel) throw new BuildError('Linux: the patch does not apply', { cause: reason });
      await sleep(5);
    });
    expect(unsuitable(error)).toBe(reason);
    expect(said).toEqual(['kernel begins', 'kit begins', 'kit ends']);
  });

  test('end with the signal', async () => {
    const ours = new AbortController();
    const { said, error } = await build(
      async (_, signal) => {
        setImmediate(() => ours.abort(new Error('stopped')));
        await sleep(60_000, undefined, { signal });
      },
      ALL,
      ours.signal,
    );
    expect(error).toMatchObject({ name: 'AbortError' });
    expect(said).toEqual(['kernel begins', 'kit begins']);
  });
});

test('what is no unsuitable package is none', () => {
  expect(unsuitable(new BuildError('x', { cause: new Error('y') }))).toBeUndefined();
  expect(unsuitable(undefined)).toBeUndefined();
});
