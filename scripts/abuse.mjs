// `npm run test:abuse`: every wrong value, a TA that means no good, and random programs, in a guest. The last line is the
// total.
//
//   npm run test:abuse -- [--cases N] [--minutes N] [--seed N] [--trace] [NAME]...
//
// --cases   how many in all, 100,000 unless told otherwise
// --minutes how long the random programs run, 30 unless told otherwise
// --seed    the same run again. Each program prints it where it fails
// --trace   says what comes next, for a case that the process does not survive
// NAME      only these: native, public, hostile, pkcs11, races
import { parseArgs } from 'node:util';
import { buildAddon } from './build-addon.mjs';
import { FOLDER, buildTestTa, inGuest, pack } from './guest-tests.mjs';
import { compileTests } from './setup.mjs';

const { values: options, positionals: only } = parseArgs({
  allowPositionals: true,
  options: {
    cases: { type: 'string', default: '100000' },
    minutes: { type: 'string', default: '30' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    trace: { type: 'boolean', default: false },
  },
});
for (const name of ['cases', 'minutes', 'seed']) {
  if (!(Number(options[name]) >= 0)) throw new Error(`--${name} must be a number, not ${options[name]}`);
}
const say = (text) => process.stdout.write(`${text}\n`);

/** Each program of test/device/children and its part of the cases. (A signature of the TEE takes longer than a call.) */
const PARTS = { native: 0.6, public: 0.25, hostile: 0.14, pkcs11: 0.01, races: 0 };
for (const name of only) {
  if (!Object.hasOwn(PARTS, name))
    throw new Error(`There is no ${name}, only ${Object.keys(PARTS).join(', ')}`);
}

/** What does not come to its end within this, hangs. Milliseconds. */
const limit = (cases) => (Number(options.minutes) + 30) * 60_000 + cases * 1000;

/** @returns whether all was as it must be */
async function runPart(guest, name) {
  const start = Date.now();
  const cases = Math.ceil(options.cases * PARTS[name]);
  const words = ['--cases', `${cases}`, '--seed', options.seed, ...(options.trace ? ['--trace'] : [])];
  if (name === 'races') words.push('--minutes', options.minutes);
  const program = `build/test/device/children/abuse-${name}.js`;
  const { status, signal, stdout, stderr } = await guest.run(['node', program, ...words], {
    cwd: FOLDER,
    timeout: limit(cases),
  });
  const isRight = status === 0;
  if (!isRight) say(`${stderr}`);
  say(
    `${isRight ? 'ok' : `FAILED (${signal ?? status})`} ${name}: ${stdout.toString().trim()}, ` +
      `${Math.round((Date.now() - start) / 1000)} s`,
  );
  return isRight;
}

say(`--seed ${options.seed}`);
let [passed, failed] = [0, 0];
await compileTests();
await buildAddon('arm64');
await buildTestTa();
const archive = pack('abuse.tar', ['package.json', 'dist', 'prebuilds', 'build/test']);
try {
  await inGuest({ cpus: 2 }, archive, async (guest) => {
    for (const name of Object.keys(PARTS)) {
      if (only.length > 0 && !only.includes(name)) continue;
      if (await runPart(guest, name)) passed++;
      else failed++;
    }
  });
} catch (error) {
  say(error.message);
  failed++;
}
say(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
