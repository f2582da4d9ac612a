/**
 * A PKCS#11 TA that means no good: one answer in a few of OP-TEE's own is damaged on its way. (The test TA passes calls on;
 * what the client opens as the PKCS#11 TA is that one.) Whatever comes back, each operation ends, with a value or an error
 * that says what was wrong.
 */
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import fc from 'fast-check';
import { buffer, TeeContext, value, type Session } from 'node-optee';
import { Pkcs11, PKCS11_TA, type TokenLogin } from 'node-optee/pkcs11';
import { checkProperty, hasCode, options, runAbuse, step, within, type Step } from '../../support/abuse.js';
import { TEST_TA } from '../../support/census.js';
import { CERTIFICATE } from '../../support/certificate.js';
import * as TA from '../../support/test-ta.js';

const SLOT = 2;
const PINS = { soPin: 'so-12345', pin: 'user-1234' };

/** In the order of the C struct. */
function uuidStruct(uuid: string): Buffer {
  const bytes = Buffer.from(uuid.replaceAll('-', ''), 'hex');
  bytes.subarray(0, 4).reverse();
  bytes.subarray(4, 6).reverse();
  bytes.subarray(6, 8).reverse();
  return bytes;
}

let relays = 0;

/** A context whose PKCS#11 TA damages one answer in so many. */
function hostileContext(oneIn: number): TeeContext {
  const tee = TeeContext.open();
  const open = tee.openSession.bind(tee);
  tee.openSession = (async (): Promise<Session> => {
    const session = await open(TEST_TA);
    const seed = options.seed * 1000 + relays++;
    const params = [value.in(seed >>> 0, oneIn), buffer.in(uuidStruct(PKCS11_TA))] as const;
    await session.invoke(TA.TEST_TA_RELAY, params);
    return session;
  }) as typeof tee.openSession;
  return tee;
}

const DATA = Buffer.alloc(100_000, 'data');
const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const iv = Buffer.alloc(16);

/** Of something whose size everybody knows, less is nothing. */
function expectSize(bytes: Buffer, size: number): void {
  if (bytes.length !== size) throw new Error(`${bytes.length} bytes instead of ${size}`);
}

type Use = (login: TokenLogin) => Promise<unknown>;
const key = { token: false, label: 'of this session' };
const OPERATIONS: Record<string, Use> = {
  sign: async (login) => {
    const { privateKey, publicKey } = await login.generateKeyPair('ec', { namedCurve: 'P-256', ...key });
    const signature = await privateKey.sign('sha256', DATA, { dsaEncoding: 'ieee-p1363' });
    expectSize(signature, 64);
    await publicKey.verify('sha256', DATA, signature, { dsaEncoding: 'ieee-p1363' });
    await privateKey.destroy();
    await login.destroy(publicKey);
  },
  'sign with Ed25519': async (login) => {
    const { privateKey } = await login.generateKeyPair('ed25519', key);
    expectSize(await privateKey.sign(null, DATA), 64);
  },
  agree: async (login) => {
    const { privateKey } = await login.importPrivateKey(pair.privateKey, { ...key, usages: ['derive'] });
    expectSize(await privateKey.diffieHellman(createPublicKey(pair.privateKey)), 32);
  },
  encrypt: async (login) => {
    const secret = await login.generateKey('aes', { length: 256, ...key });
    for (const algorithm of ['aes-256-cbc', 'aes-256-ctr', 'aes-256-gcm'] as const) {
      const nonce = algorithm === 'aes-256-gcm' ? iv.subarray(4) : iv;
      const { ciphertext, authTag } = await secret.encrypt(algorithm, DATA.subarray(0, 1000), { iv: nonce });
      expectSize(ciphertext, algorithm === 'aes-256-cbc' ? 1008 : 1000);
      if (authTag !== undefined) expectSize(authTag, 16);
      await secret.decrypt(algorithm, ciphertext, { iv: nonce, ...(authTag && { authTag }) });
    }
  },
  mac: async (login) => {
    const secret = await login.importSecretKey(Buffer.alloc(32, 7), { type: 'hmac', ...key });
    expectSize(await secret.sign('sha256', DATA), 32);
  },
  digest: async (login) => expectSize(await login.digest('sha256', DATA), 32),
  random: async (login) => expectSize(await login.randomBytes(5000), 5000),
  certificate: async (login) => {
    await login.importCertificate(CERTIFICATE, { ...key, id: 'a1' });
    for (const one of await login.certificates()) [one.x509, one.pem, one.raw].map(String);
  },
  data: async (login) => {
    const made = await login.importData(DATA.subarray(0, 100), { label: 'data', token: false });
    await made.read();
    await made.destroy();
  },
  find: async (login) => {
    for (const one of await login.objects()) String(one);
    await login.privateKey({ label: 'of this session' });
  },
};

let pkcs11: Pkcs11 | undefined;
let login: TokenLogin | undefined;
let tee: TeeContext;
const done: Record<string, number> = {};

/** Runs something; it may fail with an error that has a code. */
async function attempt<T>(what: string, work: () => Promise<T>): Promise<T | undefined> {
  try {
    const found = await within(work(), () => what);
    done[what] = (done[what] ?? 0) + 1;
    return found;
  } catch (error) {
    if (!hasCode(error)) throw new Error(`${what} ended with no error of ours`, { cause: error });
    done[error.code] = (done[error.code] ?? 0) + 1;
    return undefined;
  }
}

async function logIn(): Promise<TokenLogin | undefined> {
  pkcs11 ??= await attempt('open', () => Pkcs11.open({ context: tee }));
  const token = await attempt('token', async () => pkcs11?.token({ slot: SLOT }));
  if (token === undefined) return undefined;
  await attempt('info', async () => [await token.info(), await token.mechanisms(), await pkcs11?.tokens()]);
  return attempt('login', () => token.login({ pin: PINS.pin }));
}

const operation: fc.Arbitrary<Step> = step(
  'operations',
  fc.tuple(fc.array(fc.constantFrom(...Object.keys(OPERATIONS)), { minLength: 1, maxLength: 3 }), fc.nat(9)),
  async ([names, chance]) => {
    login ??= await logIn();
    const own = login;
    if (own === undefined) return;
    const all = names.map((name) => attempt(name, () => OPERATIONS[name](own)));
    if (chance === 0) {
      login = undefined;
      all.push(attempt('logout', () => own.close()));
    }
    await Promise.all(all);
    if (chance !== 1) return;
    const open = pkcs11;
    [pkcs11, login] = [undefined, undefined];
    await attempt('close', async () => open?.close());
  },
);

void runAbuse(async () => {
  // A sound token first.
  const own = await Pkcs11.open();
  const token = await own.token({ slot: SLOT });
  await token.initialize({ label: 'hostile', soPin: PINS.soPin });
  await token.setUserPin(PINS);
  await own.close();
  tee = hostileContext(12);
  const cases = await checkProperty(operation, (run) => run());
  await tee.close();
  return { cases, relays, done };
});
