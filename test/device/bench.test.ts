import { describe, expect, test } from '@jest/globals';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

interface Summary {
  median: number;
  quartiles: [number, number];
  fastest: number;
  measurements: number;
}

interface Memory {
  calls: number;
  resident: number[];
}

interface Run {
  guest: { node: string; cpus: number };
  cases: Record<string, Record<string, Summary>>;
  responsiveness: { readFile: { idle: Summary; blocked: Summary }; timer: Record<string, { worst: number }> };
  memory: { emptyCalls: Memory; buffers: Memory };
}

/** Longer than any single call takes in an emulated guest, in nanoseconds. */
const LONG = 10e9;

/** Nothing in OP-TEE is entered faster, even on a real board. */
const ENTRY = 1e3;

describe('the benchmark', () => {
  test('runs in its quick form, with plausible numbers', async () => {
    const words = ['build/bench/measure.js', 'build/bench/c/bench', '--quick'];
    const { stdout } = await promisify(execFile)(process.execPath, words, { maxBuffer: 1 << 24 });
    const run = JSON.parse(stdout) as Run;
    expect(run.guest.node).toBe(process.version);

    const names = Object.keys(run.cases);
    const sizes = ['16', '4096', '65536', '1048576'];
    const kinds = ['in', 'out', 'inout', 'into', 'inplace'].map((way) => `tmp-${way}`);
    expect(names.sort()).toEqual(
      [
        ...['empty', 'value', 'values4', 'dmabuf-register', 'session'],
        ...[...kinds, 'shm-whole', 'shm-part', 'shm-alloc'].flatMap((kind) =>
          sizes.map((size) => `${kind}-${size}`),
        ),
      ].sort(),
    );
    for (const [name, subjects] of Object.entries(run.cases)) {
      const of = /^(shm-alloc|dmabuf)/.test(name) ? [] : ['handover', 'async', 'libteec8', 'async8'];
      const described = /^values?4?$/.test(name) ? ['described'] : [];
      const all = ['ioctl', 'libteec', 'libteec again', 'sync', ...described, ...of];
      expect(Object.keys(subjects).sort()).toEqual(all.sort());
      for (const { median, quartiles, fastest, measurements } of Object.values(subjects)) {
        expect(measurements).toBeGreaterThan(0);
        expect(fastest).toBeGreaterThan(ENTRY);
        expect(quartiles[0]).toBeGreaterThanOrEqual(fastest);
        expect(median).toBeGreaterThanOrEqual(quartiles[0]);
        expect(quartiles[1]).toBeGreaterThanOrEqual(median);
        expect(quartiles[1]).toBeLessThan(LONG);
      }
      // A session is opened by loading the TA: a number without that is not of an opened session.
      if (name === 'session') {
        for (const { fastest } of Object.values(subjects)) expect(fastest).toBeGreaterThan(1e6);
      }
    }

    const { readFile, timer } = run.responsiveness;
    expect(readFile.idle.measurements).toBeGreaterThan(0);
    expect(readFile.blocked.measurements).toBeGreaterThan(0);
    expect(timer['idle']?.worst).toBeGreaterThan(0);
    expect(timer['load']?.worst).toBeLessThan(LONG);
    for (const { resident } of Object.values(run.memory)) {
      expect(Math.min(...resident)).toBeGreaterThan(1 << 20);
      expect(Math.max(...resident)).toBeLessThan(1 << 30);
    }
  }, 300_000);
});
