/** Ends of processes, threads and contexts at each state of a call. NODE_OPTEE_LONG: all pairs, and 1,000 workers. */
import { describe, expect, test } from '@jest/globals';
import { child, lastLine, useNoSession, useTee, type Census } from '../support/device.js';

const LONG = Boolean(process.env['NODE_OPTEE_LONG']);

const guest = useTee();
const noSession = useNoSession(guest);

describe('a process that ends', () => {
  const STATES = ['waiting', 'in the TEE', 'being cancelled', 'not delivered', 'opening', 'registering'];
  const ENDS = {
    exit: { status: 5, signal: null },
    throw: { status: 1, signal: null },
    SIGTERM: { status: null, signal: 'SIGTERM' },
    SIGKILL: { status: null, signal: 'SIGKILL' },
  } as const;
  type End = keyof typeof ENDS;
  const all = STATES.flatMap((state) => (Object.keys(ENDS) as End[]).map((end) => [state, end] as const));
  /** SIGKILL, after which nothing of this process runs, at each state; each other end at one more. */
  const some: readonly (readonly [string, End])[] = [
    ...all.filter(([, end]) => end === 'SIGKILL'),
    ['not delivered', 'exit'],
    ['being cancelled', 'throw'],
    ['registering', 'SIGTERM'],
  ];

  /** Milliseconds that the TA takes, and what may come on top: the end of a process on a busy machine. */
  const TIME = 500;
  const MARGIN = 10_000;

  test.each(LONG ? all : some)(
    'while a call is %s, by %s: its exit code, no session left, no later than the TA',
    async (state, end) => {
      const result = await child('life', [state, end, String(TIME)], { timeout: 200_000 });
      const ended = process.hrtime.bigint();
      expect(result).toMatchObject(ENDS[end]);
      const begun = /^begun (\d+)$/m.exec(result.stdout)?.[1];
      expect(begun).toBeDefined();
      expect(Number(ended - BigInt(begun ?? 0)) / 1e6).toBeLessThan(TIME + MARGIN);
      expect(result.stdout).not.toContain('delivered');
      if (end === 'throw') expect(result.stderr).toContain('thrown on purpose');
      await noSession();
    },
    240_000,
  );
});

test(
  'worker threads one after another, ended at each state of a call: nothing is left',
  async () => {
    const count = LONG ? 1000 : 18;
    const result = await child('workers', [String(count), '100'], { timeout: 4_500_000 });
    const found = lastLine(result) as {
      ends: Record<string, number>;
      before: { census: Census; threads: string[] };
      after: { census: Census; threads: string[] };
      sessions: number;
      grown: number;
      longest: number;
    };
    if (LONG) process.stdout.write(`[life] ${count} workers: ${JSON.stringify(found)}\n`);
    expect(Object.keys(found.ends).sort()).toEqual(['exit: 5', 'terminate: 1', 'throw: 1 thrown on purpose']);
    expect(Object.values(found.ends).reduce((sum, one) => sum + one)).toBe(count);
    expect(found.after).toEqual(found.before);
    expect(found.sessions).toBe(0);
    expect(found.longest).toBeLessThan(20_000);
    // What V8 and Node.js keep of a thousand threads is less.
    expect(found.grown).toBeLessThan(100);
  },
  LONG ? 4_500_000 : 240_000,
);

test('contexts of node:vm that are forgotten with open handles and a call under way: nothing is left', async () => {
  const count = LONG ? 50 : 2;
  const found = lastLine(await child('vm-contexts', [String(count)], { timeout: 900_000 })) as {
    before: Census;
    open: number;
  };
  // Some may be gone already.
  expect(found.open).toBeGreaterThan(0);
  expect(found).toMatchObject({
    found: Array(count).fill({ sum: 2, foreign: true }),
    sessions: 0,
    after: found.before,
  });
}, 960_000);
