/** Tokens of OP-TEE's PKCS#11 TA: logins, keys, and what they do. */
import {
  constants,
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  diffieHellman,
  generateKeyPairSync,
  privateDecrypt,
  publicEncrypt,
  randomBytes,
  sign,
  verify,
} from 'node:crypto';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Pkcs11, Pkcs11Error, type Token, type TokenLogin } from 'node-optee/pkcs11';
import { rejection, useTee } from '../support/device.js';
import { freshToken, PIN, SO_PIN } from '../support/token.js';

const guest = useTee();

let pkcs11: Pkcs11;
let token: Token;
let login: TokenLogin;

beforeAll(async () => {
  ({ pkcs11, token, login } = await freshToken(guest.tee));
});
afterAll(async () => {
  await pkcs11.close();
});

describe('tokens', () => {
  test('are listed', async () => {
    const tokens = await pkcs11.tokens();
    expect(tokens.length).toBeGreaterThanOrEqual(2);
    expect(tokens[0]).toMatchObject({
      slot: 0,
      label: 'gateway',
      serialNumber: '0000000000000000',
      initialized: true,
      userPinInitialized: true,
      identity: false,
      userPinCountLow: false,
    });
    expect(await token.mechanisms()).toEqual(expect.arrayContaining(['CKM_ECDSA', 'CKM_AES_GCM']));
  });
  test('are found by label and serial number', async () => {
    expect((await pkcs11.token({ label: 'gateway' })).slot).toBe(0);
    expect((await pkcs11.token({ serialNumber: '0000000000000000' })).slot).toBe(0);
    expect(await rejection(pkcs11.token({ label: 'nobody' }))).toMatchObject({
      code: 'ERR_PKCS11_NOT_FOUND',
    });
  });
  test('a wrong PIN', async () => {
    const error = await rejection(token.login({ pin: 'wrong-pin' }));
    expect(error).toBeInstanceOf(Pkcs11Error);
    expect(error).toMatchObject({ code: 'CKR_PIN_INCORRECT', value: 0xa0 });
    expect((await token.info()).userPinCountLow).toBe(true);
    await (await token.login({ pin: PIN })).close();
    expect((await token.info()).userPinCountLow).toBe(false);
  });
  test('cannot be initialized while somebody has it open', async () => {
    const error = await rejection(token.initialize({ label: 'x', soPin: SO_PIN }));
    expect(error).toMatchObject({
      code: 'CKR_SESSION_EXISTS',
      message: expect.stringContaining('close all logins'),
    });
  });
});

describe.each(['P-256', 'P-384', 'P-521'])('EC %s', (namedCurve) => {
  test('signatures are right for node:crypto, in both encodings, and back', async () => {
    const label = `ec ${namedCurve}`;
    const { privateKey, publicKey } = await login.generateKeyPair('ec', { namedCurve, label });
    expect(privateKey).toMatchObject({
      label,
      token: true,
      private: true,
      sensitive: true,
      extractable: false,
    });
    expect(privateKey.asymmetricKeyType).toBe('ec');
    const data = randomBytes(1000);
    for (const algorithm of ['sha256']) {
      for (const dsaEncoding of ['der', 'ieee-p1363'] as const) {
        const signature = await privateKey.sign(algorithm, data, { dsaEncoding });
        expect(verify(algorithm, data, { key: privateKey.publicKey, dsaEncoding }, signature)).toBe(true);
      }
    }
    const signature = await privateKey.sign('sha384', data);
    expect(await publicKey.verify('sha384', data, signature)).toBe(true);
    expect(await publicKey.verify('sha384', randomBytes(10), signature)).toBe(false);
    const found = await login.privateKey({ label });
    expect(found.id).toEqual(privateKey.id);
    expect(found.publicKey.equals(privateKey.publicKey)).toBe(true);
    await login.destroy(found);
    await publicKey.destroy();
    expect(await rejection(login.privateKey({ label }))).toMatchObject({ code: 'ERR_PKCS11_NOT_FOUND' });
    expect(await rejection(privateKey.sign('sha256', data))).toMatchObject({
      code: 'CKR_KEY_HANDLE_INVALID',
    });
  });
});

test('Ed25519', async () => {
  const { privateKey, publicKey } = await login.generateKeyPair('ed25519', { token: false });
  const data = randomBytes(3000);
  const signature = await privateKey.sign(null, data);
  expect(verify(null, data, privateKey.publicKey, signature)).toBe(true);
  expect(await publicKey.verify(undefined, data, signature)).toBe(true);
  expect(await publicKey.verify(undefined, data.subarray(1), signature)).toBe(false);
});

describe('RSA', () => {
  const pair = generateKeyPairSync('rsa', { modulusLength: 2048 });
  test('an imported key signs and decrypts; PKCS1, PSS, OAEP', async () => {
    const { privateKey, publicKey } = await login.importPrivateKey(pair.privateKey, { token: false });
    const data = randomBytes(100);
    const pkcs1 = await privateKey.sign('sha256', data);
    expect(verify('sha256', data, pair.publicKey, pkcs1)).toBe(true);
    expect(await publicKey.verify('sha256', data, pkcs1)).toBe(true);
    const padding = constants.RSA_PKCS1_PSS_PADDING;
    const pss = await privateKey.sign('sha384', data, { padding });
    expect(verify('sha384', data, { key: pair.publicKey, padding }, pss)).toBe(true);
    const saltLength = constants.RSA_PSS_SALTLEN_DIGEST;
    const theirs = sign('sha512', data, { key: pair.privateKey, padding, saltLength });
    expect(await publicKey.verify('sha512', data, theirs, { padding, saltLength })).toBe(true);
    expect(await publicKey.verify('sha512', data, theirs, { padding })).toBe(true);
    expect(await publicKey.verify('sha512', Readable.from([data]), theirs, { padding })).toBe(true);
    expect(await publicKey.verify('sha512', data.subarray(1), theirs, { padding })).toBe(false);
    const oaepLabel = Buffer.from('label');
    const encrypted = publicEncrypt({ key: pair.publicKey, oaepHash: 'sha256', oaepLabel }, data);
    expect(await privateKey.privateDecrypt(encrypted, { oaepHash: 'sha256', oaepLabel })).toEqual(data);
    const own = await publicKey.publicEncrypt(data);
    expect(privateDecrypt(pair.privateKey, own)).toEqual(data);
    await expect(privateKey.privateDecrypt(encrypted)).rejects.toThrow(Pkcs11Error);
  });
});

describe('secret keys', () => {
  test.each([128, 192, 256])('AES %d: GCM, CBC, CTR', async (length) => {
    const value = randomBytes(length / 8);
    const key = await login.importSecretKey(value, { type: 'aes', token: false });
    expect(key).toMatchObject({ type: 'aes', symmetricKeySize: length / 8 });
    const aad = randomBytes(20);
    // (200,000 bytes go in parts.)
    for (const size of length === 256 ? [0, 1, 16, 1000, 200_000] : [33]) {
      const data = randomBytes(size);
      for (const mode of ['cbc', 'ctr']) {
        const algorithm = `aes-${length}-${mode}`;
        const iv = randomBytes(16);
        const { ciphertext } = await key.encrypt(algorithm, data, { iv });
        const theirs = createCipheriv(algorithm, value, iv);
        expect(ciphertext.equals(Buffer.concat([theirs.update(data), theirs.final()]))).toBe(true);
        expect((await key.decrypt(algorithm, ciphertext, { iv })).equals(data)).toBe(true);
      }
      const iv = randomBytes(12);
      const name = `aes-${length}-gcm` as 'aes-256-gcm';
      const { ciphertext, authTag } = await key.encrypt(name, data, { iv, aad });
      const theirs = createDecipheriv(name, value, iv).setAAD(aad).setAuthTag(authTag);
      expect(Buffer.concat([theirs.update(ciphertext), theirs.final()]).equals(data)).toBe(true);
      if (size < 10_000) {
        expect(await key.decrypt(name, ciphertext, { iv, aad, authTag })).toEqual(data);
        const changed = Buffer.from(authTag.map((byte) => byte ^ 1));
        expect(await rejection(key.decrypt(name, ciphertext, { iv, aad, authTag: changed }))).toMatchObject({
          code: 'CKR_SIGNATURE_INVALID',
        });
      }
    }
  });
  test('a text that is too large for a GCM decryption', async () => {
    const key = await login.generateKey('aes', { length: 256, token: false });
    const iv = randomBytes(12);
    const { ciphertext, authTag } = await key.encrypt('aes-256-gcm', randomBytes(40_000), { iv });
    expect(await rejection(key.decrypt('aes-256-gcm', ciphertext, { iv, authTag }))).toMatchObject({
      code: 'CKR_DEVICE_MEMORY',
      message: expect.stringContaining('CFG_PKCS11_TA_HEAP_SIZE'),
    });
  });
  test('HMAC, with all digests by one key, which the TA itself cannot', async () => {
    const value = randomBytes(40);
    const key = await login.importSecretKey(value, { type: 'hmac', token: false });
    for (const size of [0, 200_000]) {
      const data = randomBytes(size);
      for (const algorithm of ['sha1', 'sha224', 'sha256', 'sha384', 'sha512']) {
        const mac = await key.sign(algorithm, data);
        expect(mac).toEqual(createHmac(algorithm, value).update(data).digest());
        expect(await key.verify(algorithm, data, mac)).toBe(true);
        expect(await key.verify(algorithm, Buffer.concat([data, data, mac]), mac)).toBe(false);
      }
    }
  });
  test('wrapped and unwrapped', async () => {
    const by = await login.generateKey('aes', { length: 256, token: false, usages: ['wrap', 'unwrap'] });
    const inner = await login.generateKey('aes', { length: 256, token: false, extractable: true });
    const iv = randomBytes(16);
    for (const mode of ['cbc']) {
      const algorithm = `aes-256-${mode}`;
      const wrapped = await by.wrapKey(inner, algorithm, { iv });
      const again = await by.unwrapKey(wrapped, algorithm, { iv, type: 'aes', length: 256, token: false });
      expect(again).toMatchObject({ extractable: false, sensitive: true, symmetricKeySize: 32 });
      const text = randomBytes(32);
      const { ciphertext } = await inner.encrypt('aes-256-ctr', text, { iv });
      expect(await again.decrypt('aes-256-ctr', ciphertext, { iv })).toEqual(text);
    }
    const kept = await login.generateKey('aes', { length: 256, token: false });
    expect(await rejection(by.wrapKey(kept, 'aes-256-cbc', { iv }))).toMatchObject({
      code: 'CKR_KEY_UNEXTRACTABLE',
    });
    expect(await rejection(kept.export())).toMatchObject({ code: 'CKR_ATTRIBUTE_SENSITIVE' });
  });
});

test.each(['P-256', 'P-384'])('ECDH %s', async (namedCurve) => {
  const { privateKey } = await login.generateKeyPair('ec', { namedCurve, token: false });
  const theirs = generateKeyPairSync('ec', { namedCurve });
  const secret = diffieHellman({ privateKey: theirs.privateKey, publicKey: privateKey.publicKey });
  expect(await privateKey.diffieHellman(theirs.publicKey)).toEqual(secret);
  const key = await privateKey.deriveKey(theirs.publicKey, { type: 'aes', length: 256, token: false });
  const iv = randomBytes(16);
  const { ciphertext } = await key.encrypt('aes-256-ctr', secret, { iv });
  const decipher = createDecipheriv('aes-256-ctr', secret.subarray(0, 32), iv);
  expect(decipher.update(ciphertext)).toEqual(secret);
});

test('digests, of data and of a stream', async () => {
  const data = randomBytes(300_000);
  const parts = [data.subarray(0, 7), data.subarray(7, 100_000), data.subarray(100_000)];
  for (const algorithm of ['sha1', 'sha256', 'sha512']) {
    const right = createHash(algorithm).update(data).digest();
    expect(await login.digest(algorithm, data)).toEqual(right);
    expect(await login.digest(algorithm, Readable.from(parts))).toEqual(right);
  }
});

test('signatures and HMAC of a stream', async () => {
  const data = randomBytes(300_000);
  const stream = (): Readable => Readable.from([data.subarray(0, 7), data.subarray(7)]);
  const { privateKey, publicKey } = await login.generateKeyPair('ec', { namedCurve: 'P-256', token: false });
  const signature = await privateKey.sign('sha256', stream());
  expect(verify('sha256', data, privateKey.publicKey, signature)).toBe(true);
  expect(await publicKey.verify('sha256', stream(), signature)).toBe(true);
  expect(await publicKey.verify('sha256', Readable.from([data, data]), signature)).toBe(false);
  const value = randomBytes(32);
  const key = await login.importSecretKey(value, { type: 'hmac', token: false });
  const mac = createHmac('sha256', value).update(data).digest();
  expect(await key.sign('sha256', stream())).toEqual(mac);
  expect(await key.verify('sha256', stream(), mac)).toBe(true);
  expect(await key.verify('sha256', Readable.from([data, data]), mac)).toBe(false);
  for (const [made, message] of [
    [privateKey.sign('sha256', Readable.from(['text']) as never), 'a part of data'],
    [key.sign('sha256', Readable.from([data, 1]) as never), 'a part of data'],
    [key.sign('sha256', stream(), { signal: AbortSignal.abort() }), 'aborted'],
  ] as const) {
    expect(await rejection(made)).toMatchObject({ message: expect.stringContaining(message) });
  }
  const edwards = await login.generateKeyPair('ed25519', { token: false });
  expect(await rejection(edwards.privateKey.sign(null, stream()))).toMatchObject({
    code: 'ERR_INVALID_ARG_TYPE',
    message: expect.stringMatching(/^data must be/),
  });
});

test('random bytes', async () => {
  expect(await login.randomBytes(0)).toEqual(Buffer.alloc(0));
  const bytes = await login.randomBytes(10_000);
  expect(bytes).toHaveLength(10_000);
  expect(new Set(bytes).size).toBe(256);
});
