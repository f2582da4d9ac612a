// What is the addon's own: its threads, and that it trusts nothing.
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { TeeContext, value } from 'node-optee';
import {
  census,
  child,
  expectNothingLeft,
  lastLine,
  machine,
  statistics,
  TEST_TA,
} from '../support/device.js';
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
  // Those of tests before this one, in the same process.
  for (let i = 0; i < 70 && threads().length > 0; i++) await delay(100);
  const before = census();
  // One less than the TEE has, where it has two, for CANCEL.
  const bound = machine === 'dynamic' ? 3 : 1;
  const tee = TeeContext.open({ threads: bound });
  const sessions = await Promise.all(Array.from({ length: bound + 1 }, () => tee.openSession(TEST_TA)));
  const controller = new AbortController();
  const calls = sessions.map((session) =>
    session
      .invoke(TA.TEST_TA_WAIT, [value.in(20_000)], { signal: controller.signal })
      .catch((error: Error) => error.name),
  );
  await delay(200);
  expect(statistics(tee)?.threads).toBe(bound);
  expect(threads().filter(({ name }) => name === 'optee-call')).toHaveLength(bound);
  controller.abort();
  expect(await Promise.all(calls)).toEqual(Array(bound + 1).fill('AbortError'));
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

test('wrong arguments do not bring it down', async () => {
  // Another way on each machine.
  const seed = ['dynamic', 'static', 'dmabuf'].indexOf(machine);
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
}, 240_000);
