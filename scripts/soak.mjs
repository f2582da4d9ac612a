// `npm run test:soak`: mixed load in a guest, and whether what the process and the TEE hold stays flat (test/soak).
//
//   npm run test:soak -- [--minutes N] [--machine NAME]
//
// The figures and a graph of them are in build/soak.
import { createRequire } from 'node:module';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { buildAddon } from './build-addon.mjs';
import { buildTestTa, inGuest } from './guest-tests.mjs';
import { ROOT, compileTests } from './setup.mjs';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '30' },
    machine: { type: 'string', default: 'dynamic' },
  },
});
const seconds = Number(values.minutes) * 60;
if (!(seconds >= 60)) throw new Error('--minutes must be a number from 1');

await compileTests();
await buildAddon('arm64');
const require = createRequire(import.meta.url);
const { prepareMachine } = require('../dist/qemu/index.js');
const { judge, warmUp } = require('../build/test/soak/figures.js');
const { graph } = require('../build/test/soak/graph.js');

const machine = await prepareMachine({ machine: values.machine });
await buildTestTa();

// V8 gives its young objects more memory the more there is to do, which would be taken for a leak. MiB.
const YOUNG = ['--min-semi-space-size=4', '--max-semi-space-size=4'];

const samples = [];
let done;
/** Runs the load and takes its samples. */
async function load(guest) {
  const interval = Math.max(2, Math.min(15, seconds / 60));
  const program = ['build/test/soak/load.js', String(seconds), String(interval)];
  const command = ['node', '--expose-gc', ...YOUNG, ...program];
  const running = guest.spawn(command, { stdin: false, env: { NODE_OPTEE_MACHINE: values.machine } });
  running.stderr.pipe(process.stderr, { end: false });
  for await (const line of createInterface({ input: running.stdout })) {
    const told = JSON.parse(line);
    if (told.done instanceof Object) ({ done } = told);
    else {
      samples.push(told);
      process.stderr.write(`${line}\n`);
    }
  }
  const { status, signal } = await running.exit;
  if (status !== 0) throw new Error(`The load ended with ${status ?? signal}`);
}

const folder = join(ROOT, 'build', 'soak');
mkdirSync(folder, { recursive: true });
try {
  await inGuest({ machine, cpus: 2 }, undefined, load);
} finally {
  // Whatever came of it.
  writeFileSync(join(folder, 'figures.json'), `${JSON.stringify({ done, samples }, null, 2)}\n`);
}

const end = samples.at(-1).seconds;
const verdicts = judge(samples);
const title = `Soak of ${Math.round(end / 60)} minutes on ${machine.name}, ${samples.at(-1).done} operations`;
writeFileSync(join(folder, 'figures.svg'), graph(samples, title));

console.log(`${title}: ${JSON.stringify(done)}`);
console.log(`From second ${Math.round(warmUp(end))} on:`);
for (const { figure, first, least, most, rise, good } of verdicts) {
  console.log(
    `${good ? 'ok' : 'NOT FLAT'} ${figure}: ${first} at first, ${least} to ${most}, rises by ${rise}`,
  );
}
console.log(`Figures and graph: ${join(folder, 'figures.svg')}`);
process.exitCode = verdicts.every(({ good }) => good) ? 0 : 1;
