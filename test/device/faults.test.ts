/** What a system does not have, or takes away: the documented error, nothing lost, and normal work afterwards. */
import { execFile, execFileSync } from 'node:child_process';
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { describe, expect, test } from '@jest/globals';
import { buffer, DmaHeap, value, type DmaBuf, type Session, type SharedMemory } from 'node-optee';
import {
  census,
  child,
  expectNothingLeft,
  lastLine,
  nobodyInTee,
  PROTECTED_HEAP,
  rejection,
  TEST_TA,
  useNoSession,
  useTee,
  withSession,
} from '../support/device.js';
import { freezeSupplicant } from '../support/supplicant.js';
import * as TA from '../support/test-ta.js';

const guest = useTee();
const noSession = useNoSession(guest);

const works = (session: Session): void => {
  expect(session.invokeSync(TA.TEST_TA_VALUES, [value.inout(41)])).toEqual([{ a: 42, b: 2 }]);
};

interface Found {
  during: Record<string, string>;
  after: Record<string, string>;
  before: object;
  left: object;
}

/** `children/limits` with a limit of the shell's. */
async function limited(limit: string, ...args: string[]): Promise<Found> {
  const file = join(__dirname, 'children', 'limits.js');
  const script = `ulimit ${limit}; exec "$@"`;
  const { stdout } = await promisify(execFile)('sh', ['-c', script, 'sh', process.execPath, file, ...args]);
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Found;
}

const SYNC = [
  'a context',
  'a session',
  'a call with values',
  'a call with buffers',
  'shared memory',
  'registered memory',
  'a heap',
  'a dma-buf',
  'the map of a dma-buf',
  'a duplicate',
];
const ASYNC = ['a call', 'another session', 'more shared memory'];
const all = (names: readonly string[]): Record<string, string> =>
  Object.fromEntries(names.map((name) => [name, 'works']));

describe('all that a process may have of', () => {
  test('descriptors', async () => {
    const found = await limited('-n 64', 'descriptors');
    expect(found.during).toEqual({
      ...all([...SYNC, ...ASYNC]),
      'a context': 'TeeSystemError EMFILE scandir',
      'a call with buffers': 'TeeSystemError EMFILE memfd_create',
      'shared memory': 'TeeSystemError EMFILE memfd_create',
      'registered memory': 'TeeSystemError EMFILE TEE_IOC_SHM_REGISTER',
      'a heap': 'TeeSystemError EMFILE open',
      'a dma-buf': 'TeeSystemError EMFILE DMA_HEAP_IOCTL_ALLOC',
      'a duplicate': 'TeeSystemError EMFILE F_DUPFD_CLOEXEC',
      'more shared memory': 'TeeSystemError EMFILE memfd_create',
    });
    expect(found.after).toEqual(all([...SYNC, ...ASYNC]));
    expect(found.left).toEqual(found.before);
  });

  test('mappings (vm.max_map_count)', async () => {
    const found = await limited('-c 0', 'mappings');
    expect(found.during).toMatchObject({
      'a call with values': 'works',
      'the map of a dma-buf': 'TeeSystemError ENOMEM mmap',
    });
    expect(found.after).toEqual(all([...SYNC, ...ASYNC]));
    expect(found.left).toEqual(found.before);
  });

  test('threads (ulimit -u)', async () => {
    const group = execFileSync('stat', ['-c', '%g', '/dev/tee0'], { encoding: 'utf8' }).trim();
    const found = await limited('-u 1', 'threads', group);
    expect(found.during).toEqual({
      ...all(SYNC),
      'a call': 'TeeSystemError EAGAIN thread',
      'another session': 'TeeSystemError EAGAIN thread',
      'more shared memory': 'TeeSystemError EAGAIN thread',
    });
    expect(found.after).toEqual(all(SYNC));
    expect(found.left).toEqual(found.before);
  });
});

describe('all that the TEE has of', () => {
  test('memory for sessions', async () => {
    const sessions: Session[] = [];
    let error: { code: string; message: string } | undefined;
    while (error === undefined && sessions.length < 500) {
      await guest.open(TEST_TA).then(
        (session) => sessions.push(session),
        (reason: typeof error) => (error = reason),
      );
    }
    expect(error?.code).toMatch(/^TEE_ERROR_(OUT_OF_MEMORY|SECURITY|BUSY)$/);
    expect(error?.message).toContain(`(open here: ${sessions.length})`);
    for (const session of sessions) works(session);
    await Promise.all(sessions.map((session) => session.close()));
    await noSession();
    for (let i = 0; i < 3; i++) await withSession(guest.tee, works);
  }, 180_000);

  test('room for shared memory', () =>
    withSession(guest.tee, async (session) => {
      const before = census();
      const pieces: SharedMemory[] = [];
      let error: Error | undefined;
      while (error === undefined && pieces.length < 500) {
        await guest.tee.allocSharedMemory(1 << 20).then(
          (piece) => pieces.push(piece),
          (reason: Error) => (error = reason),
        );
      }
      expect(error).toMatchObject({
        name: 'TeeSystemError',
        code: expect.stringMatching(/^(EINVAL|ENOMEM)$/),
        operation: expect.stringMatching(/^(TEE_IOC_SHM_REGISTER|MemAvailable)$/),
      });
      // What needs none goes on; what needs some is refused, or finds room.
      works(session);
      const one = pieces.at(-1)?.inout({ size: 16 });
      await session.invoke(TA.TEST_TA_TOUCH, [one]);
      await session.invoke(TA.TEST_TA_TOUCH, [buffer.inout(new Uint8Array(4096))]).catch((reason: Error) => {
        expect(reason).toMatchObject({ operation: 'TEE_IOC_SHM_REGISTER' });
      });
      for (const piece of pieces) piece.close();
      await session.invoke(TA.TEST_TA_TOUCH, [buffer.inout(new Uint8Array(4096))]);
      (await guest.tee.allocSharedMemory(1 << 20)).close();
      expect(census()['memfd mappings'] ?? 0).toBeLessThanOrEqual((before['memfd mappings'] ?? 0) + 1);
    }));

  test('protected memory', async () => {
    const before = census();
    const heap = DmaHeap.open(PROTECTED_HEAP);
    for (let round = 0; round < 2; round++) {
      const bufs: DmaBuf[] = [];
      let error: Error | undefined;
      while (error === undefined && bufs.length < 5000) {
        await heap.alloc(256 << 10).then(
          (buf) => bufs.push(buf),
          (reason: Error) => (error = reason),
        );
      }
      expect(bufs.length).toBeGreaterThan(1);
      expect(error).toMatchObject({ code: 'ENOMEM', operation: 'DMA_HEAP_IOCTL_ALLOC' });
      for (const buf of bufs) buf.close();
    }
    heap.close();
    await expectNothingLeft(before);
  });
});

test('the permission of the device is taken away: what is open goes on, what opens says EACCES', async () => {
  const mode = 0o660;
  const group = execFileSync('stat', ['-c', '%g', '/dev/tee0'], { encoding: 'utf8' }).trim();
  await withSession(guest.tee, async (session) => {
    try {
      chmodSync('/dev/tee0', 0o600);
      works(session);
      expect(lastLine(await child('user', ['65534', '65534', group]))).toMatchObject({
        error: { name: 'TeeSystemError', code: 'EACCES', path: '/dev/tee0' },
      });
    } finally {
      chmodSync('/dev/tee0', mode);
    }
    works(session);
    expect(lastLine(await child('user', ['65534', '65534', group]))).toMatchObject({ found: { a: 2, b: 2 } });
  });
});

describe("V8's heap is used up with a call under way", () => {
  test('of a process: it aborts, and no session is left', async () => {
    const flags = ['--max-old-space-size=24'];
    const result = await child('exhausted', ['process'], { flags, timeout: 120_000 });
    expect(result).toMatchObject({ status: null, signal: 'SIGABRT', stdout: 'there\n' });
    expect(result.stderr).toContain('heap out of memory');
    await noSession();
  }, 150_000);

  test('of a worker thread: it ends, and the process goes on', async () => {
    const found = lastLine(await child('exhausted', ['worker'], { timeout: 120_000 })) as { before: object };
    expect(found).toEqual({
      code: 'ERR_WORKER_OUT_OF_MEMORY',
      found: { a: 2, b: 2 },
      before: found.before,
      after: found.before,
    });
    await noSession();
  }, 150_000);
});

test('signals without a pause: no call is lost, and none says that it was when it ran', async () => {
  const result = await child('signals', [], { timeout: 120_000 });
  const { signals, found } = lastLine(result) as {
    signals: number;
    found: Record<string, Record<string, number>>;
  };
  expect(signals).toBeGreaterThan(100);
  // Only a thread of JavaScript's gets signals; what they interrupt is said to be so.
  const interrupted = found['invokeSync']?.['EINTR TEE_IOC_INVOKE'] ?? 0;
  expect(found).toEqual({
    invoke: { right: 200 },
    invokeSync:
      interrupted > 0 ? { right: 200 - interrupted, 'EINTR TEE_IOC_INVOKE': interrupted } : { right: 200 },
    buffers: { right: 200 },
    memory: { right: 200 },
    memorySync: { right: 200 },
  });
}, 150_000);

test('tee-supplicant is stopped in the middle of storage, and goes on: nothing is lost', async () => {
  await nobodyInTee();
  const name = (i: number): Uint8Array => Buffer.from(`fault ${i}`);
  const data = (i: number): Uint8Array => new Uint8Array(1000).fill(i + 1);
  const COUNT = 8;
  const sessions = await Promise.all(Array.from({ length: 2 }, () => guest.open()));
  try {
    const writes = Array.from({ length: COUNT }, (_, i) =>
      sessions[i % 2].invoke(TA.TEST_TA_STORAGE_WRITE, [buffer.in(name(i)), buffer.in(data(i))]),
    );
    await writes[0];
    const pid = await freezeSupplicant();
    try {
      let ticks = 0;
      const ticking = setInterval(() => ticks++, 10);
      expect(await Promise.race([Promise.all(writes), delay(500, 'waiting')])).toBe('waiting');
      clearInterval(ticking);
      expect(ticks).toBeGreaterThan(10);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    await Promise.all(writes);
    for (let i = 0; i < COUNT; i++) {
      const [, back] = await sessions[0].invoke(TA.TEST_TA_STORAGE_READ, [
        buffer.in(name(i)),
        buffer.out(2000),
      ]);
      expect(back).toEqual(data(i));
      await sessions[0].invoke(TA.TEST_TA_STORAGE_DELETE, [buffer.in(name(i))]);
    }
    const gone = sessions[0].invoke(TA.TEST_TA_STORAGE_READ, [buffer.in(name(0)), buffer.out(2000)]);
    expect(await rejection(gone)).toMatchObject({ code: 'TEE_ERROR_ITEM_NOT_FOUND' });
  } finally {
    await Promise.all(sessions.map((session) => session.close()));
  }
}, 120_000);
