/** Handles that nobody closes, and loops that never yield. NODE_OPTEE_LONG: 10,000 of each. */
import { expect, test } from '@jest/globals';
import { child, lastLine, useTee } from '../support/device.js';

const LONG = Boolean(process.env['NODE_OPTEE_LONG']);
const FLAGS = ['--expose-gc'];

useTee();

test(
  'handles of each kind dropped without a close: all is back, with one warning for each kind',
  async () => {
    const count = LONG ? 10_000 : 110;
    const result = await child('garbage', [String(count)], { flags: FLAGS, timeout: 3_000_000 });
    if (LONG) process.stdout.write(`[garbage] ${count} of each: ${result.stdout}\n`);
    const { found, warnings } = lastLine(result) as {
      found: Record<string, { before?: string; after?: string; grown: number; teeHeap: number }>;
      warnings: string[];
    };
    expect(Object.keys(found)).toHaveLength(10);
    for (const [kind, { before, after, grown, teeHeap }] of Object.entries(found)) {
      expect({ kind, before, after }).toEqual({ kind });
      // A page of each handle would be 39 MiB of 10,000.
      expect({ kind, tooMuch: grown > 30 }).toEqual({ kind, tooMuch: false });
      // 1 KiB of each session would be 10 MiB; OP-TEE has less.
      expect({ kind, tooMuch: teeHeap > 16 * 1024 }).toEqual({ kind, tooMuch: false });
    }
    expect(warnings.map((text) => /^An? (\w+)/.exec(text)?.[1]).sort()).toEqual([
      'DmaBuf',
      'DmaHeap',
      'Session',
      'SessionPool',
      'SharedMemory',
      'TeeContext',
    ]);
  },
  LONG ? 3_000_000 : 180_000,
);

test(
  'loops that never yield do not grow',
  async () => {
    const rounds = LONG ? 10_000 : 200;
    const result = await child('no-yield', [String(rounds)], { timeout: 1_200_000 });
    if (LONG) process.stdout.write(`[garbage] ${rounds} rounds: ${result.stdout}\n`);
    const found = lastLine(result) as Record<string, { descriptors: number; grown: number }>;
    expect(Object.keys(found)).toHaveLength(8);
    for (const [loop, { descriptors, grown }] of Object.entries(found)) {
      expect({ loop, tooMany: descriptors > 80 ? descriptors : 0 }).toEqual({ loop, tooMany: 0 });
      // The promise of a close is kept until the event loop turns.
      const most = /^a (session|context)$/.test(loop) ? 40 : 30;
      expect({ loop, tooMuch: grown > most ? grown : 0 }).toEqual({ loop, tooMuch: 0 });
    }
  },
  LONG ? 1_200_000 : 180_000,
);
