// The judgement of the soak (test/soak): it fails where something grows.
import { describe, expect, test } from '@jest/globals';
import { judge, LIMITS, rise, warmUp, type Figure, type Sample } from '../soak/figures.js';
import { graph } from '../soak/graph.js';

/** One every ten seconds for ten minutes; noise is that of a saw. */
const samples = (figure: Figure, at: (seconds: number) => number): Sample[] =>
  Array.from({ length: 61 }, (_, i) => ({
    seconds: i * 10,
    resident: 80_000 + (i % 5) * 500,
    descriptors: 40 + (i % 3),
    mappings: 300 + (i % 4),
    threads: 20 + (i % 3),
    sessions: 8 + (i % 2),
    teeHeap: 60 + (i % 3),
    done: i * 100,
    [figure]: at(i * 10),
  }));

const bad = (all: readonly Sample[]): Figure[] =>
  judge(all).flatMap(({ figure, good }) => (good ? [] : [figure]));

test('noise is flat', () => {
  expect(bad(samples('threads', () => 20))).toEqual([]);
  expect(
    Math.abs(
      rise(
        samples('threads', () => 20),
        'resident',
      ),
    ),
  ).toBeLessThan(500);
});

describe.each(Object.keys(LIMITS) as Figure[])('%s', (figure) => {
  const { rise: most, above } = LIMITS[figure];
  const start = 1000;
  const looked = 600 - warmUp(600);

  test('a steady rise beyond its limit is not flat', () => {
    const slope = (most * 1.1) / looked;
    expect(bad(samples(figure, (seconds) => start + slope * seconds))).toEqual([figure]);
  });

  test('a rise during the warm-up is', () => {
    const climbs = (seconds: number): number => start + Math.min(seconds, warmUp(600)) * most;
    expect(bad(samples(figure, climbs))).toEqual([]);
  });

  test('a peak beyond its limit is not', () => {
    expect(bad(samples(figure, (seconds) => start + (seconds === 400 ? above * 1.1 : 0)))).toEqual([figure]);
  });
});

test('the graph has a line for each figure, and says which is not flat', () => {
  const svg = graph(
    samples('sessions', (seconds) => seconds),
    'A soak',
  );
  expect(svg.match(/<polyline /g)).toHaveLength(Object.keys(LIMITS).length);
  expect(svg.match(/NOT FLAT/g)).toHaveLength(1);
  expect(svg).toMatch(/^<svg .*<\/svg>\n$/s);
});

test('too few samples are no judgement', () => {
  expect(() => judge(samples('threads', () => 1).slice(0, 5))).toThrow('too few');
});
