/** What the client of the PKCS#11 TA does without it: bytes, names, options, and the answers of a TA that lies. */
import {
  constants,
  createHash,
  createPublicKey,
  generateKeyPairSync,
  sign,
  verify,
  X509Certificate,
} from 'node:crypto';
import { inspect } from 'node:util';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { CKR, resultName, UNAVAILABLE } from '#lib/pkcs11/constants';
import { certificateNames, readElements, signatureFromDer, signatureToDer } from '#lib/pkcs11/der';
import { Pkcs11Error } from '#lib/pkcs11/errors';
import { clientUuid, identityPin, readIdentity, readPin } from '#lib/pkcs11/identity';
import { oaep, pad, readCipher, readDigest, rsaSignature, unpad } from '#lib/pkcs11/mechanisms';
import { readUsages } from '#lib/pkcs11/new-objects';
import { readId } from '#lib/pkcs11/objects';
import { ofSize } from '#lib/pkcs11/operations';
import { importKey } from '#lib/pkcs11/public-keys';
import {
  decodeAttributes,
  decodeHandles,
  decodeSizes,
  decodeTokenInfo,
  decodeU32s,
  encodeLabel,
  encodeMechanism,
  encodeTemplate,
  encodeWanted,
  pack,
  u32s,
} from '#lib/pkcs11/serializer';
import { CERTIFICATE } from '../support/certificate.js';

const u32 = fc.integer({ min: 0, max: 0xffffffff });
const bytes = fc.uint8Array({ maxLength: 40 });
const MALFORMED = expect.objectContaining({ code: 'ERR_PKCS11_ANSWER' });

describe('to the TA', () => {
  test('numbers are little-endian u32, one after the other', () => {
    expect(u32s(1, 0xfffffffe).toString('hex')).toBe('01000000feffffff');
    expect(pack(1, Uint8Array.of(9, 8), 2).toString('hex')).toBe('01000000090802000000');
  });
  test('a template has its size, its count, and each attribute with its size; undefined is left out', () => {
    const template = [
      [0x01, true],
      [0x03, Buffer.from('ab')],
      [0x102, undefined],
      [0x121, 2048],
    ] as const;
    const expected = `${'1f000000'}${'03000000'}${'0100000001000000' + '01'}${'0300000002000000' + '6162'}${'2101000004000000' + '00080000'}`;
    expect(encodeTemplate(template).toString('hex')).toBe(expected);
    expect(encodeMechanism({ id: 0x1041 }).toString('hex')).toBe('4110000000000000');
    expect(encodeMechanism({ id: 1, parameters: Uint8Array.of(7) }).toString('hex')).toBe(
      '010000000100000007',
    );
  });
  test('a label is filled up with spaces', () => {
    expect(encodeLabel('Gerät').toString()).toBe(`Gerät${' '.repeat(26)}`);
  });
});

describe('from the TA', () => {
  test('u32s and handles, or an error', () => {
    fc.assert(
      fc.property(fc.array(u32, { maxLength: 20 }), fc.integer({ min: 1, max: 3 }), (numbers, more) => {
        const encoded = u32s(...numbers);
        expect(decodeU32s(encoded, 'x')).toEqual(numbers);
        expect(decodeHandles(encoded, numbers.length, 'x')).toEqual(numbers);
        expect(() => decodeHandles(encoded, numbers.length + more, 'x')).toThrow(MALFORMED);
        expect(() => decodeU32s(Buffer.concat([encoded, Buffer.alloc(more)]), 'x')).toThrow(MALFORMED);
      }),
    );
  });

  const asked = fc.array(fc.record({ id: u32, value: bytes }), { maxLength: 6 });
  test('attributes: what was written is read', () => {
    fc.assert(
      fc.property(asked, (attributes) => {
        const wanted = attributes.map(({ id, value }) => ({ id, room: value.length }));
        const answer = encodeTemplate(attributes.map(({ id, value }) => [id, value]));
        expect(answer.length).toBe(encodeWanted(wanted).length);
        const values = decodeAttributes(answer, wanted, 'x');
        for (const [id, value] of values) {
          expect(value).toEqual(Buffer.from(attributes.findLast((one) => one.id === id)?.value ?? []));
        }
        expect(new Set(values.keys())).toEqual(new Set(attributes.map(({ id }) => id)));
      }),
    );
  });
  test('attributes that are not there keep the place that was asked for', () => {
    const wanted = [
      { id: 1, room: 4 },
      { id: 2, room: 2 },
    ];
    const answer = pack(22, 2, 1, UNAVAILABLE, Buffer.alloc(4), 2, 1, Uint8Array.of(5, 6));
    expect(decodeAttributes(answer, wanted, 'x')).toEqual(new Map([[2, Buffer.from([5])]]));
    expect(
      decodeSizes(
        pack(16, 2, 1, UNAVAILABLE, 2, 77),
        wanted.map(({ id }) => ({ id, room: 0 })),
        'x',
      ),
    ).toEqual([{ id: 2, room: 77 }]);
  });
  test('any answer at all is read or refused, never a crash, and never more than was asked for', () => {
    fc.assert(
      fc.property(
        asked,
        fc.uint8Array({ maxLength: 300 }),
        u32,
        fc.nat(300),
        (attributes, noise, number, at) => {
          const wanted = attributes.map(({ id, value }) => ({ id, room: value.length }));
          const changed = encodeTemplate(attributes.map(({ id, value }) => [id, value]));
          if (at + 4 <= changed.length) changed.writeUInt32LE(number, at);
          for (const answer of [noise, changed, changed.subarray(0, at)]) {
            for (const decode of [
              () => decodeAttributes(answer, wanted, 'x'),
              () => decodeSizes(answer, wanted, 'x'),
              () => decodeTokenInfo(answer, 'x'),
              () => decodeU32s(answer, 'x'),
            ]) {
              try {
                const found = decode();
                if (found instanceof Map) {
                  for (const [id, value] of found) {
                    const rooms = wanted.filter((one) => one.id === id).map(({ room }) => room);
                    expect(value.length).toBeLessThanOrEqual(Math.max(...rooms));
                  }
                }
              } catch (error) {
                expect(error).toMatchObject({ code: 'ERR_PKCS11_ANSWER' });
              }
            }
          }
        },
      ),
      { numRuns: 500 },
    );
  });
  test('a size beyond all reason is refused, before any memory is asked for', () => {
    expect(() => decodeSizes(pack(8, 1, 1, 0x7fffffff), [{ id: 1, room: 0 }], 'x')).toThrow(MALFORMED);
  });
});

test('part of a signature, or more than one, is none', () => {
  const signature = Buffer.alloc(64);
  expect(ofSize(signature, 64, 'x')).toBe(signature);
  for (const size of [0, 63, 65]) expect(() => ofSize(Buffer.alloc(size), 64, 'x')).toThrow(MALFORMED);
});

describe('errors', () => {
  test('have the names of PKCS #11', () => {
    expect(resultName(0xa4)).toBe('CKR_PIN_LOCKED');
    expect(resultName(0x80000001)).toBe('CKR_0x80000001');
    const error = new Pkcs11Error({ value: CKR.CKR_PIN_LOCKED, asked: 'the login' });
    expect(error).toMatchObject({ name: 'Pkcs11Error', code: 'CKR_PIN_LOCKED', value: 0xa4 });
    expect(error.message).toMatch(/^CKR_PIN_LOCKED for the login: .*setUserPin/);
  });
});

describe('PINs and identities', () => {
  test('no error shows a PIN', () => {
    const secrets = [
      'abc',
      'x'.repeat(129),
      'public',
      'user:nonsense',
      'group:1234',
      123456,
      null,
      ['123456'],
    ];
    for (const pin of secrets) {
      let thrown: unknown;
      try {
        readPin(pin, 'options.pin');
      } catch (error) {
        thrown = error;
      }
      expect(thrown).toMatchObject({ code: expect.stringMatching(/^ERR_INVALID_ARG_/) });
      const text = inspect(thrown);
      expect(text).toContain('options.pin');
      for (const part of ['abc', 'xxxx', 'nonsense', '1234']) expect(text).not.toContain(part);
    }
    expect(readPin('gerät', 'pin')).toEqual(Buffer.from('gerät'));
  });
  test("identities are the kernel's UUIDs, always well formed", () => {
    expect(clientUuid('uid', 0)).toBe('ef0180a3-13f3-5d1c-b7f5-888c0e21059a');
    expect(clientUuid('gid', 1000)).toBe('0ece43ed-001d-51bd-bab7-480c8954c3cf');
    expect(identityPin({ identity: 'user', uid: 0 }, 'x').toString()).toBe(
      'user:ef0180a3-13f3-5d1c-b7f5-888c0e21059a',
    );
    expect(String(readIdentity({ identity: 'group', gid: 3 }, 'x'))).toBe('Login.group(3)');
    for (const bad of [
      { identity: 'root' },
      { identity: 'group' },
      { identity: 'user', uid: -1 },
      undefined,
    ]) {
      expect(() => identityPin(bad as never, 'options.user')).toThrow(/options\.user/);
    }
  });
});

describe('mechanisms', () => {
  test('digests by the names of Node', () => {
    for (const name of ['sha256', 'SHA256', 'SHA-256', 'RSA-SHA256']) {
      expect(readDigest(name, 'algorithm').size).toBe(createHash('sha256').digest().length);
    }
    expect(() => readDigest('md4', 'algorithm')).toThrow(/algorithm must be one of/);
  });
  test('tags that make the TA panic are never sent', () => {
    const iv = new Uint8Array(12);
    for (const authTagLength of [0, 1, 4, 8, 11, 12.5, 17]) {
      expect(() => readCipher('aes-256-gcm', { iv, authTagLength }, 32)).toThrow(
        expect.objectContaining({
          code: 'ERR_OUT_OF_RANGE',
          message: expect.stringContaining('authTagLength'),
        }),
      );
    }
    expect(readCipher('aes-256-gcm', { iv }, 32).tag).toBe(16);
    for (const [name, options] of [
      ['aes-256-gcm', { iv: new Uint8Array(0) }],
      ['aes-256-gcm', { iv: new Uint8Array(257) }],
      ['aes-128-gcm', { iv }],
      ['aes-256-cbc', { iv }],
      ['aes-256-ecb', { iv }],
      ['aes-256-ctr', { iv: new Uint8Array(16), aad: iv }],
      ['aes-256-gcm', {}],
    ] as const) {
      expect(() => readCipher(name, options as never, 32)).toThrow(/^(algorithm|options\.)/);
    }
  });
  test('salts of PSS', () => {
    const sha256 = readDigest('sha256', 'x');
    const padding = constants.RSA_PKCS1_PSS_PADDING;
    const salt = (saltLength?: number, checks = false): number | undefined =>
      Buffer.from(
        rsaSignature({ padding, saltLength }, sha256, 256, checks).mechanism.parameters ?? [],
      ).readUInt32LE(8);
    expect(salt()).toBe(222);
    expect(salt(constants.RSA_PSS_SALTLEN_DIGEST)).toBe(32);
    expect(salt(5)).toBe(5);
    expect(() => salt(223)).toThrow(/saltLength/);
    expect(rsaSignature({ padding }, sha256, 256, true).autoSalt).toBe(true);
    expect(() => rsaSignature({ padding: 9 }, sha256, 256, false)).toThrow(/padding/);
    expect(() => oaep({ oaepHash: 'md5' })).toThrow(/oaepHash/);
  });
  test('padding', () => {
    fc.assert(
      fc.property(bytes, (data) => {
        expect(unpad(pad(Buffer.from(data)))).toEqual(Buffer.from(data));
      }),
    );
    for (const wrong of ['', '00'.repeat(16), `${'00'.repeat(14)}0302`, `${'00'.repeat(15)}11`]) {
      expect(unpad(Buffer.from(wrong, 'hex'))).toBeUndefined();
    }
  });
});

describe('DER', () => {
  test.each(['P-256', 'P-384', 'P-521'])('signatures of %s, to and fro', (namedCurve) => {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve });
    const size = { 'P-256': 32, 'P-384': 48, 'P-521': 66 }[namedCurve] as number;
    for (let i = 0; i < 50; i++) {
      const data = Buffer.from([i]);
      const der = sign('sha256', data, privateKey);
      const both = signatureFromDer(der, size) as Buffer;
      expect(signatureToDer(both)).toEqual(der);
      expect(verify('sha256', data, { key: publicKey, dsaEncoding: 'ieee-p1363' }, both)).toBe(true);
    }
  });
  test('anything else is refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (noise) => {
        signatureFromDer(Buffer.from(noise), 32);
        readElements(Buffer.from(noise));
        certificateNames(Buffer.from(noise));
      }),
    );
    expect(signatureFromDer(Buffer.alloc(0), 32)).toBeUndefined();
    expect(signatureFromDer(Buffer.from('3003020101', 'hex'), 32)).toBeUndefined();
  });
  test('the names of a certificate', () => {
    const names = certificateNames(new X509Certificate(CERTIFICATE).raw);
    expect(names?.subject.toString('latin1')).toContain('test subject');
    expect(names?.issuer.toString('latin1')).toContain('test subject');
    expect(names?.serialNumber.toString('hex')).toBe('02021234');
  });
});

test('ids, usages and imports name what is wrong', () => {
  expect(readId('00ff', 'id')).toEqual(Buffer.from([0, 255]));
  for (const bad of ['0', 'device', '', 5]) expect(() => readId(bad, 'options.id')).toThrow(/^options\.id/);
  expect(() => readUsages('sign', [], ['sign'])).toThrow(/options\.usages/);
  expect(() => readUsages(['wrap'], [], ['sign'])).toThrow(/options\.usages can have sign/);
  // One that says something else when it is read again.
  let reads = 0;
  const changing = Object.defineProperty([], 0, { get: () => (reads++ === 0 ? 'sign' : 'wrap') });
  expect(readUsages(changing, [], ['sign'])).toEqual(['sign']);
  expect(() =>
    importKey(
      createPublicKey(generateKeyPairSync('x25519').publicKey.export({ type: 'spki', format: 'pem' })),
      'key',
    ),
  ).toThrow(/^key must be an EC, Ed25519 or RSA key/);
  expect(() => importKey(generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).publicKey, 'key')).toThrow(
    /curve/,
  );
});
