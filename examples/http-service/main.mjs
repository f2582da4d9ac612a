// Starts the service, uses it, and stops it. In the guest: node examples/run.cjs http-service
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const ENDLESS = 2 ** 32 - 1;

const service = spawn(process.execPath, [fileURLToPath(new URL('service.mjs', import.meta.url))], {
  stdio: ['ignore', 'pipe', 'inherit'],
});
const ended = once(service, 'exit');
const log = createInterface(service.stdout)[Symbol.asyncIterator]();

/** The next line of the service that has this text in it. */
async function logged(text) {
  for (;;) {
    const { value, done } = await log.next();
    if (done) throw new Error(`The service ended before it said '${text}'`);
    if (value.includes(text)) return value;
  }
}

const url = await logged('http:');
const post = (rounds, body, signal) => fetch(`${url}/?rounds=${rounds}`, { method: 'POST', body, signal });

function expected(rounds, body) {
  let hash = body;
  for (let i = 0; i < rounds; i++) hash = createHash('sha256').update(hash).digest();
  return hash.toString('hex');
}

try {
  // More requests than the pool has sessions.
  const bodies = ['one', 'two', 'three', 'four'];
  const answers = await Promise.all(bodies.map(async (body) => (await post(100, body)).text()));
  console.log('right:', answers.filter((hash, i) => hash === expected(100, bodies[i])).length, 'of 4');
  console.log('too many bytes:', (await post(1, 'x'.repeat(1025))).status);

  // A client that goes away takes its call out of the TEE.
  const client = new AbortController();
  const request = post(ENDLESS, 'long', client.signal).catch(({ name }) => name);
  await logged(`rounds=${ENDLESS}`);
  client.abort();
  console.log(await request, '-', await logged('failed:'));

  // The service stops when its calls have ended, and those that do not end in time are aborted.
  const last = post(ENDLESS, 'longer');
  await logged(`rounds=${ENDLESS}`);
  service.kill('SIGTERM');
  console.log('at the stop:', (await last).status);
  console.log(await logged('stopped'), 'with status', (await ended)[0]);
} finally {
  service.kill('SIGKILL'); // if it still runs
}
