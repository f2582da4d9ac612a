/**
 * Uses secrets in all ways and prints whatever a program may log of it: errors, objects, traces, and with NODE_DEBUG what
 * the package says itself. The last line says whether memory that is shared stays out of core dumps.
 * Arguments: the secret, a text.
 */
import { subscribe } from 'node:diagnostics_channel';
import { readFileSync } from 'node:fs';
import { inspect } from 'node:util';
import { buffer, TeeContext, value } from 'node-optee';
import { Pkcs11 } from 'node-optee/pkcs11';
import { TEST_TA } from '../../support/census.js';
import { TEST_TA_RESULT, TEST_TA_STORAGE_READ, TEST_TA_TOUCH } from '../../support/test-ta.js';

const [text = ''] = process.argv.slice(2);
const secret = Buffer.from(text);

function log(what: unknown): void {
  console.log(what);
  console.log(inspect(what, { depth: Infinity, getters: true }));
  console.log(JSON.stringify(what));
  if (what instanceof Error) console.log(String(what), what.stack);
}

/** VmFlags of each mapping of ours: do they say that a core dump leaves it out? */
function dumped(): number {
  const smaps = readFileSync('/proc/self/smaps', 'utf8').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  const ours = smaps.filter((mapping) => mapping.includes('memfd:node-optee'));
  if (ours.length === 0) throw new Error('There is no mapping of ours');
  return ours.filter((mapping) => !/^VmFlags:.*\bdd\b/m.test(mapping)).length;
}

async function main(): Promise<void> {
  for (const event of ['start', 'end', 'asyncStart', 'asyncEnd', 'error']) {
    subscribe(`tracing:node-optee:invoke:${event}`, log);
  }
  const tee = TeeContext.open();
  const session = await tee.openSession(TEST_TA);
  const shm = await tee.allocSharedMemory(4096);
  shm.write(secret);
  const params = [
    buffer.in(secret),
    buffer.inout(secret),
    buffer.inPlace(Buffer.from(secret)),
    shm.inout(),
  ] as const;
  await session.invoke(TEST_TA_TOUCH, params);
  session.invokeSync(TEST_TA_TOUCH, params);
  // Refused by the TA, with what went in on its way back.
  const refusals = [
    session.invoke(TEST_TA_RESULT, [value.in(0xffff0001, secret.length), buffer.inout(secret)]),
    session.invoke(TEST_TA_STORAGE_READ, [buffer.in(secret), buffer.out(10)]),
    (async () => session.invoke(TEST_TA_TOUCH, [buffer.in(text as never)]))(),
  ];
  for (const refused of await Promise.allSettled(refusals)) {
    if (refused.status !== 'rejected') throw new Error('This must fail');
    log(refused.reason);
  }
  const pkcs11 = await Pkcs11.open({ context: tee });
  const token = await pkcs11.token({ slot: 2 });
  await token.initialize({ label: 'secrets', soPin: text });
  await token.setUserPin({ soPin: text, pin: text });
  const login = await token.login({ pin: text });
  const data = await login.importData(secret, { label: 'note' });
  const error: unknown = await token.login({ pin: `${text}.` }).catch((reason: unknown) => reason);
  const locked: unknown = await token
    .setUserPin({ soPin: `${text}.`, pin: text })
    .catch((reason: unknown) => reason);
  for (const thing of [error, locked, pkcs11, token, login, data, tee, session, shm, params]) log(thing);
  const left = dumped();
  await data.destroy();
  await login.close();
  await pkcs11.close();
  await tee.close();
  console.log(JSON.stringify({ dumped: left }));
}

void main();
