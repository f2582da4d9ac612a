/**
 * The benchmark, on the host: prepares what it needs, boots one guest a run and reports.
 *
 *   node run.js [--quick] [--json] [--runs N] [--case NAME]... [--rounds N] [--no-extras] [--instructions]
 *   node run.js --signature [--json]
 *   node run.js --profile NAME [--subject SUBJECT]... [--seconds N] [--json]
 *
 *   --quick      few calls of each case: that all of it runs, not how fast
 *   --json       all numbers as JSON instead of the table; nanoseconds and bytes
 *   --runs N     so many guests one after the other; ratios are medians of theirs
 *   --case NAME  only cases whose names begin so
 *   --rounds N   turns of all clients in each case
 *   --no-extras  cases only: no file reads and timers under load, no memory
 *   --instructions  counts instructions of both worlds instead of nanoseconds, of one call at a time; implies
 *                --no-extras
 *   --signature  what a signature with a key of a token costs outside of the TA, in instructions, here and through
 *                libckteec
 *   --profile NAME  where the time of this case goes, of each subject (ioctl, libteec, handover, sync, async,
 *                libteec8, async8) for at most so many seconds (30)
 */
import { execFileSync } from 'node:child_process';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { Guest } from 'node-optee/qemu';
import { Cache } from '#lib/qemu/build/cache';
import { prepareMachine } from '#lib/qemu/build/index';
import { readManifest } from '#lib/qemu/build/manifest';
import { KERNEL_ARGUMENTS } from '#lib/qemu/qemu';
import { ratios, verdicts } from './goals';
import { prepareBench, ROOT } from './prepare';
import { profile } from './profile';
import { report, reportProfile, reportSignatures } from './report';
import { SUBJECTS, type Run, type Subject } from './results';
import { measureSignatures } from './signature';

const options = {
  quick: { type: 'boolean' },
  json: { type: 'boolean' },
  runs: { type: 'string' },
  case: { type: 'string', multiple: true },
  rounds: { type: 'string' },
  'no-extras': { type: 'boolean' },
  instructions: { type: 'boolean' },
  signature: { type: 'boolean' },
  profile: { type: 'string' },
  subject: { type: 'string', multiple: true },
  seconds: { type: 'string' },
} as const;

/** Whom `--profile` can look at. */
const PROFILED = SUBJECTS.filter((name) => name !== 'libteec again' && name !== 'described');
const isProfiled = (name: string): name is Subject => (PROFILED as readonly string[]).includes(name);

/** What has no meaning without `--profile`, and what has none with it. */
const OF_PROFILE = ['subject', 'seconds'] as const;
const OF_TABLE = ['quick', 'runs', 'case', 'rounds', 'no-extras', 'instructions'] as const;

function wholeNumber(option: string, text: string): number {
  if (!/^[1-9][0-9]*$/.test(text)) throw new Error(`--${option} must be a whole number from 1`);
  return Number(text);
}

/** What the guest is made of, by name: the versions of its packages. */
function imageVersions(): Record<string, string> {
  const sources = Object.entries(readManifest(new Cache())?.sources ?? {});
  const names = ['linux', 'optee-os', 'arm-trusted-firmware', 'libteec2', 'tee-supplicant'];
  return Object.fromEntries(
    sources.flatMap(([name, { version }]) => (names.includes(name) ? [[name, version]] : [])),
  );
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options });
  const { profile: profiled } = values;
  for (const name of profiled === undefined ? OF_PROFILE : OF_TABLE) {
    if (values[name] === undefined) continue;
    throw new Error(`--${name} ${profiled === undefined ? 'needs' : 'cannot be used with'} --profile`);
  }
  const count = wholeNumber('runs', values.runs ?? '1');
  const seconds = wholeNumber('seconds', values.seconds ?? '30');
  if (values.rounds !== undefined) wholeNumber('rounds', values.rounds);
  const subjects = (values.subject ?? ['libteec', 'sync', 'async']).filter(isProfiled);
  if (values.subject && subjects.length < values.subject.length) {
    throw new Error(`--subject must be one of ${PROFILED.join(', ')}`);
  }
  if (values.signature) {
    const costs = await measureSignatures();
    process.stdout.write(values.json ? `${JSON.stringify(costs, null, 2)}\n` : reportSignatures(costs));
    return;
  }
  const machine = await prepareMachine();
  if (profiled !== undefined) {
    const profiles = await profile(machine, profiled, subjects, seconds);
    process.stdout.write(values.json ? `${JSON.stringify(profiles, null, 2)}\n` : reportProfile(profiles));
    return;
  }
  const { program, ta } = await prepareBench();
  const words = [
    ...(values.quick ? ['--quick'] : []),
    ...(values.case ?? []).flatMap((name) => ['--case', name]),
    ...(values.rounds === undefined ? [] : ['--rounds', values.rounds]),
    ...(values['no-extras'] || values.instructions ? ['--no-extras'] : []),
    // With -icount QEMU runs one processor at a time, and calls that run side by side do not get on.
    ...(values.instructions ? ['--not-deep'] : []),
  ];
  const runs: Run[] = [];
  for (let i = 0; i < count; i++) {
    process.stderr.write(`run ${i + 1} of ${count}\n`);
    const guest = await Guest.boot({
      machine,
      share: ROOT,
      tas: [ta],
      instructions: values.instructions,
    });
    try {
      const measure = guest.spawn(['node', 'build/bench/measure.js', program, ...words], { stdin: false });
      measure.stderr.pipe(process.stderr, { end: false });
      const output: Buffer[] = [];
      for await (const chunk of measure.stdout) output.push(chunk as Buffer);
      const { status, signal } = await measure.exit;
      if (status !== 0) throw new Error(`the measuring ended with ${String(status ?? signal)}`);
      runs.push(JSON.parse(Buffer.concat(output).toString()) as Run);
    } finally {
      await guest.close();
    }
  }
  const host = cpus();
  const facts = {
    date: new Date().toISOString(),
    host: `${host.length} × ${host[0]?.model ?? 'unknown'}`,
    machine: machine.name,
    cpus: machine.cpus,
    memory: machine.memory,
    qemu: execFileSync(machine.qemu, ['--version'], { encoding: 'utf8' }).split('\n')[0],
    kernelArguments: KERNEL_ARGUMENTS.concat(machine.kernelArguments),
    image: imageVersions(),
  };
  if (values.json) {
    process.stdout.write(
      `${JSON.stringify({ facts, runs, ratios: ratios(runs), ...(values.instructions ? { verdicts: verdicts(runs) } : {}) }, null, 2)}\n`,
    );
  } else {
    const image = Object.entries(facts.image).map((words) => words.join(' '));
    const lines = [
      `host: ${facts.host}; machine ${facts.machine}, ${facts.memory} MiB; ${facts.qemu}`,
      `image: ${image.join(', ')}`,
      `kernel: ${facts.kernelArguments.join(' ')}`,
      `on ${facts.date}`,
    ];
    process.stdout.write(`${report(runs, lines, values.instructions === true)}\n`);
  }
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
