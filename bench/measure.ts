/**
 * Runs in the guest: measures every case with all subjects in turns, and prints a `Run` as JSON on stdout.
 *
 *   node measure.js C_PROGRAM [--quick] [--case NAME]... [--rounds N] [--no-extras]
 */
import { cpus, release } from 'node:os';
import { parseArgs } from 'node:util';
import { TeeContext, type Session } from 'node-optee';
import { NODE_OPTEE_TEST_TA_UUID, TEST_TA_NOTHING } from '../test/support/test-ta';
import { CASES, PARALLEL, type BenchCase } from './cases';
import { measureMemory } from './memory';
import { measureResponsiveness } from './responsiveness';
import type { CaseResult, Run, Subject } from './results';
import { CServer } from './server';
import { median, summarize } from './statistics';

/** Makes so many calls and tells the nanoseconds of each. */
type Batch = (calls: number) => Promise<number[]>;

interface Plan {
  readonly rounds: number;
  /** Of a case whose share is 1. */
  readonly calls: number;
  /** Unmeasured ones before those of each turn: caches are still full of what another process did. */
  readonly settle: number;
  /** Before the first round. */
  readonly warmUp: number;
  /** The same for calls from JavaScript: until V8 has compiled what a case uses. */
  readonly compiled: number;
}

const FULL: Plan = { rounds: 7, calls: 40, settle: 15, warmUp: 100, compiled: 1000 };
const QUICK: Plan = { rounds: 1, calls: 3, settle: 0, warmUp: 0, compiled: 0 };

const note = (text: string): void => void process.stderr.write(`${text}\n`);

function fromC(server: CServer, name: string, client: string): Batch {
  return (calls) => server.measure(name, client, calls);
}

/**
 * What a look at the clock costs here, in milliseconds: a thousand instructions and more in JavaScript, where C
 * needs fifty. It is no part of a call, so it is taken off.
 */
function clockCost(): number {
  const costs: number[] = [];
  for (let i = 0; i < 25; i++) {
    const start = performance.now();
    costs.push(performance.now() - start);
  }
  return median(costs);
}

function timeSync(call: () => void): Batch {
  return (calls) => {
    const clock = clockCost();
    const ns: number[] = new Array<number>(calls);
    for (let i = 0; i < calls; i++) {
      const start = performance.now();
      call();
      ns[i] = (performance.now() - start - clock) * 1e6;
    }
    return Promise.resolve(ns);
  };
}

function timeAsync(call: () => Promise<unknown>): Batch {
  return async (calls) => {
    const clock = clockCost();
    const ns: number[] = new Array<number>(calls);
    for (let i = 0; i < calls; i++) {
      const start = performance.now();
      await call();
      ns[i] = (performance.now() - start - clock) * 1e6;
    }
    return ns;
  };
}

/** All subjects in turns, in another order each round, so that whatever changes meanwhile meets all of them. */
async function inTurns(batches: [Subject, Batch][], plan: Plan): Promise<CaseResult> {
  const { rounds, calls, settle, warmUp, compiled } = plan;
  const all = new Map<Subject, number[]>(batches.map(([subject]) => [subject, []]));
  for (const [subject, batch] of batches) {
    const first = subject === 'sync' || subject === 'async' ? compiled : warmUp;
    if (first > 0) await batch(first);
  }
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < batches.length; i++) {
      const [subject, batch] = batches[(i + round) % batches.length];
      if (settle > 0) await batch(settle);
      all.get(subject)?.push(...(await batch(calls)));
    }
  }
  return Object.fromEntries([...all].map(([subject, ns]) => [subject, summarize(ns)]));
}

async function measureCase(
  bench: BenchCase,
  plan: Plan,
  tee: TeeContext,
  session: Session,
  server: CServer,
): Promise<CaseResult> {
  const prepared = bench.prepare(tee, session);
  const batches: [Subject, Batch][] = [
    ['ioctl', fromC(server, bench.name, 'ioctl')],
    ['libteec', fromC(server, bench.name, 'libteec')],
  ];
  if (bench.handover) batches.push(['handover', fromC(server, bench.name, 'handover')]);
  if (prepared.sync) batches.push(['sync', timeSync(prepared.sync)]);
  batches.push(['libteec again', fromC(server, bench.name, 'libteec')]);
  if (prepared.async) batches.push(['async', timeAsync(prepared.async)]);
  try {
    const share = (calls: number): number => Math.max(1, Math.round(calls * bench.share));
    return await inTurns(batches, {
      ...plan,
      calls: share(plan.calls),
      settle: Math.round(plan.settle * bench.share),
      warmUp: Math.ceil(plan.warmUp * bench.share),
      // A call as long as the opening of a session does not depend on it.
      compiled: bench.share < 0.1 ? 0 : plan.compiled * Math.min(bench.share, 1),
    });
  } finally {
    await prepared.close?.();
  }
}

/** Calls on 8 sessions, one under way on each at any time: nanoseconds per call, over all of them. */
async function measureParallel(plan: Plan, tee: TeeContext, server: CServer): Promise<CaseResult> {
  const { name } = PARALLEL;
  const opening = Array.from({ length: PARALLEL.sessions }, () => tee.openSession(NODE_OPTEE_TEST_TA_UUID));
  const sessions = await Promise.all(opening);
  const eightDeep: Batch = async (calls) => {
    const start = performance.now();
    await Promise.all(
      sessions.map(async (session) => {
        for (let i = 0; i < calls; i++) await session.invoke(TEST_TA_NOTHING);
      }),
    );
    return [((performance.now() - start) * 1e6) / (calls * sessions.length)];
  };
  try {
    return await inTurns(
      [
        ['ioctl', fromC(server, name, 'ioctl')],
        ['libteec', fromC(server, name, 'libteec')],
        ['libteec again', fromC(server, name, 'libteec')],
        ['async', eightDeep],
      ],
      // The C side's threads and sessions are new each turn, so their warm-up is in the turn.
      {
        rounds: Math.ceil(plan.rounds / 2),
        calls: plan.calls * 3,
        settle: 0,
        warmUp: plan.warmUp,
        compiled: plan.compiled / 4,
      },
    );
  } finally {
    await Promise.all(sessions.map((session) => session.close()));
  }
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      quick: { type: 'boolean', default: false },
      case: { type: 'string', multiple: true },
      rounds: { type: 'string' },
      'no-extras': { type: 'boolean', default: false },
    },
  });
  const [program] = positionals;
  if (program === undefined) throw new Error('the path of the C side is needed');
  const { quick } = values;
  const plan = { ...(quick ? QUICK : FULL) };
  if (values.rounds !== undefined) plan.rounds = Number(values.rounds);
  const wanted = (name: string): boolean => values.case?.some((start) => name.startsWith(start)) ?? true;

  const server = new CServer(program);
  const names = [...CASES.map((bench) => bench.name), PARALLEL.name];
  const theirs = await server.cases();
  if (names.join() !== theirs.join()) throw new Error(`the C side has other cases: ${theirs.join()}`);

  const tee = TeeContext.open();
  const session = await tee.openSession(NODE_OPTEE_TEST_TA_UUID);
  const cases: Record<string, CaseResult> = {};
  for (const bench of CASES.filter(({ name }) => wanted(name))) {
    note(bench.name);
    cases[bench.name] = await measureCase(bench, plan, tee, session, server);
  }
  if (wanted(PARALLEL.name)) {
    note(PARALLEL.name);
    cases[PARALLEL.name] = await measureParallel(plan, tee, server);
  }
  // Nothing else may hold instances of the TA now: the rest needs many.
  await server.close();
  await tee.close();
  const extras = values['no-extras']
    ? {}
    : { responsiveness: await measureResponsiveness(quick, note), memory: await measureMemory(quick, note) };
  const run: Run = {
    guest: { node: process.version, kernel: release(), cpus: cpus().length, tee: tee.version },
    cases,
    ...extras,
  };
  process.stdout.write(`${JSON.stringify(run)}\n`);
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
