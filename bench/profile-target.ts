/**
 * Runs in the guest: makes the calls of one case as one subject, for `profile.ts` to look at. On stdout a line of JSON
 * when it begins, one when it has ended, and one with the names of functions.
 *
 *   node --perf-basic-prof profile-target.js C_PROGRAM CASE SUBJECT SECONDS
 */
import { readFileSync } from 'node:fs';
import { TeeContext } from 'node-optee';
import { NODE_OPTEE_TEST_TA_UUID } from '../test/support/test-ta';
import { callAtOnce, callInTurn, depth } from './calls';
import { CASES } from './cases';
import type { Begin, End, Names } from './profile';
import type { Subject } from './results';
import { CServer } from './server';
import { warmUp } from './warm-up';

/** Until V8 has compiled what only this case uses, and caches are full. */
const WARM_UP = 2000;
/** The C side takes no more at once. */
const MOST_CALLS = 1_000_000;

interface Target {
  /** Who runs it. */
  readonly pid: number | 'self';
  /** Calls until it is measured. */
  readonly warmUp: number;
  /** So many calls, one after the other or eight at a time: the nanoseconds of one of them. */
  run(calls: number): Promise<number>;
  close(): Promise<void>;
}

async function inC(program: string, name: string, subject: Subject): Promise<Target> {
  const server = new CServer(program);
  const threads = depth(subject);
  const client = subject.replace('8', '');
  return {
    pid: server.pid,
    warmUp: WARM_UP / 10,
    run: async (calls) => {
      const [ns] = await server.measure(name, client, threads, 1, Math.ceil(calls / threads));
      return ns;
    },
    close: () => server.close(),
  };
}

async function inNode(name: string, subject: Subject): Promise<Target> {
  const tee = TeeContext.open();
  const close = () => tee.close();
  const open = () => tee.openSession(NODE_OPTEE_TEST_TA_UUID);
  const bench = CASES.find((known) => known.name === name);
  const sessions = await Promise.all(Array.from({ length: depth(subject) }, open));
  const prepared = sessions.flatMap((session) => bench?.prepare(tee, session) ?? []);
  const sync = subject === 'sync' ? prepared[0]?.sync : undefined;
  const awaited = subject === 'sync' ? [] : prepared.flatMap((each) => each.async ?? []);
  if (bench === undefined || (sync === undefined && awaited.length === 0)) {
    await close();
    throw new Error(`there is no case ${name} of ${subject}`);
  }
  await warmUp(tee, sessions[0]);
  const run = (calls: number): Promise<number> =>
    sync === undefined ? callAtOnce(awaited, Math.ceil(calls / awaited.length)) : callInTurn(sync, calls);
  return {
    pid: 'self',
    warmUp: Math.ceil(WARM_UP * bench.share),
    run,
    close: async () => {
      for (const each of prepared) await each.close?.();
      await close();
    },
  };
}

async function main(): Promise<void> {
  const [program, name, subject, seconds] = process.argv.slice(2) as [string, string, Subject, string];
  const isOurs = ['sync', 'async', 'async8'].includes(subject);
  const target = isOurs ? await inNode(name, subject) : await inC(program, name, subject);
  const say = (what: Begin | End | Names): void => void process.stdout.write(`${JSON.stringify(what)}\n`);
  try {
    const calls = Math.ceil((Number(seconds) * 1e9) / (await target.run(target.warmUp)));
    say({ maps: readFileSync(`/proc/${target.pid}/maps`, 'utf8') });
    say({ ns: await target.run(Math.min(calls, MOST_CALLS)) });
    say({
      compiled: isOurs ? readFileSync(`/tmp/perf-${process.pid}.map`, 'utf8') : '',
      kernel: readFileSync('/proc/kallsyms', 'utf8'),
    });
  } finally {
    await target.close();
  }
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
