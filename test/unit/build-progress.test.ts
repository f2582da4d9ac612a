import { expect, test } from '@jest/globals';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cache } from '#lib/qemu/build/cache';
import { elapsed, streamProgress } from '#lib/qemu/build/progress';
import { Steps } from '#lib/qemu/build/steps';

function stream(isTTY: boolean): Writable & { text: string } {
  const made = Object.assign(
    new Writable({ write: (chunk, _encoding, done) => ((made.text += String(chunk)), done()) }),
    { isTTY, text: '' },
  );
  return made;
}

test('progress is a line at the start and the end of each step where there is no terminal', () => {
  const to = stream(false);
  const progress = streamProgress(to);
  progress.start(1, 2, 'Linux');
  progress.end(425, 1);
  progress.note('a note');
  expect(to.text).toBe('[1/2] Linux ...\n[1/2] Linux: 7:05\na note\n');
  expect(elapsed(59.4)).toBe('59 s');
});

test('steps beside each other are told apart', () => {
  const [lines, terminal] = [stream(false), stream(true)];
  for (const to of [lines, terminal]) {
    const progress = streamProgress(to);
    progress.start(1, 2, 'Linux');
    progress.start(2, 2, 'OP-TEE OS');
    progress.fail(7, 1);
    progress.end(62, 2);
  }
  expect(lines.text).toBe(
    '[1/2] Linux ...\n[2/2] OP-TEE OS ...\n[1/2] Linux: failed after 7 s\n[2/2] OP-TEE OS: 1:02\n',
  );
  expect(terminal.text.split('\r\x1b[K').slice(-4)).toEqual([
    '[1/2] Linux 0 s, [2/2] OP-TEE OS 0 s',
    '[1/2] Linux: failed after 7 s\n',
    '[2/2] OP-TEE OS 0 s',
    '[2/2] OP-TEE OS: 1:02\n',
  ]);
});

test('on a terminal it is one line, whose time goes on', async () => {
  const to = stream(true);
  const progress = streamProgress(to);
  progress.start(1, 2, 'Linux');
  // On a busy machine a second may be left out.
  for (let i = 0; i < 1000 && !/ [1-9]\d* s/.test(to.text); i++) await sleep(50);
  progress.end(2, 1);
  progress.start(2, 2, 'OP-TEE OS');
  progress.fail(62, 2);
  const [begin, ...drawn] = to.text.split('\r\x1b[K');
  expect(begin).toBe('');
  const seconds = drawn.slice(0, -3).map((line) => Number(/^\[1\/2\] Linux (\d+) s$/.exec(line)?.[1]));
  expect(seconds[0]).toBe(0);
  expect(seconds.at(-1)).toBeGreaterThan(0);
  expect(seconds).toEqual([...seconds].sort((a, b) => a - b));
  expect(drawn.slice(-3)).toEqual([
    '[1/2] Linux: 2 s\n',
    '[2/2] OP-TEE OS 0 s',
    '[2/2] OP-TEE OS: failed after 1:02\n',
  ]);
});

test('steps are counted, and one that fails names its log', async () => {
  const cache = new Cache(mkdtempSync(join(tmpdir(), 'node-optee-steps-')));
  try {
    const to = stream(false);
    const steps = new Steps(cache, streamProgress(to), 2, undefined);
    await steps.run('Root file system', async (log) => log.write('all is well\n'));
    const path = join(cache.logs, 'op-tee-os-4.10.0-2-dynamic.log');
    await expect(
      steps.run('OP-TEE OS 4.10.0-2 (dynamic)', () => Promise.reject(new Error('no'))),
    ).rejects.toMatchObject({
      name: 'BuildError',
      message: `OP-TEE OS 4.10.0-2 (dynamic): no\nThe whole log: ${path}`,
    });
    expect(readFileSync(join(cache.logs, 'root-file-system.log'), 'utf8')).toBe('all is well\n');
    expect(to.text).toMatch(
      /^\[1\/2\] Root file system \.\.\.\n[^]*\n\[2\/2\] OP-TEE.*: failed after 0 s\n$/,
    );
  } finally {
    rmSync(cache.path, { recursive: true });
  }
});
