// What is the addon's own: its threads, the end of its environment, and that it trusts nothing.
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { TeeContext, value } from 'node-optee';
import { census, child, expectNothingLeft, lastLine, statistics, TEST_TA } from '../support/device.js';
import * as TA from '../support/test-ta.js';

/** The addon's threads of this process: name and mask of blocked signals. */
function threads(): { name: string; blocked: bigint }[] {
  return readdirSync('/proc/self/task').flatMap((id) => {
    let status: string;
    try {
      status = readFileSync(`/proc/self/task/${id}/status`, 'utf8');
    } catch {
      return []; // it has just ended
    }
    const name = /^Name:\s*(.*)$/m.exec(status)?.[1] ?? '';
    const blocked = BigInt(`0x${/^SigBlk:\s*(\S+)/m.exec(status)?.[1] ?? '0'}`);
    return name.startsWith('optee-') ? [{ name, blocked }] : [];
  });
}

test('threads have names, take no signals, grow to their bound and go when they are idle', async () => {
  const before = census();
  const tee = TeeContext.open({ threads: 3 });
  const sessions = await Promise.all([1, 2, 3, 4].map(() => tee.openSession(TEST_TA)));
  const controller = new AbortController();
  const calls = sessions.map((session) =>
    session
      .invoke(TA.TEST_TA_WAIT, [value.in(20_000)], { signal: controller.signal })
      .catch((error: Error) => error.name),
  );
  await delay(200);
  expect(statistics(tee)?.threads).toBe(3);
  expect(threads().filter(({ name }) => name === 'optee-call')).toHaveLength(3);
  controller.abort();
  expect(await Promise.all(calls)).toEqual(Array(4).fill('AbortError'));
  expect(threads().map(({ name }) => name)).toContain('optee-cancel');
  // Signals 1 to 31 but for SIGKILL and SIGSTOP, which cannot be blocked.
  const all = 0x7fffffffn & ~(1n << 8n) & ~(1n << 18n);
  for (const { blocked } of threads()) expect(blocked & all).toBe(all);
  await delay(6000);
  expect(statistics(tee)).toMatchObject({ threads: 0, temporarySlots: 0 });
  await tee.close();
  await expectNothingLeft(before);
  await delay(5500);
  expect(threads()).toEqual([]);
}, 60_000);

test.each([
  ['memory', 1000, 5000],
  ['nothing', 0, 800],
])(
  'a worker that ends during a call waits for the call only if that has its memory: %s',
  async (what, least, most) => {
    const result = await child('worker-memory', [what]);
    const found = lastLine(result) as { before: object; after: object; took: number };
    expect(result.status).toBe(0);
    expect(found.took).toBeGreaterThan(least);
    expect(found.took).toBeLessThan(most);
    expect(found.after).toEqual(found.before);
  },
  60_000,
);

test.each([1, 2])(
  'wrong arguments do not bring it down, seed %d',
  async (seed) => {
    const result = await child('misuse', [String(seed), '2500'], { timeout: 200_000 });
    const done = lastLine(result) as Record<string, number>;
    expect({ ...result, stdout: '' }).toEqual({ status: 0, signal: null, stdout: '', stderr: '' });
    // Some of it was right, so that it got to the TEE.
    for (const what of ['context', 'session', 'memory', 'buf', 'invoke', 'openSession', 'invokeSync']) {
      expect(done[what]).toBeGreaterThan(0);
    }
    const tee = TeeContext.open();
    const session = await tee.openSession(TEST_TA);
    expect(await session.invoke(TA.TEST_TA_VALUES, [value.inout(1)])).toEqual([{ a: 2, b: 2 }]);
    await tee.close();
  },
  240_000,
);
