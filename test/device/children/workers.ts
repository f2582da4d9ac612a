/**
 * Worker threads one after another, each ended with a call under way: each state of `children/life` with each end. Prints
 * how the ends were, and what of the TEE and how many threads were there before and after.
 * Arguments: how many, and the milliseconds that the TA takes.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { TeeContext } from 'node-optee';
import { census, collectGarbage, PTA_STATS, TEST_TA } from '../../support/census.js';
import { sessionsInTee } from '../../support/tee-statistics.js';

const STATES = ['waiting', 'in the TEE', 'being cancelled', 'not delivered', 'opening', 'registering'];
const ENDS = ['terminate', 'exit', 'throw'];

const [count = '0', time = '0'] = process.argv.slice(2);

/** This process's threads of the addon. */
const threads = (): string[] =>
  readdirSync('/proc/self/task')
    .map((id) => {
      try {
        return readFileSync(`/proc/self/task/${id}/comm`, 'utf8').trim();
      } catch {
        return ''; // it has just ended
      }
    })
    .filter((name) => name.startsWith('optee-'));

const resident = (): number =>
  Number(/^VmRSS:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) / 1024;

/** Its exit code, and the message of its error. */
async function run(state: string, how: string): Promise<string> {
  const worker = new Worker(require.resolve('./life.js'), { workerData: [state, how, time], stdout: true });
  let error = '';
  let stdout = '';
  worker.on('error', ({ message }: Error) => (error = message));
  worker.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  // (Node's once() would reject with the worker's error.)
  const ended = new Promise<number>((resolve) => void worker.on('exit', resolve));
  await Promise.race([new Promise((resolve) => void worker.on('message', resolve)), ended]);
  if (how === 'terminate') await worker.terminate();
  const code = await ended;
  return `${how}: ${code} ${error}${stdout}`.trim();
}

async function main(): Promise<void> {
  const tee = TeeContext.open({ temporaryMemory: 0 }); // what it keeps would be counted
  const stats = await tee.openSession(PTA_STATS);
  await run('in the TEE', 'terminate');
  const settled = async (): Promise<void> => {
    for (let i = 0; i < 200 && threads().length + (await sessionsInTee(stats, TEST_TA)) > 0; i++) {
      await collectGarbage(100);
    }
  };
  await settled();
  const before = { census: census(), threads: threads() };
  const residentBefore = resident();
  const ends: Record<string, number> = {};
  let longest = 0;
  for (let i = 0; i < Number(count); i++) {
    const start = performance.now();
    const end = await run(STATES[i % STATES.length], ENDS[Math.floor(i / STATES.length) % ENDS.length]);
    longest = Math.max(longest, performance.now() - start);
    ends[end] = (ends[end] ?? 0) + 1;
    if (i % 100 === 99) process.stderr.write(`${i + 1} workers, ${Math.round(resident())} MiB\n`);
  }
  await settled();
  for (let i = 0; i < 50 && JSON.stringify(census()) !== JSON.stringify(before.census); i++) await delay(100);
  const sessions = await sessionsInTee(stats, TEST_TA);
  const after = { census: census(), threads: threads() };
  const grown = Math.round(resident() - residentBefore);
  console.log(JSON.stringify({ ends, before, after, sessions, grown, longest: Math.round(longest) }));
  await tee.close();
}

void main();
