/**
 * What the PKCS#11 TA answers in the cases of OP-TEE's own test suite (xtest's `pkcs11_1000` and on), through this client.
 * Each test has the number of its case. What the client does not let a caller ask for has no test here: sessions and
 * operations are its own (1000, 1002), and so are templates (1014, 1015, 1029).
 */
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Pkcs11, type NewKeyOptions, type SecretKey, type Token, type TokenLogin } from 'node-optee/pkcs11';
import { CERTIFICATE } from '../support/certificate.js';
import { rejection, useTee } from '../support/device.js';
import { PIN, SO_PIN } from '../support/token.js';

const guest = useTee();
const IV = { iv: Buffer.alloc(16) };
const CBC = 'aes-256-cbc';

let pkcs11: Pkcs11;
let token: Token;
let login: TokenLogin;

beforeAll(async () => {
  pkcs11 = await Pkcs11.open({ context: guest.tee });
  token = await pkcs11.token({ slot: 0 });
});
afterAll(() => pkcs11.close());

/** The result that the TA answered with; undefined if it did what was asked. */
async function code(call: Promise<unknown>): Promise<string | undefined> {
  try {
    await call;
    return undefined;
  } catch (error) {
    return (error as { code?: string }).code;
  }
}

const aes = (options: NewKeyOptions = {}): Promise<SecretKey> =>
  login.generateKey('aes', { length: 256, token: false, ...options });

test('pkcs11_1001: slots, tokens and mechanisms', async () => {
  const tokens = await pkcs11.tokens();
  expect(tokens.map(({ slot }) => slot)).toEqual(tokens.map((_, i) => i));
  expect(tokens.map(({ serialNumber }) => serialNumber)).toEqual(
    tokens.map((_, i) => String(i).padStart(16, '0')),
  );
  for (const slot of [tokens.length, 0xffffffff]) {
    expect(await code(pkcs11.token({ slot }))).toBe('ERR_PKCS11_NOT_FOUND');
  }
  const mechanisms = await token.mechanisms();
  expect(new Set(mechanisms).size).toBe(mechanisms.length);
  expect(mechanisms).toEqual(expect.arrayContaining(['CKM_AES_KEY_GEN', 'CKM_SHA256_HMAC', 'CKM_ECDSA']));
});

test('pkcs11_1003: PINs of both users', async () => {
  await token.initialize({ label: 'codes', soPin: SO_PIN });
  for (const soPin of [SO_PIN.slice(1), `${SO_PIN}9`, SO_PIN.replace('y', 'x')]) {
    expect(await code(token.initialize({ label: 'codes', soPin }))).toBe('CKR_PIN_INCORRECT');
  }
  expect(await token.info()).toMatchObject({ initialized: true, soPinCountLow: true, soPinLocked: false });
  await token.initialize({ label: 'codes', soPin: SO_PIN });
  expect(await token.info()).toMatchObject({ soPinCountLow: false, userPinInitialized: false });
  expect(await code(token.login({ pin: PIN }))).toBe('CKR_USER_PIN_NOT_INITIALIZED');
  expect(await code(token.changePin({ pin: PIN, newPin: 'other-1234' }))).toBe('CKR_GENERAL_ERROR');
  expect(await code(token.setUserPin({ soPin: `${SO_PIN}9`, pin: PIN }))).toBe('CKR_PIN_INCORRECT');
  await token.setUserPin({ soPin: SO_PIN, pin: PIN });
  expect(await token.info()).toMatchObject({
    userPinInitialized: true,
    userPinCountLow: false,
    userPinFinalTry: false,
    userPinLocked: false,
    soPinCountLow: false,
  });
  expect(await code(token.changeSoPin({ soPin: PIN, newPin: 'other-1234' }))).toBe('CKR_PIN_INCORRECT');
  await token.changePin({ pin: PIN, newPin: 'other-1234' });
  expect(await code(token.login({ pin: PIN }))).toBe('CKR_PIN_INCORRECT');
  await token.changePin({ pin: 'other-1234', newPin: PIN });
  // The right PINs, so that all tries are there again.
  await token.setUserPin({ soPin: SO_PIN, pin: PIN });
  // A second login of the same user is another application: not CKR_USER_ALREADY_LOGGED_IN.
  login = await token.login({ pin: PIN });
  await (await token.login({ pin: PIN })).close();
  expect(await code(token.initialize({ label: 'codes', soPin: SO_PIN }))).toBe('CKR_SESSION_EXISTS');
});

describe('with a user', () => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });

  test('pkcs11_1004: objects of the session and of the token, created and destroyed', async () => {
    for (const kept of [false, true]) {
      const object = await login.importData(randomBytes(64), { label: 'one', token: kept });
      await object.destroy();
      expect(await code(object.destroy())).toBe('CKR_OBJECT_HANDLE_INVALID');
      expect(await code(object.read())).toBe('CKR_OBJECT_HANDLE_INVALID');
    }
    const many = [];
    for (let i = 0; i < 30; i++) many.push(await aes());
    for (const key of many) await key.destroy();
    expect(await login.secretKeys()).toEqual([]);
  });

  test('pkcs11_1005, pkcs11_1006: keys do what they were made for, and nothing else', async () => {
    const both = await aes();
    const [encrypts, decrypts] = await Promise.all([
      aes({ usages: ['encrypt'] }),
      aes({ usages: ['decrypt'] }),
    ]);
    const text = Buffer.alloc(32);
    for (const algorithm of [CBC, 'aes-256-ctr', 'aes-256-gcm']) {
      const iv = { iv: Buffer.alloc(algorithm.endsWith('gcm') ? 12 : 16) };
      const { ciphertext, authTag } = await both.encrypt(algorithm, text, iv);
      expect(await both.decrypt(algorithm, ciphertext, { ...iv, authTag })).toEqual(text);
      expect(await code(encrypts.encrypt(algorithm, text, iv))).toBeUndefined();
      expect(await code(encrypts.decrypt(algorithm, ciphertext, { ...iv, authTag }))).toBe(
        'CKR_KEY_FUNCTION_NOT_PERMITTED',
      );
      expect(await code(decrypts.encrypt(algorithm, text, iv))).toBe('CKR_KEY_FUNCTION_NOT_PERMITTED');
    }
    await Promise.all([both, encrypts, decrypts].map((key) => key.destroy()));
  });

  test('pkcs11_1007: what was begun ends with its session', async () => {
    const { sessions } = await token.info();
    const another = await token.login({ pin: PIN });
    const key = await another.generateKey('hmac', { length: 256, token: false });
    async function* broken(): AsyncGenerator<Buffer> {
      yield Buffer.alloc(100);
      throw new Error('no more');
    }
    await Promise.all(
      [key.sign('sha256', broken()), another.digest('sha256', broken())].map(async (made) =>
        expect(await rejection(made)).toMatchObject({ message: 'no more' }),
      ),
    );
    await another.close();
    expect((await token.info()).sessions).toBe(sessions);
  });

  test('pkcs11_1008, pkcs11_1009: HMAC', async () => {
    const key = await login.generateKey('hmac', { length: 256, token: false });
    const data = Buffer.from('some data');
    const mac = await key.sign('sha256', data);
    for (const [given, right] of [
      [mac, true],
      [Buffer.alloc(0), false],
      [mac.subarray(1), false],
      [Buffer.concat([mac, mac]), false],
      [Buffer.from(mac.map((byte) => byte ^ 1)), false],
    ] as const) {
      expect(await key.verify('sha256', data, given)).toBe(right);
    }
    const signs = await login.generateKey('hmac', { length: 256, token: false, usages: ['sign'] });
    expect(await code(signs.verify('sha256', data, mac))).toBe('CKR_KEY_FUNCTION_NOT_PERMITTED');
    await Promise.all([key, signs].map((one) => one.destroy()));
  });

  test('pkcs11_1010: generated keys', async () => {
    for (const length of [8, 256, 4096]) {
      const key = await login.generateKey('hmac', { length, token: false, label: 'made' });
      expect(key).toMatchObject({ type: 'hmac', symmetricKeySize: length / 8, sensitive: true });
      await key.destroy();
    }
    expect(await code(login.generateKey('hmac', { length: 4104, token: false }))).toBe('ERR_OUT_OF_RANGE');
  });

  test('pkcs11_1011: objects are found by who may see them', async () => {
    const made = [
      await login.importData(Buffer.from('1'), { label: 'private', token: false }),
      await login.importData(Buffer.from('2'), { label: 'private' }),
      await login.importData(Buffer.from('3'), { label: 'public', private: false }),
    ];
    const found = async (by: TokenLogin, label?: string): Promise<string[]> =>
      (await by.dataObjects({ label })).map((object) => object.label).sort();
    expect(await found(login)).toEqual(['private', 'private', 'public']);
    expect(await found(login, 'private')).toHaveLength(2);
    expect(await found(login, 'nothing')).toEqual([]);
    expect(await code(login.data({ label: 'private' }))).toBe('ERR_PKCS11_AMBIGUOUS');
    const [nobody, again] = [await token.open(), await token.login({ pin: PIN })];
    expect(await found(nobody)).toEqual(['public']);
    // Session objects are those of one login.
    expect(await found(again)).toEqual(['private', 'public']);
    await Promise.all([nobody.close(), again.close()]);
    for (const object of made) await object.destroy();
    expect(await found(login)).toEqual([]);
  });

  test('pkcs11_1012: attributes of any size come back as they were', async () => {
    for (const label of ['', 'Gerät', 'y'.repeat(500)]) {
      for (const data of [randomBytes(1), randomBytes(2000)]) {
        const { token: kept } = await login.importData(data, { label, application: label, token: false });
        expect(kept).toBe(false);
        const [object] = await login.dataObjects();
        expect(object).toMatchObject({ label, application: label });
        expect(await object?.read()).toEqual(data);
        await object?.destroy();
      }
    }
    const certificate = await login.importCertificate(CERTIFICATE, { id: randomBytes(200), token: false });
    expect((await login.certificate({ id: certificate.id })).id).toHaveLength(200);
    await certificate.destroy();
  });

  test('pkcs11_1013: what nobody who is not logged in may make', async () => {
    const nobody = await token.open();
    const before = (await login.objects()).length;
    for (const kept of [false, true]) {
      for (const call of [
        () => nobody.importData(Buffer.alloc(1), { token: kept }),
        () => nobody.importSecretKey(Buffer.alloc(16), { type: 'aes', token: kept }),
        () => nobody.generateKey('aes', { length: 128, token: kept }),
        () => nobody.generateKeyPair('ec', { namedCurve: 'P-256', token: kept }),
      ]) {
        expect(await code(call())).toBe('CKR_USER_NOT_LOGGED_IN');
      }
    }
    const object = await nobody.importData(Buffer.alloc(1), { label: 'free', private: false, token: false });
    expect(await object.read()).toEqual(Buffer.alloc(1));
    expect(await nobody.objects()).toHaveLength(1);
    // Nothing was made though it was refused.
    expect(await login.objects()).toHaveLength(before);
    await nobody.close();
  });

  test('pkcs11_1016: random bytes', async () => {
    for (const size of [0, 1, 2049]) expect(await login.randomBytes(size)).toHaveLength(size);
    expect(await login.randomBytes(16)).not.toEqual(await login.randomBytes(16));
  });

  test('pkcs11_1017, pkcs11_1019: an EC key signs and derives if it was made for it', async () => {
    const ec = { namedCurve: 'P-256', token: false } as const;
    const [signs, derives] = [
      await login.generateKeyPair('ec', { ...ec, usages: ['sign'] }),
      await login.generateKeyPair('ec', { ...ec, usages: ['derive'] }),
    ];
    const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const key = { type: 'aes', length: 128, token: false } as const;
    expect(await code(signs.privateKey.deriveKey(publicKey, key))).toBe('CKR_KEY_TYPE_INCONSISTENT');
    expect(await code(signs.privateKey.diffieHellman(publicKey))).toBe('CKR_KEY_TYPE_INCONSISTENT');
    expect(await code(derives.privateKey.sign('sha256', Buffer.alloc(1)))).toBe(
      'CKR_KEY_FUNCTION_NOT_PERMITTED',
    );
    expect(await code(derives.publicKey.verify('sha256', Buffer.alloc(1), Buffer.alloc(70)))).toBeUndefined();
    const signature = { dsaEncoding: 'ieee-p1363' } as const;
    const verified = derives.publicKey.verify('sha256', Buffer.alloc(1), Buffer.alloc(64), signature);
    expect(await code(verified)).toBe('CKR_KEY_FUNCTION_NOT_PERMITTED');
    await signs.privateKey.destroy();
    expect(await code(signs.privateKey.sign('sha256', Buffer.alloc(1)))).toBe('CKR_KEY_HANDLE_INVALID');
  });

  test('pkcs11_1018: digests of nothing', async () => {
    async function* nothing(): AsyncGenerator<Buffer> {
      yield* await Promise.resolve([]);
    }
    const sha256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
    for (const data of [Buffer.alloc(0), nothing()]) {
      expect((await login.digest('sha256', data)).toString('hex')).toBe(sha256);
    }
  });

  test('pkcs11_1020: keys wrapped and unwrapped by AES', async () => {
    const by = await aes({ usages: ['wrap', 'unwrap'] });
    const other = await aes();
    const key = await aes({ extractable: true });
    const unwrap = { ...IV, type: 'aes', length: 256, token: false } as const;
    const wrapped = await by.wrapKey(key, CBC, IV);
    const again = await by.unwrapKey(wrapped, CBC, { ...unwrap, extractable: true });
    expect(await by.wrapKey(again, CBC, IV)).toEqual(wrapped);
    for (const [call, expected] of [
      [() => other.wrapKey(key, CBC, IV), 'CKR_WRAPPING_KEY_TYPE_INCONSISTENT'],
      [() => other.unwrapKey(wrapped, CBC, unwrap), 'CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT'],
      [() => by.wrapKey(other, CBC, IV), 'CKR_KEY_UNEXTRACTABLE'],
      [() => by.wrapKey(by, CBC, IV), 'CKR_WRAPPING_KEY_HANDLE_INVALID'],
      [() => by.wrapKey(key, 'aes-256-gcm', { iv: Buffer.alloc(12) }), 'CKR_MECHANISM_INVALID'],
      [() => by.unwrapKey(wrapped.subarray(1), CBC, unwrap), 'CKR_WRAPPED_KEY_LEN_RANGE'],
      [() => by.unwrapKey(wrapped.subarray(16), CBC, unwrap), 'CKR_DATA_LEN_RANGE'],
    ] as const) {
      expect(await code(call())).toBe(expected);
    }
    // A key that is no whole number of blocks.
    const secret = await login.generateKey('hmac', { length: 320, token: false, extractable: true });
    const mac = await secret.sign('sha256', Buffer.alloc(1));
    const wrappedSecret = await by.wrapKey(secret, CBC, IV);
    expect(wrappedSecret).toHaveLength(48);
    const hmac = { ...unwrap, type: 'hmac', length: 320 } as const;
    const secretAgain = await by.unwrapKey(wrappedSecret, CBC, hmac);
    expect(await secretAgain.sign('sha256', Buffer.alloc(1))).toEqual(mac);
    await again.destroy();
    expect(await code(by.wrapKey(again, CBC, IV))).toBe('CKR_KEY_HANDLE_INVALID');
    await by.destroy();
    expect(await code(by.wrapKey(key, CBC, IV))).toBe('CKR_WRAPPING_KEY_HANDLE_INVALID');
    expect(await code(by.unwrapKey(wrapped, CBC, unwrap))).toBe('CKR_KEY_HANDLE_INVALID');
    await Promise.all([other, key, secret, secretAgain].map((one) => one.destroy()));
  });

  test('pkcs11_1021, pkcs11_1022, pkcs11_1023: RSA', async () => {
    const key = await login.importPublicKey(rsa.publicKey, { token: false, usages: ['verify'] });
    expect(await key.verify('sha256', Buffer.alloc(1), Buffer.alloc(256, 1))).toBe(false);
    expect(await key.verify('sha256', Buffer.alloc(1), Buffer.alloc(255, 1))).toBe(false);
    expect(await code(key.publicEncrypt(Buffer.alloc(10)))).toBe('CKR_KEY_FUNCTION_NOT_PERMITTED');
    expect(await code(key.publicEncrypt(Buffer.alloc(215)))).toBe('ERR_INVALID_ARG_VALUE');
    await key.destroy();
  });

  test('pkcs11_1024: certificates', async () => {
    const certificate = await login.importCertificate(CERTIFICATE, { id: 'c1', label: 'cert', token: false });
    expect((await login.certificate({ id: 'c1' })).raw).toEqual(certificate.raw);
    await certificate.destroy();
    expect(await code(certificate.destroy())).toBe('CKR_OBJECT_HANDLE_INVALID');
    expect(await code(login.certificate({ id: 'c1' }))).toBe('ERR_PKCS11_NOT_FOUND');
  });

  test('pkcs11_1025: Ed25519', async () => {
    const { privateKey, publicKey } = await login.generateKeyPair('ed25519', { token: false });
    const signature = await privateKey.sign(undefined, Buffer.from('data'));
    expect(signature).toHaveLength(64);
    expect(await publicKey.verify(undefined, Buffer.from('data'), signature)).toBe(true);
    signature[0] = (signature[0] ?? 0) ^ 1;
    expect(await publicKey.verify(undefined, Buffer.from('data'), signature)).toBe(false);
    expect(await publicKey.verify(undefined, Buffer.from('data'), signature.subarray(1))).toBe(false);
  });

  test('pkcs11_1026: keys unwrapped by RSA with an AES key of its own', async () => {
    const by = await login.importPrivateKey(rsa.privateKey, {
      ...{ token: false, extractable: true, usages: ['unwrap'] },
    });
    const wrapped = await by.publicKey.wrapKey(by.privateKey);
    const again = await by.privateKey.unwrapKey(wrapped, { type: 'rsa', token: false, extractable: true });
    expect(again.publicKey.equals(rsa.publicKey)).toBe(true);
    expect(again).toMatchObject({ extractable: true, sensitive: true });
    expect(await code(by.privateKey.sign('sha256', Buffer.alloc(1)))).toBe('CKR_KEY_FUNCTION_NOT_PERMITTED');
    const secret = await aes({ extractable: true });
    const wrappedSecret = await by.publicKey.wrapKey(secret, { oaepHash: 'sha256' });
    const secretAgain = await by.privateKey.unwrapKey(wrappedSecret, {
      ...{ type: 'aes', oaepHash: 'sha256', token: false },
    });
    const { ciphertext } = await secret.encrypt(CBC, Buffer.from('text'), IV);
    expect(await secretAgain.decrypt(CBC, ciphertext, IV)).toEqual(Buffer.from('text'));
    const ec = await login.generateKeyPair('ec', { namedCurve: 'P-256', token: false, extractable: true });
    expect(await code(by.publicKey.wrapKey(ec.privateKey))).toBe('ERR_TEE_NOT_SUPPORTED');
    for (const one of [by, ec]) await Promise.all([one.privateKey.destroy(), one.publicKey.destroy()]);
    await Promise.all([again, secret, secretAgain].map((one) => one.destroy()));
  });

  test('pkcs11_1028: an object that another login has destroyed', async () => {
    const another = await token.login({ pin: PIN });
    const made = [
      await login.importData(Buffer.alloc(1), { label: 'theirs' }),
      await login.importCertificate(CERTIFICATE, { label: 'theirs' }),
      await login.generateKey('aes', { length: 256, label: 'theirs' }),
    ] as const;
    const [data, , key] = made;
    for (const object of await another.objects({ label: 'theirs' })) await object.destroy();
    for (const object of made) expect(await code(object.destroy())).toBe('CKR_OBJECT_HANDLE_INVALID');
    expect(await code(data.read())).toBe('CKR_OBJECT_HANDLE_INVALID');
    expect(await code(key.encrypt(CBC, Buffer.alloc(1), IV))).toBe('CKR_KEY_HANDLE_INVALID');
    await another.close();
  });

  test('pkcs11_1030: AES GCM finds out what was changed', async () => {
    const key = await aes();
    const aad = Buffer.from('aad');
    const iv = Buffer.alloc(12);
    const text = Buffer.from('some text');
    for (const authTagLength of [12, 16]) {
      const { ciphertext, authTag } = await key.encrypt('aes-256-gcm', text, { iv, aad, authTagLength });
      expect(authTag).toHaveLength(authTagLength);
      const right = { iv, aad, authTag };
      expect(await key.decrypt('aes-256-gcm', ciphertext, right)).toEqual(text);
      for (const [data, options] of [
        [ciphertext.subarray(1), right],
        [ciphertext, { ...right, aad: Buffer.from('Aad') }],
        [ciphertext, { ...right, iv: Buffer.alloc(12, 1) }],
        [ciphertext, { ...right, authTag: Buffer.from(authTag.map((byte) => byte ^ 1)) }],
      ] as const) {
        expect(await code(key.decrypt('aes-256-gcm', data, options))).toBe('CKR_SIGNATURE_INVALID');
      }
    }
    await key.destroy();
  });

  test('all that was made has been destroyed', async () => {
    expect((await login.objects()).filter((object) => object.token)).toEqual([]);
  });
});

test('pkcs11_1027: users by identity', async () => {
  const another = await pkcs11.token({ slot: 1 });
  await another.initialize({ label: 'identities', identity: 'user' });
  expect(await code(another.login({ identity: 'user' }))).toBe('CKR_USER_PIN_NOT_INITIALIZED');
  await another.setUserIdentity({ so: { identity: 'user' }, user: { identity: 'group', gid: 0 } });
  await (await another.login({ identity: 'group', gid: 0 })).close();
  expect(await code(another.login({ identity: 'user' }))).toBe('CKR_PIN_INCORRECT');
  const so = { identity: 'group', gid: 0 } as const;
  expect(await code(another.setUserIdentity({ so, user: so }))).toBe('CKR_PIN_INCORRECT');
  expect(await another.info()).toMatchObject({
    identity: true,
    userPinCountLow: false,
    soPinCountLow: false,
  });
  await another.initialize({ label: 'identities', identity: 'user' });
});
