/** Logins to tokens over time: many operations at once, aborts, a TA that died, other processes, PINs and identities. */
import { createHash, verify } from 'node:crypto';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Pkcs11, type KeyPair, type Token, type TokenLogin } from 'node-optee/pkcs11';
import { CERTIFICATE } from '../support/certificate.js';
import { child, lastLine, rejection, useTee } from '../support/device.js';
import { freshToken, PIN, SO_PIN } from '../support/token.js';

const guest = useTee();

let pkcs11: Pkcs11;
let token: Token;
let login: TokenLogin;
let pair: KeyPair;

beforeAll(async () => {
  ({ pkcs11, token, login } = await freshToken(guest.tee));
  pair = await login.generateKeyPair('ec', { namedCurve: 'P-256', id: 'a1', label: 'device' });
});
afterAll(() => pkcs11.close());

const data = (i: number): Buffer => Buffer.from(`data ${i}`);
const right = (i: number, signature: Buffer): boolean =>
  verify('sha256', data(i), pair.privateKey.publicKey, signature);

/** Another client makes the TA panic. */
async function kill(): Promise<void> {
  const result = await child('pkcs11', ['kill']);
  expect(lastLine(result)).toEqual({ code: 'TEE_ERROR_TARGET_DEAD' });
}

describe('many at once', () => {
  test('operations of several kinds do not disturb each other', async () => {
    const [signature, found, random, digest, others] = await Promise.all([
      pair.privateKey.sign('sha256', data(1)),
      login.privateKey({ id: 'a1' }),
      login.randomBytes(100),
      login.digest('sha256', Buffer.alloc(200_000)),
      login.objects(),
    ]);
    expect(right(1, signature)).toBe(true);
    expect(found.label).toBe('device');
    expect(random).toHaveLength(100);
    expect(digest).toHaveLength(32);
    expect(others).toHaveLength(2);
  });

  test('aborted ones that wait are never sent, and nothing is left half open', async () => {
    const abort = new AbortController();
    const { signal } = abort;
    const all = Array.from({ length: 12 }, (_, i) => pair.privateKey.sign('sha256', data(i), { signal }));
    const reasons = Promise.allSettled(all);
    await all[0];
    abort.abort(new Error('enough'));
    const settled = await reasons;
    const refused = settled.filter(({ status }) => status === 'rejected');
    expect(refused.length).toBeGreaterThanOrEqual(6);
    for (const result of refused) {
      expect(result).toMatchObject({ reason: { code: 'ABORT_ERR', cause: new Error('enough') } });
    }
    expect(await rejection(pair.privateKey.sign('sha256', data(0), { signal }))).toMatchObject({
      code: 'ABORT_ERR',
    });
    for (let i = 0; i < 5; i++) expect(right(i, await pair.privateKey.sign('sha256', data(i)))).toBe(true);
  });

  test('data in parts is aborted between two parts, and the next operation works', async () => {
    const abort = new AbortController();
    async function* parts(): AsyncGenerator<Buffer> {
      yield Buffer.alloc(100);
      abort.abort();
      yield Buffer.alloc(100);
    }
    const error = await rejection(login.digest('sha256', parts(), { signal: abort.signal }));
    expect(error).toMatchObject({ code: 'ABORT_ERR' });
    async function* fails(): AsyncGenerator<Buffer> {
      yield Buffer.alloc(100);
      throw new Error('no more');
    }
    expect(await rejection(login.digest('sha256', fails()))).toMatchObject({ message: 'no more' });
    expect(await login.digest('sha256', Buffer.alloc(100))).toHaveLength(32);
    async function* none(): AsyncGenerator<Buffer> {
      await Promise.resolve();
      yield* [];
      throw new Error('no part');
    }
    // As many as there are PKCS#11 sessions for operations, and one more.
    for (let i = 0; i < 5; i++) {
      expect(await rejection(login.digest('sha256', none()))).toMatchObject({ message: 'no part' });
    }
    for (let i = 0; i < 5; i++) expect(await login.digest('sha256', Buffer.alloc(100))).toHaveLength(32);
  });

  test('closing waits for the digest of a stream', async () => {
    const another = await token.open();
    let closing: Promise<void> | undefined;
    async function* parts(): AsyncGenerator<Buffer> {
      yield Buffer.alloc(100);
      closing = another.close();
      await new Promise((resolve) => setTimeout(resolve, 500));
      yield Buffer.alloc(100);
    }
    const found = await another.digest('sha256', parts());
    expect(found).toEqual(createHash('sha256').update(Buffer.alloc(200)).digest());
    await closing;
  });
});

test('two processes on one token both find its objects', async () => {
  const [theirs, own] = await Promise.all([
    child('pkcs11', ['sign', 'device']),
    pair.privateKey.sign('sha256', data(0)),
  ]);
  expect(right(0, own)).toBe(true);
  const { signature, labels } = lastLine(theirs) as { signature: string; labels: string[] };
  expect(labels).toEqual(['device']);
  const text = Buffer.from('from another process');
  expect(verify('sha256', text, pair.privateKey.publicKey, Buffer.from(signature, 'hex'))).toBe(true);
});

describe('a TA that died', () => {
  test('is opened again, the user logged in, and the key found: signatures go on', async () => {
    const session = await login.generateKey('aes', { length: 128, token: false });
    await kill();
    const signatures = await Promise.all(
      [0, 1, 2, 3, 4, 5].map((i) => pair.privateKey.sign('sha256', data(i))),
    );
    expect(signatures.map((signature, i) => right(i, signature))).not.toContain(false);
    expect(await rejection(session.encrypt('aes-128-ctr', data(1), { iv: Buffer.alloc(16) }))).toMatchObject({
      code: 'CKR_OBJECT_HANDLE_INVALID',
      message: expect.stringContaining('session objects'),
    });
    await kill();
    // What makes something asks first whether the TA is alive, so it is made once.
    await login.generateKey('aes', { length: 128, label: 'once' });
    expect(await login.secretKeys({ label: 'once' })).toHaveLength(1);
    await kill();
    expect((await pkcs11.tokens())[0]).toMatchObject({ label: 'gateway' });
  });

  test('a PIN is not sent again where somebody has given a wrong one since', async () => {
    const another = await token.login({ pin: PIN });
    const key = await another.privateKey({ id: 'a1' });
    try {
      expect(await rejection(token.login({ pin: 'wrong' }))).toMatchObject({ code: 'CKR_PIN_INCORRECT' });
      await kill();
      for (let i = 0; i < 2; i++) {
        expect(await rejection(key.sign('sha256', data(1)))).toMatchObject({
          code: 'CKR_PIN_INCORRECT',
          message: expect.stringContaining('log in again'),
        });
      }
    } finally {
      await another.close();
      // The right PIN, so that the next test has all its tries, and `login` can be opened again.
      await (await token.login({ pin: PIN })).close();
    }
    expect(right(1, await pair.privateKey.sign('sha256', data(1)))).toBe(true);
  });
});

describe('a token that somebody erased after the TA had died', () => {
  // While the TA lives nobody can: it answers CKR_SESSION_EXISTS.
  let erased: Token;
  const open = async (pin: string): Promise<TokenLogin> => {
    await erased.initialize({ label: 'erased', soPin: SO_PIN });
    await erased.setUserPin({ soPin: SO_PIN, pin });
    return erased.login({ pin });
  };
  beforeAll(async () => {
    erased = await pkcs11.token({ slot: 2 });
  });

  test('has another key of that name: it is not taken for the one that was there', async () => {
    const before = await open(PIN);
    const names = { id: 'e1', label: 'key' };
    const { privateKey } = await before.generateKeyPair('ec', { namedCurve: 'P-256', ...names });
    const secret = await before.generateKey('aes', { length: 128, ...names });
    const certificate = await before.importCertificate(CERTIFICATE, names);
    await kill();
    const now = await open(PIN);
    const others = await now.generateKeyPair('ec', { namedCurve: 'P-256', ...names });
    await now.generateKey('aes', { length: 128, ...names });
    await now.importCertificate(CERTIFICATE, names);
    for (const made of [
      privateKey.sign('sha256', data(1)),
      secret.encrypt('aes-128-ctr', data(1), { iv: Buffer.alloc(16) }),
    ]) {
      expect(await rejection(made)).toMatchObject({
        code: 'ERR_PKCS11_NOT_FOUND',
        message: expect.stringContaining('removed or replaced'),
      });
    }
    // The login was opened again, and works on.
    const found = await before.privateKey({ id: 'e1' });
    const { publicKey } = others.privateKey;
    expect(found.publicKey.equals(publicKey)).toBe(true);
    expect(verify('sha256', data(2), publicKey, await found.sign('sha256', data(2)))).toBe(true);
    await certificate.destroy(); // it is the same
    await Promise.all([before.close(), now.close()]);
  });

  test('has another PIN: that of the login is sent once, and no more', async () => {
    const before = await open(PIN);
    await kill();
    const now = await open('another-1');
    for (let i = 0; i < 9; i++) {
      expect(await rejection(before.randomBytes(1))).toMatchObject({
        code: 'CKR_PIN_INCORRECT',
        message: expect.stringContaining('log in again'),
      });
    }
    expect(await erased.info()).toMatchObject({ userPinCountLow: true, userPinFinalTry: false });
    await Promise.all([before.close(), now.close()]);
  });

  test('has no user any more', async () => {
    const before = await open(PIN);
    await kill();
    await erased.initialize({ label: 'erased', soPin: SO_PIN });
    expect(await rejection(before.randomBytes(1))).toMatchObject({ code: 'CKR_USER_PIN_NOT_INITIALIZED' });
    await before.close();
    await (await open(PIN)).close();
  });
});

describe('certificates and data', () => {
  test('are kept, found and removed', async () => {
    const made = await login.importCertificate(CERTIFICATE, { id: 'a1', label: 'device' });
    expect(made.pem.trim()).toBe(CERTIFICATE.trim());
    const [found, ...more] = await login.certificates({ id: 'a1' });
    expect(more).toEqual([]);
    expect(found.x509.subject).toBe('CN=test subject');
    // Without a login, too.
    const open = await token.open();
    expect((await open.certificate({ label: 'device' })).raw).toEqual(made.raw);
    expect(await open.privateKeys()).toEqual([]);
    await open.close();
    await login.destroy(found);
    expect(await login.certificates()).toEqual([]);
    const secret = await login.importData(Buffer.from('some data'), { label: 'note', application: 'test' });
    expect(await (await login.data({ label: 'note' })).read()).toEqual(Buffer.from('some data'));
    expect(secret.application).toBe('test');
    await secret.destroy();
  });
});

test('a key is shown by its id and label, and nothing else', () => {
  expect(inspect(pair.privateKey)).not.toMatch(/handle|session/i);
  expect(String(pair.privateKey)).toBe("private key with id a1 and label 'device'");
});

describe('PINs', () => {
  // Whatever wrong PINs the tests before have left, or these leave.
  beforeAll(async () => {
    await token.setUserPin({ soPin: SO_PIN, pin: PIN });
  });
  afterAll(async () => {
    await token.setUserPin({ soPin: SO_PIN, pin: PIN });
  });

  test('six wrong ones are incorrect, the seventh locks, and the security officer unlocks', async () => {
    for (let i = 0; i < 6; i++) {
      expect(await rejection(token.login({ pin: 'wrong' }))).toMatchObject({ code: 'CKR_PIN_INCORRECT' });
    }
    expect(await token.info()).toMatchObject({ userPinFinalTry: true, userPinLocked: false });
    expect(await rejection(token.login({ pin: 'wrong' }))).toMatchObject({ code: 'CKR_PIN_LOCKED' });
    expect(await rejection(token.login({ pin: PIN }))).toMatchObject({
      code: 'CKR_PIN_LOCKED',
      message: expect.stringContaining('setUserPin'),
    });
    expect(await token.info()).toMatchObject({ userPinLocked: true });
    await token.setUserPin({ soPin: SO_PIN, pin: PIN });
    await token.changePin({ pin: PIN, newPin: 'another-1' });
    expect(await rejection(token.changePin({ pin: PIN, newPin: 'x-1234' }))).toMatchObject({
      code: 'CKR_PIN_INCORRECT',
    });
    await token.changePin({ pin: 'another-1', newPin: PIN });
    await token.changeSoPin({ soPin: SO_PIN, newPin: 'so-new-pin' });
    await token.changeSoPin({ soPin: 'so-new-pin', newPin: SO_PIN });
    await (await token.login({ pin: PIN })).close();
  });

  test('bad arguments are named, and nothing is sent', async () => {
    const before = await token.info();
    for (const [call, name] of [
      [() => token.login({ pin: 'abc' }), 'options.pin'],
      [() => token.login({ pin: 'user:me' }), 'options.pin'],
      [() => token.login('1234' as never), 'options'],
      [() => token.login({} as never), 'pin or identity'],
      [() => token.login({ pin: PIN, identity: 'user' } as never), 'pin or identity'],
      [() => token.login({ identity: 'user' }), 'must have a PIN'],
      [() => token.initialize({ label: 'x'.repeat(33), soPin: SO_PIN }), 'options.label'],
      [() => token.initialize({ label: 'x', identity: 'user' }), 'must have a PIN'],
      [
        () => token.setUserIdentity({ so: { identity: 'user' }, user: { identity: 'user' } }),
        'must have a PIN',
      ],
      [() => login.generateKeyPair('dsa' as never), 'type'],
      [() => login.generateKeyPair('ec', {}), 'options.namedCurve'],
      [() => login.generateKeyPair('rsa', { modulusLength: 1024 }), 'options.modulusLength'],
      [() => login.generateKey('aes', { length: 100 }), 'options.length'],
      [() => login.privateKey({}), 'query'],
      [() => login.importCertificate('nothing'), 'certificate'],
      [() => pair.privateKey.sign('md5', Buffer.alloc(1)), 'algorithm'],
      [() => pair.privateKey.sign('sha256', 'text' as never), 'data'],
      [() => pair.privateKey.sign('sha256', Buffer.alloc(1), { dsaEncoding: 'x' as never }), 'dsaEncoding'],
    ] as const) {
      const error = await rejection<Error & { code: string }>(call());
      expect(error.code).toMatch(/^ERR_(INVALID_ARG|OUT_OF_RANGE)/);
      expect(error.message).toContain(name);
      expect(error.message).not.toContain('1234');
    }
    expect(await token.info()).toEqual(before);
    const fresh = (await pkcs11.tokens()).find(({ initialized }) => !initialized);
    const uninitialized = fresh && (await pkcs11.token({ slot: fresh.slot }));
    // The first would make the TA panic.
    for (const call of uninitialized === undefined
      ? []
      : [
          () => uninitialized.setUserPin({ soPin: SO_PIN, pin: PIN }),
          () => uninitialized.login({ pin: PIN }),
        ]) {
      expect(await rejection(call())).toMatchObject({
        code: 'CKR_USER_PIN_NOT_INITIALIZED',
        message: expect.stringContaining('initialize'),
      });
    }
    expect(right(7, await pair.privateKey.sign('sha256', data(7)))).toBe(true);
  });
});

test('a token that knows its users by identity', async () => {
  const another = await pkcs11.token({ slot: 1 });
  await another.initialize({ label: 'identities', identity: 'user' });
  expect(await another.info()).toMatchObject({ identity: true, userPinInitialized: false });
  await another.setUserIdentity({ so: { identity: 'user' }, user: { identity: 'group', gid: 0 } });
  // Several logins and identities at once.
  const byGroup = await another.login({ identity: 'group', gid: 0 });
  const { privateKey } = await byGroup.generateKeyPair('ec', { namedCurve: 'P-256', token: false });
  const [signature, own] = await Promise.all([
    privateKey.sign('sha256', data(1)),
    pair.privateKey.sign('sha256', data(2)),
  ]);
  expect(verify('sha256', data(1), privateKey.publicKey, signature)).toBe(true);
  expect(right(2, own)).toBe(true);
  expect(await rejection(another.login({ identity: 'user' }))).toMatchObject({
    code: expect.stringMatching(/^CKR_/),
  });
  expect(await rejection(another.login({ pin: PIN }))).toMatchObject({
    message: expect.stringContaining('must have an identity'),
  });
  await byGroup.close();
  await another.initialize({ label: 'identities', identity: 'user' });
});

test('a closed login is closed, and closing twice is one', async () => {
  const another = await token.login({ pin: PIN });
  const key = await another.privateKey({ id: 'a1' });
  // Some have their turn already, the others wait.
  const asked = Promise.allSettled(Array.from({ length: 7 }, () => key.sign('sha256', data(3))));
  expect(another.close()).toBe(another.close());
  const settled = await asked;
  const signatures = settled.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  expect(signatures.map((signature) => right(3, signature))).toEqual([true, true, true, true]);
  const refused = settled.filter(({ status }) => status === 'rejected');
  expect(refused).toEqual(
    Array(3).fill({ status: 'rejected', reason: expect.objectContaining({ code: 'ERR_TEE_CLOSED' }) }),
  );
  await another.close();
  expect(another.closed).toBe(true);
  expect(await rejection(key.sign('sha256', data(5)))).toMatchObject({ code: 'ERR_TEE_CLOSED' });
});
