// lib/qemu/build/zstd-decoder.ts against the program zstd, and lib/qemu/build/zstd.ts.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compressZstd } from '#lib/qemu/build/zstd';
import { ZstdError, decodeZstd } from '#lib/qemu/build/zstd-decoder';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'node-optee-zstd-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function zstd(bytes: Buffer, ...options: string[]): Buffer {
  // From a file: then its size is in the header, as a short one's is in place of a window.
  const file = join(folder, 'input');
  writeFileSync(file, bytes);
  const { status, stdout, stderr } = spawnSync('zstd', ['-q', ...options, '-c', file], {
    maxBuffer: 1 << 30,
  });
  if (status !== 0) throw new Error(stderr.toString());
  return stdout;
}

function decode(bytes: Buffer): Buffer {
  const pieces: Buffer[] = [];
  // Each piece is overwritten by later ones.
  for (const piece of decodeZstd(bytes)) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

/** The same each time. */
function numbers(seed: number): () => number {
  let state = seed;
  return () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
}

function words(count: number): Buffer {
  const random = numbers(7);
  const all = Array.from({ length: 400 }, () => Math.floor(random() * 1e9).toString(36));
  return Buffer.from(Array.from({ length: count }, () => all[Math.floor(random() ** 3 * 400)]).join(' '));
}

const program = readFileSync(process.execPath).subarray(0, 2 << 20);
const INPUTS: Record<string, Buffer> = {
  nothing: Buffer.alloc(0),
  'one byte': Buffer.from('x'),
  'a line': Buffer.from('the quick brown fox jumps over the lazy dog, the quick brown fox\n'),
  words: words(100_000),
  'a program': program,
  noise: randomBytes(300_000),
  zeros: Buffer.alloc(10 << 20),
  'a repetition far behind': Buffer.concat([
    program.subarray(0, 1 << 20),
    randomBytes(9 << 20),
    program.subarray(0, 1 << 20),
  ]),
  'few symbols': Buffer.from(Array.from({ length: 200_000 }, (_, i) => ((i * i) % 7) + 65)),
  'all lengths': Buffer.concat(Array.from({ length: 300 }, (_, i) => Buffer.alloc(i * i, i))),
};

describe.each(Object.entries(INPUTS))('%s', (_, bytes) => {
  test.each([
    [['-1']],
    [['--fast=10']],
    [['-3', '--no-check']],
    [['-12', '--long=25']],
    [['-19']],
    [['-5', '--long=27', '--no-content-size']],
  ])('comes back from %j', (options) => {
    const back = decode(zstd(bytes, ...options));
    expect(back.length).toBe(bytes.length);
    expect(digest(back)).toBe(digest(bytes));
  });
});

test('several frames, and what is to be skipped between them', () => {
  const skipped = Buffer.from('5a2a4d1803000000010203', 'hex');
  const bytes = Buffer.concat([zstd(Buffer.from('one, ')), skipped, zstd(Buffer.from('two'))]);
  expect(decode(bytes).toString()).toBe('one, two');
});

test('what is cut anywhere is refused', () => {
  for (const bytes of [zstd(words(500), '--check'), zstd(words(500), '--no-check')])
    for (let length = 0; length < bytes.length; length++)
      expect(() => decode(bytes.subarray(0, length))).toThrow(ZstdError);
});

test('damaged bytes give other bytes or a ZstdError, and nothing else', () => {
  const random = numbers(42);
  let refused = 0;
  for (const good of [
    zstd(words(2000), '-19'),
    zstd(program.subarray(0, 40_000), '-3'),
    zstd(words(20), '-1'),
  ]) {
    for (let turn = 0; turn < 1500; turn++) {
      const bytes = Buffer.from(good);
      for (let flips = 1 + (turn % 3); flips > 0; flips--)
        bytes[Math.floor(random() * bytes.length)] ^= 1 << Math.floor(random() * 8);
      try {
        decode(bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(ZstdError);
        refused++;
      }
    }
  }
  expect(refused).toBeGreaterThan(1000);
});

test.each([
  ['something else', Buffer.from('#!/bin/sh\n')],
  ['gzip', Buffer.from('1f8b080000000000', 'hex')],
  ['a window of gigabytes', Buffer.from('28b52ffd00a8010000', 'hex')],
  ['a dictionary', Buffer.from('28b52ffd010007010000', 'hex')],
])('%s is refused', (_, bytes) => {
  expect(() => decode(bytes)).toThrow(ZstdError);
});

describe('compressing', () => {
  async function* pieces(): AsyncGenerator<Buffer> {
    for (let i = 0; i < 40; i++) yield INPUTS['words'].subarray(i * 1000, (i + 1) * 1000);
  }

  test('writes what the program and the decoder read', async () => {
    const file = join(folder, 'out.zst');
    await compressZstd(pieces(), file);
    const want = INPUTS['words'].subarray(0, 40_000);
    expect(decode(readFileSync(file))).toEqual(want);
    expect(spawnSync('zstd', ['-dc', file]).stdout).toEqual(want);
  });

  test('fails where its bytes do, and where it is ended', async () => {
    async function* broken(): AsyncGenerator<Buffer> {
      yield Buffer.from('some');
      throw new Error('no more');
    }
    await expect(compressZstd(broken(), join(folder, 'broken.zst'))).rejects.toThrow('no more');
    const over = new AbortController();
    over.abort(new Error('enough'));
    await expect(compressZstd(pieces(), join(folder, 'ended.zst'), over.signal)).rejects.toThrow();
  });

  test('does not write over a file', async () => {
    await expect(compressZstd(pieces(), join(folder, 'input'))).rejects.toThrow('EEXIST');
  });
});
