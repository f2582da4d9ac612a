// `npm run demo`: builds what is missing, boots the guest and gives the tour (examples/tour.mjs) there.
import { createRequire } from 'node:module';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { buildAddon } from './build-addon.mjs';
import { TEST_TA, buildTestTa } from './guest-tests.mjs';
import { ROOT } from './setup.mjs';

const { Guest, prepareMachine } = createRequire(import.meta.url)('../dist/qemu/index.js');
const { values } = parseArgs({ options: { machine: { type: 'string', default: 'dynamic' } } });

const since = (start) => `${((performance.now() - start) / 1000).toFixed(1)} s`;

try {
  const machine = await prepareMachine({ machine: values.machine });
  await buildAddon('arm64');
  await buildTestTa();

  const start = performance.now();
  const guest = await Guest.boot({ machine, share: ROOT, tas: [TEST_TA] });
  console.log(
    `An arm64 machine with OP-TEE (${machine.name}), emulated by QEMU, is up after ${since(start)}.`,
  );
  const tour = guest.spawn(['node', 'examples/tour.mjs'], { stdin: false });
  tour.stdout.pipe(process.stdout, { end: false });
  tour.stderr.pipe(process.stderr, { end: false });
  const { status } = await tour.exit;
  await guest.close();
  console.log(`\nDone in ${since(start)}, the boot and the power-off included. The code: examples/tour.mjs`);
  process.exitCode = status ?? 1;
} catch (error) {
  console.error(`The demo failed: ${error.message}`);
  process.exitCode = 1;
}
