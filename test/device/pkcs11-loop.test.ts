/** The event loop while a token signs. */
import { verify } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { buffer } from 'node-optee';
import { Pkcs11, PKCS11_TA, type KeyPair, type TokenLogin } from 'node-optee/pkcs11';
import { useTee, withSession } from '../support/device.js';
import { freshToken } from '../support/token.js';

const guest = useTee();
const COUNT = 64;
/** PKCS11_CMD_PING */
const PING = 0;
/** Milliseconds of empty calls: as many as 64 signatures take would be longer than is needed. */
const LONG_ENOUGH = 3000;

let pkcs11: Pkcs11;
let pair: KeyPair;
beforeAll(async () => {
  let login: TokenLogin;
  ({ pkcs11, login } = await freshToken(guest.tee));
  pair = await login.generateKeyPair('ec', { namedCurve: 'P-256', token: false });
});
afterAll(() => pkcs11.close());

/** How late a timer is while work goes on, in milliseconds: of ten times, nine are not later. */
async function lateness(work: () => Promise<unknown>): Promise<number> {
  const delay = monitorEventLoopDelay({ resolution: 5 });
  delay.enable();
  await work();
  delay.disable();
  return delay.percentile(90) / 1e6;
}

const many = <T>(make: (i: number) => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: COUNT }, (_, i) => make(i)));

test('it is late no more during 64 signatures at once than during 64 empty calls', async () => {
  const data = (i: number): Buffer => Buffer.from(`data ${i}`);
  let signatures: Buffer[] = [];
  const signing = await lateness(async () => {
    signatures = await many((i) => pair.privateKey.sign('sha256', data(i)));
  });
  const { publicKey } = pair.privateKey;
  expect(signatures.map((signature, i) => verify('sha256', data(i), publicKey, signature))).not.toContain(
    false,
  );

  const calling = await withSession(
    guest.tee,
    (session) =>
      lateness(async () => {
        const params = [buffer.inout(Buffer.alloc(4)), undefined, buffer.out(12)] as const;
        const end = performance.now() + LONG_ENOUGH;
        while (performance.now() < end) await many(() => session.invoke(PING, params));
      }),
    PKCS11_TA,
  );
  // A signature takes the TA 240 ms. On the only processor nothing else runs meanwhile.
  if (availableParallelism() > 1) expect(signing).toBeLessThan(2 * calling + 50);
}, 300_000);
