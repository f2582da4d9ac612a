/** Known answers of standards, by keys that are imported. Each is checked by node:crypto as well. */
import {
  constants,
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  verify,
} from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Pkcs11, type GcmAlgorithm, type SecretKey, type TokenLogin } from 'node-optee/pkcs11';
import { rejection, useTee } from '../support/device.js';
import {
  CBC,
  CTR,
  DIGESTS,
  ECDSA_SIGN,
  ECDSA_VERIFY,
  ED25519,
  GCM,
  GCM_DECRYPT,
  HMACS,
  RSA_VERIFY,
} from '../support/known-answers.js';
import { freshToken } from '../support/token.js';

const guest = useTee();

let pkcs11: Pkcs11;
let login: TokenLogin;
beforeAll(async () => {
  ({ pkcs11, login } = await freshToken(guest.tee));
});
afterAll(() => pkcs11.close());

const hex = (text: string): Buffer => Buffer.from(text, 'hex');
const url = (text: string): string => hex(text).toString('base64url');
const bits = (key: string): number => key.length * 4;

/** With a key that is on the token for as long as it is needed. */
async function withSecret<T>(
  type: 'aes' | 'hmac',
  key: string,
  use: (key: SecretKey) => Promise<T>,
): Promise<T> {
  const imported = await login.importSecretKey(hex(key), { type, token: false });
  const found = await use(imported);
  await imported.destroy();
  return found;
}

test.each(DIGESTS)('$algorithm', async ({ algorithm, message, digest }) => {
  expect(createHash(algorithm).update(hex(message)).digest('hex')).toBe(digest);
  expect((await login.digest(algorithm, hex(message))).toString('hex')).toBe(digest);
});

test.each(HMACS)('HMAC $algorithm', async ({ algorithm, key, message, mac }) => {
  expect(createHmac(algorithm, hex(key)).update(hex(message)).digest('hex')).toBe(mac);
  await withSecret('hmac', key, async (secret) => {
    expect((await secret.sign(algorithm, hex(message))).toString('hex')).toBe(mac);
    expect(await secret.verify(algorithm, hex(message), hex(mac))).toBe(true);
  });
});

describe('AES-GCM', () => {
  test.each(GCM)('key $key', async ({ key, iv, aad, plain, cipher, tag }) => {
    const algorithm = `aes-${bits(key)}-gcm` as GcmAlgorithm;
    const authTagLength = tag.length / 2;
    const theirs = createCipheriv(algorithm, hex(key), hex(iv), { authTagLength }).setAAD(hex(aad));
    expect(theirs.update(plain, 'hex', 'hex') + theirs.final('hex')).toBe(cipher);
    expect(theirs.getAuthTag().toString('hex')).toBe(tag);
    const options = { iv: hex(iv), aad: hex(aad), authTagLength };
    await withSecret('aes', key, async (secret) => {
      const { ciphertext, authTag } = await secret.encrypt(algorithm, hex(plain), options);
      expect([ciphertext.toString('hex'), authTag.toString('hex')]).toEqual([cipher, tag]);
      const decrypted = await secret.decrypt(algorithm, hex(cipher), { ...options, authTag: hex(tag) });
      expect(decrypted.toString('hex')).toBe(plain);
    });
  });

  test.each(GCM_DECRYPT)('decryption, key $key', async ({ key, iv, aad, plain, cipher, tag }) => {
    const algorithm = `aes-${bits(key)}-gcm` as GcmAlgorithm;
    const theirs = createDecipheriv(algorithm, hex(key), hex(iv)).setAAD(hex(aad)).setAuthTag(hex(tag));
    const text = theirs.update(cipher, 'hex', 'hex');
    if (plain === undefined) expect(() => theirs.final()).toThrow();
    else expect(text + theirs.final('hex')).toBe(plain);
    await withSecret('aes', key, async (secret) => {
      const options = { iv: hex(iv), aad: hex(aad), authTag: hex(tag) };
      const decrypted = secret.decrypt(algorithm, hex(cipher), options);
      if (plain === undefined)
        expect(await rejection(decrypted)).toMatchObject({ code: 'CKR_SIGNATURE_INVALID' });
      else expect((await decrypted).toString('hex')).toBe(plain);
    });
  });
});

describe.each([
  ['cbc', CBC],
  ['ctr', CTR],
] as const)('AES-%s', (mode, cases) => {
  test.each(cases)('key $key', async ({ key, iv, plain, cipher }) => {
    const algorithm = `aes-${bits(key)}-${mode}`;
    const theirs = createCipheriv(algorithm, hex(key), hex(iv)).setAutoPadding(false);
    expect(theirs.update(plain, 'hex', 'hex') + theirs.final('hex')).toBe(cipher);
    const options = { iv: hex(iv), autoPadding: mode === 'cbc' ? false : undefined };
    await withSecret('aes', key, async (secret) => {
      const { ciphertext } = await secret.encrypt(algorithm, hex(plain), options);
      expect(ciphertext.toString('hex')).toBe(cipher);
      expect((await secret.decrypt(algorithm, hex(cipher), options)).toString('hex')).toBe(plain);
    });
  });
});

describe('ECDSA', () => {
  const dsaEncoding = 'ieee-p1363';
  const jwkOf = (curve: string, x: string, y: string) => ({ kty: 'EC', crv: curve, x: url(x), y: url(y) });

  test.each(ECDSA_VERIFY)('$curve: a signature that is right is $right', async (known) => {
    const { curve, algorithm, x, y, message, signature, right } = known;
    const key = createPublicKey({ key: jwkOf(curve, x, y), format: 'jwk' });
    expect(verify(algorithm, hex(message), { key, dsaEncoding }, hex(signature))).toBe(right);
    const imported = await login.importPublicKey(key, { token: false });
    expect(await imported.verify(algorithm, hex(message), hex(signature), { dsaEncoding })).toBe(right);
  });

  test.each(ECDSA_SIGN)('$curve: a private key', async (known) => {
    const { curve, algorithm, d, x, y, message, signature } = known;
    const jwk = jwkOf(curve, x, y);
    const key = createPublicKey({ key: jwk, format: 'jwk' });
    const pair = await login.importPrivateKey(
      createPrivateKey({ key: { ...jwk, d: url(d) }, format: 'jwk' }),
      { token: false },
    );
    // Each signature is another one. That of the standard is right for the same key.
    const made = await pair.privateKey.sign(algorithm, hex(message), { dsaEncoding });
    for (const one of [made, hex(signature)]) {
      expect(verify(algorithm, hex(message), { key, dsaEncoding }, one)).toBe(true);
    }
  });
});

describe('Ed25519', () => {
  test.each(ED25519)('public key $x', async ({ secret, x, message, signature }) => {
    const jwk = { kty: 'OKP', crv: 'Ed25519', x: url(x) };
    const key = createPublicKey({ key: jwk, format: 'jwk' });
    expect(verify(null, hex(message), key, hex(signature))).toBe(true);
    const { privateKey, publicKey } = await login.importPrivateKey(
      createPrivateKey({ key: { ...jwk, d: url(secret) }, format: 'jwk' }),
      { token: false },
    );
    expect((await privateKey.sign(null, hex(message))).toString('hex')).toBe(signature);
    expect(await publicKey.verify(null, hex(message), hex(signature))).toBe(true);
  });
});

test.each(RSA_VERIFY)('RSA, $padding: a signature that is right is $right', async (known) => {
  const { padding, algorithm, n, e, message, signature, saltLength, right } = known;
  const key = createPublicKey({ key: { kty: 'RSA', n: url(n), e: url(e) }, format: 'jwk' });
  const options =
    padding === 'pss'
      ? { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength }
      : { padding: constants.RSA_PKCS1_PADDING };
  expect(verify(algorithm, hex(message), { key, ...options }, hex(signature))).toBe(right);
  const imported = await login.importPublicKey(key, { token: false });
  expect(await imported.verify(algorithm, hex(message), hex(signature), options)).toBe(right);
});
