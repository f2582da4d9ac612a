/**
 * Runs in the guest: measures every case with all subjects in turns, and prints a `Run` as JSON on stdout.
 *
 *   node measure.js C_PROGRAM [--quick] [--case NAME]... [--rounds N] [--no-extras]
 */
import { cpus, release } from 'node:os';
import { parseArgs } from 'node:util';
import { TeeContext, type Session } from 'node-optee';
import { NODE_OPTEE_TEST_TA_UUID } from '../test/support/test-ta';
import { CASES, type BenchCase } from './cases';
import { measureMemory } from './memory';
import { callAtOnce, PARALLEL } from './parallel';
import { measureResponsiveness } from './responsiveness';
import type { CaseResult, Run, Subject } from './results';
import { CServer } from './server';
import { summarize } from './statistics';

/** Makes so many times so many calls, one after the other, and tells the nanoseconds of one of them, each time. */
type Measure = (times: number, calls: number) => Promise<number[]>;

interface Plan {
  readonly rounds: number;
  /** How often in a round. */
  readonly times: number;
  /**
   * Between two looks at the clock, of a case whose share is 1. Several, for a look takes JavaScript much longer than
   * C, and in an emulator longest right after a call of the TEE: it is no part of the call.
   */
  readonly calls: number;
  /** Unmeasured ones before those of each round: caches are still full of what another process did. */
  readonly settle: number;
  /** Before the first round. */
  readonly warmUp: number;
  /** The same for calls from JavaScript: until V8 has compiled what a case uses. */
  readonly compiled: number;
}

const FULL: Plan = { rounds: 24, times: 1, calls: 20, settle: 8, warmUp: 100, compiled: 2000 };
const QUICK: Plan = { rounds: 1, times: 3, calls: 1, settle: 0, warmUp: 0, compiled: 0 };

const note = (text: string): void => void process.stderr.write(`${text}\n`);

function fromC(server: CServer, name: string, client: string): Measure {
  return (times, calls) => server.measure(name, client, times, calls);
}

function timeSync(call: () => void): Measure {
  return (times, calls) => {
    const ns: number[] = [];
    for (let i = 0; i < times; i++) {
      const start = performance.now();
      for (let j = 0; j < calls; j++) call();
      ns.push(((performance.now() - start) * 1e6) / calls);
    }
    return Promise.resolve(ns);
  };
}

function timeAsync(call: () => Promise<unknown>): Measure {
  return async (times, calls) => {
    const ns: number[] = [];
    for (let i = 0; i < times; i++) {
      const start = performance.now();
      for (let j = 0; j < calls; j++) await call();
      ns.push(((performance.now() - start) * 1e6) / calls);
    }
    return ns;
  };
}

/** In an order of chance. */
function shuffled<T>(of: readonly T[]): T[] {
  return of
    .map((thing) => ({ thing, key: Math.random() }))
    .sort((a, b) => a.key - b.key)
    .map(({ thing }) => thing);
}

/**
 * All subjects in turns, in an order of chance each round: whatever changes meanwhile meets all of them, and none always
 * comes after the same one, whose caches it would find.
 */
async function inTurns(subjects: [Subject, Measure][], plan: Plan): Promise<CaseResult> {
  const { rounds, times, calls, settle, warmUp, compiled } = plan;
  const all = new Map<Subject, number[]>(subjects.map(([subject]) => [subject, []]));
  for (const [subject, measure] of subjects) {
    const first = subject === 'sync' || subject === 'async' ? compiled : warmUp;
    if (first > 0) await measure(1, first);
  }
  for (let round = 0; round < rounds; round++) {
    for (const [subject, measure] of shuffled(subjects)) {
      if (settle > 0) await measure(1, settle);
      all.get(subject)?.push(...(await measure(times, calls)));
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
  const subjects: [Subject, Measure][] = [
    ['ioctl', fromC(server, bench.name, 'ioctl')],
    ['libteec', fromC(server, bench.name, 'libteec')],
  ];
  if (bench.handover) subjects.push(['handover', fromC(server, bench.name, 'handover')]);
  if (prepared.sync) subjects.push(['sync', timeSync(prepared.sync)]);
  subjects.push(['libteec again', fromC(server, bench.name, 'libteec')]);
  if (prepared.async) subjects.push(['async', timeAsync(prepared.async)]);
  try {
    const share = (calls: number): number => Math.max(1, Math.round(calls * bench.share));
    return await inTurns(subjects, {
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
  const eightDeep: Measure = async (times, calls) => [await callAtOnce(sessions, times * calls)];
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
        times: plan.times,
        calls: plan.calls * 2,
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
