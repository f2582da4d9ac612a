/**
 * Runs in the guest: measures every case with all subjects in turns, and prints a `Run` as JSON on stdout.
 *
 *   node measure.js C_PROGRAM [--quick] [--case NAME]... [--rounds N] [--no-extras] [--not-deep]
 */
import { cpus, release } from 'node:os';
import { parseArgs } from 'node:util';
import { TeeContext, type Session } from 'node-optee';
import { statistics } from '../test/support/statistics';
import { NODE_OPTEE_TEST_TA_UUID } from '../test/support/test-ta';
import { until } from '../test/support/until';
import { callAtOnce, callInTurn, DEEP, depth } from './calls';
import { CASES, type BenchCase } from './cases';
import { measureMemory } from './memory';
import { measureResponsiveness } from './responsiveness';
import type { CaseResult, Run, Subject } from './results';
import { CServer } from './server';
import { summarize } from './statistics';
import { isShort, warmUp } from './warm-up';

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
  /** The same for calls from JavaScript: until V8 has optimized what only this case uses, after some 3,500. */
  readonly compiled: number;
  /** Is what the cases share optimized before the first one: see {@link warmUp}. */
  readonly optimized: boolean;
}

const FULL: Plan = {
  rounds: 24,
  times: 1,
  calls: 20,
  settle: 8,
  warmUp: 100,
  compiled: 5000,
  optimized: true,
};
const QUICK: Plan = {
  rounds: 1,
  times: 3,
  calls: 1,
  settle: 0,
  warmUp: 0,
  compiled: 0,
  optimized: false,
};

const note = (text: string): void => void process.stderr.write(`${text}\n`);

/** Whose turn it is in a case. */
interface Turn {
  readonly subject: Subject;
  readonly measure: Measure;
  /** Calls before the first round, and before each. */
  readonly warmUp: number;
  readonly settle: number;
  /** How often in a round. */
  readonly times: number;
}

function fromC(server: CServer, name: string, client: string, threads: number): Measure {
  return (times, calls) => server.measure(name, client, threads, times, calls);
}

/** `once` makes so many calls and tells the nanoseconds of one of them. */
function repeated(once: (calls: number) => Promise<number>): Measure {
  return async (times, calls) => {
    const ns: number[] = [];
    for (let i = 0; i < times; i++) ns.push(await once(calls));
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
async function inTurns(turns: readonly Turn[], rounds: number, calls: number): Promise<CaseResult> {
  const all = new Map<Subject, number[]>(turns.map(({ subject }) => [subject, []]));
  for (const { measure, warmUp } of turns) if (warmUp > 0) await measure(1, warmUp);
  for (let round = 0; round < rounds; round++) {
    for (const { subject, measure, settle, times } of shuffled(turns)) {
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
  sessions: readonly Session[],
  server: CServer,
): Promise<CaseResult> {
  const { name, share } = bench;
  const first = bench.prepare(tee, sessions[0]);
  // What has no asynchronous form is not needed more than once.
  const others = first.async === undefined ? [] : sessions.slice(1);
  const prepared = [first, ...others.map((session) => bench.prepare(tee, session))];
  const awaited = prepared.flatMap((each) => each.async ?? []);
  const settle = Math.round(plan.settle * share);
  const inCBefore = Math.ceil(plan.warmUp * share);
  const compiled = isShort(bench) ? plan.compiled * share : 0;
  const turn = (subject: Subject, measure: Measure, calls: number): Turn => {
    const deep = depth(subject); // so many calls in each of theirs
    return {
      subject,
      measure,
      warmUp: Math.ceil(calls / deep),
      settle: Math.round(settle / deep),
      times: Math.ceil(plan.times / deep),
    };
  };
  const inC = (subject: Subject, client: string): Turn =>
    turn(subject, fromC(server, name, client, depth(subject)), inCBefore);
  const ours = (subject: Subject, once: (calls: number) => Promise<number>): Turn =>
    turn(subject, repeated(once), compiled);
  const turns = [
    inC('ioctl', 'ioctl'),
    inC('libteec', 'libteec'),
    inC('libteec again', 'libteec'),
    ours('sync', (calls) => callInTurn(first.sync, calls)),
  ];
  const { described } = first;
  if (described !== undefined) turns.push(ours('described', (calls) => callInTurn(described, calls)));
  if (awaited.length > 0) {
    turns.push(
      inC('handover', 'handover'),
      ours('async', (calls) => callAtOnce(awaited.slice(0, 1), calls)),
    );
  }
  if (awaited.length === DEEP) {
    turns.push(
      inC('libteec8', 'libteec'),
      ours('async8', (calls) => callAtOnce(awaited, calls)),
    );
  }
  try {
    return await inTurns(turns, plan.rounds, Math.max(1, Math.round(plan.calls * share)));
  } finally {
    for (const each of prepared) await each.close?.();
  }
}

async function measureCases(
  chosen: readonly BenchCase[],
  plan: Plan,
  tee: TeeContext,
  deep: number,
  program: string,
): Promise<Record<string, CaseResult>> {
  const server = new CServer(program);
  try {
    const names = CASES.map((bench) => bench.name);
    const theirs = await server.cases();
    if (names.join() !== theirs.join()) throw new Error(`the C side has other cases: ${theirs.join()}`);
    const opening = Array.from({ length: deep }, () => tee.openSession(NODE_OPTEE_TEST_TA_UUID));
    const sessions = await Promise.all(opening);
    if (chosen.length > 0) {
      note('warm-up');
      await warmUp(tee, sessions[0], plan.optimized);
    }
    const cases: Record<string, CaseResult> = {};
    for (const bench of chosen) {
      // Else it is released beside a call. With -icount that is one too many: both processors turn in OP-TEE, for ever.
      if (deep === 1) await until(() => statistics(tee)?.temporarySlots === 0);
      note(bench.name);
      cases[bench.name] = await measureCase(bench, plan, tee, sessions, server);
    }
    return cases;
  } finally {
    // It waits for requests, and this process for it.
    await server.close();
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
      'not-deep': { type: 'boolean', default: false },
    },
  });
  const [program] = positionals;
  if (program === undefined) throw new Error('the path of the C side is needed');
  const { quick } = values;
  const plan = { ...(quick ? QUICK : FULL) };
  if (values.rounds !== undefined) plan.rounds = Number(values.rounds);
  const wanted = (name: string): boolean => values.case?.some((start) => name.startsWith(start)) ?? true;

  const tee = TeeContext.open();
  const chosen = CASES.filter(({ name }) => wanted(name));
  let cases;
  try {
    cases = await measureCases(chosen, plan, tee, values['not-deep'] ? 1 : DEEP, program);
  } finally {
    // Nothing else may hold instances of the TA now: the rest needs many.
    await tee.close();
  }
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
