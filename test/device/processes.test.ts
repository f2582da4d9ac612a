/** What needs a process of its own: ends of processes and threads, the garbage collector, users, tee-supplicant. */
import { execFileSync, spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { TeeContext, value, type TeeError } from 'node-optee';
import {
  census,
  child,
  expectNothingLeft,
  inTee,
  lastLine,
  nobodyInTee,
  OS_TEST,
  rejectedAtOnce,
  rejection,
  TEST_TA,
  until,
  useTee,
  within,
  withSession,
} from '../support/device.js';
import { freezeSupplicant, startSupplicant, stopSupplicant, supplicant } from '../support/supplicant.js';
import * as TA from '../support/test-ta.js';

const guest = useTee();

/** The machine still works, whatever a child has done to it. */
async function stillWorks(): Promise<void> {
  await withSession(guest.tee, async (session) => {
    expect(await session.invoke(TA.TEST_TA_VALUES, [value.inout(1)])).toEqual([{ a: 2, b: 2 }]);
  });
}

const started: { kill(signal: NodeJS.Signals): boolean }[] = [];

/** A program of `children` that the test does something to while it runs. */
function startChild(name: string, args: readonly string[]) {
  const path = require.resolve(`./children/${name}.js`);
  const running = spawn(process.execPath, [path, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  let stdout = '';
  running.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  const program = {
    /** Its status and signal. */
    ended: new Promise((resolve) => running.on('exit', (...how) => resolve(how))),
    stdout: () => stdout,
    kill: (signal: NodeJS.Signals) => running.kill(signal),
  };
  started.push(program);
  return program;
}

test('handles that the garbage collector took are closed, with one warning for each kind', async () => {
  const found = lastLine(await child('gc')) as {
    before: object;
    after: object;
    first: { code: string; message: string }[];
    second: { code: string; message: string }[];
    keptBytes: number;
    kept: object;
  };
  // Memory that is still used is not lost, nor is what it needs.
  expect(found.keptBytes).toBe(8192);
  expect(found.kept).toEqual({
    closed: false,
    allocated: true,
    invoked: [null, { a: 0, b: expect.any(Number) }],
  });
  expect(found.after).toEqual(found.before);
  const lost = ({ code, message }: { code: string; message: string }): string => {
    expect(code).toBe('TEE_HANDLE_NOT_CLOSED');
    return message.replace(/ was closed by the garbage collector.*/, '');
  };
  expect(found.first.map(lost).sort()).toEqual([
    'A DmaBuf of 4096 bytes',
    expect.stringMatching(/^A DmaHeap /),
    `A Session with TA ${TEST_TA}`,
    expect.stringMatching(/^A SharedMemory of (4096|8192) bytes$/),
  ]);
  // Of a context and its children that went together.
  expect(found.second.map(lost)).toEqual(['A TeeContext of /dev/tee0']);
});

describe('a worker thread that is ended in the middle of a call', () => {
  interface Found {
    before: object;
    after: object;
    took: number;
    sinceCall: number;
    found: object;
    filled: number;
  }

  test.each(['', 'memory'])(
    'waits for calls that use its memory, and only for those: %j',
    async (mode) => {
      const end = async (): Promise<Found> => {
        const result = await child('worker', [mode], { timeout: 120_000 });
        const found = lastLine(result) as Found;
        expect({ status: result.status, ...found }).toMatchObject({
          status: 0,
          found: { a: 2, b: 2 },
          filled: 1,
        });
        expect(found.after).toEqual(found.before);
        return found;
      };
      // The TA keeps the memory for 1500 ms; its clock counts milliseconds.
      if (mode === 'memory') expect((await end()).sinceCall).toBeGreaterThan(1490);
      else await within(1000, async () => (await end()).took);
    },
    130_000,
  );
});

describe('a process that ends in the middle of a call', () => {
  /** Milliseconds since the call of `children/exit` was made. */
  function sinceBegun(stdout: string): number {
    const begun = /^begun (\d+)$/m.exec(stdout)?.[1];
    return begun === undefined ? NaN : Number(process.hrtime.bigint() - BigInt(begun)) / 1e6;
  }
  // The TA waits for 2000 ms; its clock counts milliseconds.
  const LEAST = 1990;

  test.each([
    ['return', 0, null],
    ['exit', 5, null],
    ['throw', 1, null],
  ])('%s', async (how, status, signal) => {
    const result = await child('exit', [how]);
    const took = sinceBegun(result.stdout);
    expect(result).toMatchObject({ status, signal });
    expect(result.stdout.includes('answered')).toBe(how === 'return');
    if (how === 'throw') expect(result.stderr).toContain('thrown on purpose');
    expect(took).toBeGreaterThan(LEAST);
    await stillWorks();
  });

  test.each(['SIGTERM', 'SIGKILL'] as const)('%s', async (signal) => {
    const running = startChild('exit', ['return']);
    await until(() => running.stdout().includes('\n'));
    running.kill(signal);
    expect(await running.ended).toEqual([null, signal]);
    expect(sinceBegun(running.stdout())).toBeGreaterThan(LEAST);
    await stillWorks();
  });
});

test('memory that is closed while threads of Node read it', async () => {
  const result = await child('pool');
  expect({ signal: result.signal, found: lastLine(result) }).toEqual({
    signal: null,
    found: { found: [1 << 20] },
  });
});

test('a program that is started inherits nothing', async () => {
  const found = lastLine(await child('inherit')) as { own: Record<string, number>; found: string[] };
  expect(found.own['teeShm descriptors']).toBe(3);
  expect(found.found).toEqual([]);
});

describe('users', () => {
  const TEE_GROUP = Number(execFileSync('stat', ['-c', '%g', '/dev/tee0'], { encoding: 'utf8' }));

  test('in the group of the device', async () => {
    expect(lastLine(await child('user', ['65534', '65534', String(TEE_GROUP)]))).toEqual({
      devices: [{ path: '/dev/tee0', implementation: 'optee' }],
      found: { a: 2, b: 2 },
    });
  });

  test('not in the group: the error says which it is', async () => {
    expect(lastLine(await child('user', ['65534', '65534']))).toEqual({
      devices: [{ path: '/dev/tee0', code: 'EACCES' }],
      error: {
        name: 'TeeSystemError',
        code: 'EACCES',
        errno: -13,
        path: '/dev/tee0',
        message: expect.stringMatching(
          /^EACCES: permission denied, open '\/dev\/tee0': it belongs to user root and group tee, mode 0660: run as a member/,
        ),
      },
    });
  });

  // As in a rootless container, whose root the process is then.
  test('in a user namespace that does not map the owner: no group in it helps, says the error', async () => {
    expect(lastLine(await child('user-namespace', ['4711', '4711']))).toEqual({
      code: 'EACCES',
      message: expect.stringMatching(
        /mode 0660, because the user namespace of this process .* does not map the real owner and group/,
      ),
    });
  });

  test('in such a namespace, with the group of the device kept', async () => {
    expect(lastLine(await child('user-namespace', ['4711', '4711', String(TEE_GROUP)]))).toBe('/dev/tee0');
  });
});

describe('devices that are none', () => {
  test.each([
    ['/dev/null', 'ENOTTY', 'this is not a TEE device'],
    ['/dev/tee9', 'ENOENT', 'there is no such TEE device'],
  ])('%s', (path, code, hint) => {
    expect(() => TeeContext.open(path)).toThrow(
      expect.objectContaining({ name: 'TeeSystemError', code, path, message: expect.stringContaining(hint) }),
    );
  });

  test("the supplicant's, which is not even opened", async () => {
    expect(() => TeeContext.open('/dev/teepriv0')).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }),
    );
    await stillWorks();
  });
});

describe('tee-supplicant', () => {
  afterEach(async () => {
    for (const program of started.splice(0)) program.kill('SIGKILL'); // one that has ended does not mind
    if ((await supplicant()) === undefined) await startSupplicant();
    await stillWorks();
  });

  // First, while it is still the guest's own: the guest does not start one of these tests' again.
  test('killed with a request that it has not taken: the open goes on with another, and fails', async () => {
    await nobodyInTee();
    const before = census();
    const pid = await freezeSupplicant();
    let waiting: Promise<TeeError>;
    try {
      waiting = rejection<TeeError>(guest.open(OS_TEST));
      await inTee();
    } finally {
      process.kill(pid, 'SIGKILL'); // whatever happens: stopped, it would hold up all that follows
    }
    // The guest starts another one.
    await until(async () => ![undefined, pid].includes(await supplicant()));
    // Nobody will answer that request, so OP-TEE did not get the memory that it was for.
    expect(await waiting).toMatchObject({
      code: 'TEE_ERROR_OUT_OF_MEMORY',
      origin: 'tee',
      message: expect.stringContaining('tee-supplicant ended while the TA was being loaded: try again'),
    });
    await withSession(guest.tee, (session) => session.invoke(9, [value.in(1)]), OS_TEST);
    await expectNothingLeft(before);
  });

  describe('stopped', () => {
    beforeEach(async () => {
      await nobodyInTee(); // what the test before has given up
      await stopSupplicant();
    });

    test('an open waits without holding up anything, can be given up, and goes on when it is back', async () => {
      const tee = TeeContext.open();
      let ticks = 0;
      const ticking = setInterval(() => ticks++, 10);
      try {
        const waiting = tee.openSession(OS_TEST);
        const controller = new AbortController();
        const given = tee.openSession(OS_TEST, { signal: controller.signal });
        await delay(500);
        controller.abort();
        expect(await rejectedAtOnce(given)).toMatchObject({
          name: 'AbortError',
          message: expect.stringContaining('was given up'),
        });
        // What was given up holds nobody up: not the end of its context either.
        const other = TeeContext.open();
        const alone = new AbortController();
        const last = other.openSession(OS_TEST, { signal: alone.signal });
        await delay(100);
        alone.abort();
        await rejectedAtOnce(last);
        await other.close();
        expect(ticks).toBeGreaterThan(10);
        expect(await Promise.race([waiting, delay(500, 'still waiting')])).toBe('still waiting');
        await startSupplicant();
        const session = await waiting;
        await session.invoke(9, [value.in(1)]);
      } finally {
        clearInterval(ticking);
        await tee.close();
      }
    });

    test('a process ends in spite of an opening that was given up', async () => {
      expect(await child('given-up')).toMatchObject({ status: 0, stdout: 'given up\n' });
    });

    test("but waits where the TEE may still write into JavaScript's memory", async () => {
      const running = startChild('given-up', ['memory']);
      await until(() => running.stdout() === 'given up\n');
      expect(await Promise.race([running.ended, delay(500, 'still there')])).toBe('still there');
      await startSupplicant();
      expect(await running.ended).toEqual([0, null]);
    });
  });
});
