// What is the addon's own: its threads, and that it trusts nothing.
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { buffer, TeeContext, value, type Session, type TeeContextOptions } from 'node-optee';
import {
  census,
  child,
  collectGarbage,
  expectNothingLeft,
  inTee,
  lastLine,
  machine,
  statistics,
  TEST_TA,
  until,
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

async function withContext(
  options: TeeContextOptions,
  use: (tee: TeeContext, session: Session) => Promise<void>,
): Promise<void> {
  const tee = TeeContext.open(options);
  try {
    await use(tee, await tee.openSession(TEST_TA));
  } finally {
    await tee.close();
  }
}

test('threads have names, take no signals, grow to their bound and go when they are idle', async () => {
  // Those of tests before this one, in the same process.
  await until(() => threads().length === 0);
  await collectGarbage();
  const before = census();
  // One less than the TEE has, where it has two, for CANCEL.
  const bound = machine === 'dynamic' ? 3 : 1;
  const tee = TeeContext.open({ threads: bound });
  const sessions = await Promise.all(Array.from({ length: bound + 1 }, () => tee.openSession(TEST_TA)));
  await sessions[0].invoke(TA.TEST_TA_CHECKSUM, [buffer.in(new Uint8Array(100)), value.out()]);
  const controller = new AbortController();
  const calls = sessions.map((session) =>
    session
      .invoke(TA.TEST_TA_WAIT, [value.in(20_000)], { signal: controller.signal })
      .catch((error: Error) => error.name),
  );
  await inTee(bound);
  expect(statistics(tee)?.threads).toBe(bound);
  expect(threads().filter(({ name }) => name === 'optee-call')).toHaveLength(bound);
  controller.abort();
  expect(await Promise.all(calls)).toEqual(Array(bound + 1).fill('AbortError'));
  expect(threads().map(({ name }) => name)).toContain('optee-cancel');
  // Signals 1 to 31 but for SIGKILL and SIGSTOP, which cannot be blocked.
  const all = 0x7fffffffn & ~(1n << 8n) & ~(1n << 18n);
  for (const { blocked } of threads()) expect(blocked & all).toBe(all);
  // The temporary memory of the first call is still there, and goes like the threads.
  expect(statistics(tee)).toMatchObject({ temporarySlots: 1, temporaryBytes: 4096 });
  await until(() => statistics(tee)?.threads === 0 && statistics(tee)?.temporarySlots === 0);
  expect(statistics(tee)).toMatchObject({ threads: 0, temporarySlots: 0, temporaryBytes: 0 });
  await tee.close();
  await expectNothingLeft(before);
  await until(() => threads().length === 0);
  expect(threads()).toEqual([]);
}, 240_000);

describe('temporary memory', () => {
  test('is registered once for calls of the same size', () =>
    withContext({}, async (tee, session) => {
      const call = (): Promise<unknown> =>
        session.invoke(TA.TEST_TA_COPY, [buffer.in(new Uint8Array(5000)), buffer.out(5000)]);
      await call();
      const { temporaryRegistrations, temporaryBytes } = statistics(tee) ?? {};
      expect(temporaryRegistrations).toBe(1);
      for (let i = 0; i < 50; i++) await call();
      expect(statistics(tee)).toMatchObject({ temporaryRegistrations, temporaryBytes });
    }));

  test('is kept within its bound; what finds no room there is registered for its call', () =>
    withContext({ temporaryMemory: 4096 }, async (tee, session) => {
      const other = await tee.openSession(TEST_TA);
      const copy = async (from: typeof session, size: number): Promise<void> => {
        const bytes = new Uint8Array(size).fill(size);
        const [out] = await from.invoke(TA.TEST_TA_TRANSFORM, [buffer.inout(bytes)]);
        expect(
          Buffer.compare(
            out,
            bytes.map((byte) => byte ^ 0xa5),
          ),
        ).toBe(0);
        expect(statistics(tee)?.temporaryBytes).toBeLessThanOrEqual(4096);
      };
      for (const size of [4096, 10_000, 4097, 1, 70_000]) {
        await Promise.all([session, other].flatMap((from) => [copy(from, size), copy(from, size)]));
      }
      const before = statistics(tee)?.temporaryRegistrations ?? NaN;
      for (let i = 0; i < 5; i++) await copy(session, 10_000);
      expect(statistics(tee)?.temporaryRegistrations).toBe(before + 5);
      for (let i = 0; i < 5; i++) await copy(session, 4096);
      expect(statistics(tee)).toMatchObject({ temporaryRegistrations: before + 5, temporaryBytes: 4096 });
    }));
});

test('wrong arguments do not bring it down', async () => {
  // Another way on each machine.
  const seed = ['dynamic', 'static', 'dmabuf'].indexOf(machine);
  const result = await child('abuse-native', ['--seed', String(seed), '--cases', '800'], {
    timeout: 200_000,
  });
  expect({ ...result, stdout: '' }).toEqual({ status: 0, signal: null, stdout: '', stderr: '' });
  expect(lastLine(result)).toMatchObject({ cases: 800 });
  const tee = TeeContext.open();
  const session = await tee.openSession(TEST_TA);
  expect(await session.invoke(TA.TEST_TA_VALUES, [value.inout(1)])).toEqual([{ a: 2, b: 2 }]);
  await tee.close();
}, 240_000);
