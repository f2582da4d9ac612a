/** Wrong arguments, one at a time, of each function of the PKCS#11 client: its error names it, and nothing is sent. */
import { createSecretKey, generateKeyPairSync, KeyObject, X509Certificate } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Login } from '#lib/client/login';
import { Application } from '#lib/pkcs11/application';
import { DataObject } from '#lib/pkcs11/certificates';
import { Attribute, KeyType, ObjectClass, TokenFlag, User } from '#lib/pkcs11/constants';
import { PrivateKey, PublicKey } from '#lib/pkcs11/key-pairs';
import { Attributes, ObjectReference } from '#lib/pkcs11/objects';
import { Pkcs11 } from '#lib/pkcs11/pkcs11';
import { SecretKey } from '#lib/pkcs11/secret-keys';
import { u32s } from '#lib/pkcs11/serializer';
import { Token } from '#lib/pkcs11/token';
import { TokenLogin } from '#lib/pkcs11/token-login';
import { CERTIFICATE } from '../support/certificate.js';
import { FakeTa } from '../support/fake-pkcs11-ta.js';

// The declarations have nothing internal.
type Found = { reference: ObjectReference; attributes: Attributes };
type MakesObject<T> = new (found: Found, publicKey?: KeyObject) => T;
const makeToken = Token as unknown as { make(home: object, info: object): Token };
const makeLogin = TokenLogin as unknown as {
  make(app: Application, closed: (login: TokenLogin) => void): TokenLogin;
};

/** What an argument may be. */
interface Kind {
  readonly valid: unknown;
  accepts(value: unknown): boolean;
}
const one = (...values: readonly unknown[]): Kind => ({
  valid: values[0],
  accepts: (value) => values.includes(value),
});
const optional = (kind: Kind): Kind => ({
  valid: kind.valid,
  accepts: (value) => value === undefined || kind.accepts(value),
});
const isBytes = (value: unknown): boolean => ArrayBuffer.isView(value) || value instanceof ArrayBuffer;
const bytes = (size: number): Kind => ({ valid: Buffer.alloc(size, 1), accepts: isBytes });
/** Bytes of which only some sizes will do. */
const sized = (...sizes: readonly number[]): Kind => ({
  valid: Buffer.alloc(sizes[0] ?? 0, 1),
  accepts: (value) => isBytes(value) && sizes.includes((value as ArrayBuffer).byteLength),
});
const number = (valid: number, min: number, max: number): Kind => ({
  valid,
  accepts: (value) => Number.isInteger(value) && (value as number) >= min && (value as number) <= max,
});
const text: Kind = { valid: 'label', accepts: (value) => typeof value === 'string' };
const boolean = optional(one(true, false));
const signal = optional({
  valid: new AbortController().signal,
  accepts: (value) => value instanceof AbortSignal,
});
const id = optional({
  valid: 'a1',
  accepts: (value) =>
    value instanceof Uint8Array || (typeof value === 'string' && /^([0-9a-f]{2})+$/i.test(value)),
});
const pin: Kind = {
  valid: 'user-1234',
  accepts: (value) =>
    (typeof value === 'string' || value instanceof Uint8Array) &&
    Buffer.from(value as string).length >= 4 &&
    Buffer.from(value as string).length <= 128 &&
    !/^(public$|user:|group:)/.test(Buffer.from(value as string).toString('latin1')),
};
const usages = (...allowed: readonly string[]): Kind =>
  optional({
    valid: allowed,
    accepts: (value) => Array.isArray(value) && value.every((usage) => allowed.includes(usage as string)),
  });
const options = (needed: boolean): Kind => ({
  valid: undefined,
  accepts: (value) =>
    (value === undefined && !needed) ||
    (typeof value === 'object' && value !== null && !Array.isArray(value) && Object.keys(value).length === 0),
});
const never = (valid: unknown): Kind => ({ valid, accepts: (value) => value === valid });

const NEW = { 'options.id': id, 'options.label': optional(text), 'options.token': boolean };
const OBJECT = { options: options(false), ...NEW, 'options.signal': signal };
const KEY = { ...OBJECT, 'options.extractable': boolean, 'options.sensitive': boolean };
const SIGNAL = { options: options(false), 'options.signal': signal };
const QUERY = { query: options(true), 'query.id': id, 'query.label': optional(text), 'query.signal': signal };
const OAEP = {
  'options.oaepHash': optional(one('sha256')),
  'options.oaepLabel': optional(bytes(4)),
};
const GCM = {
  options: options(true),
  'options.iv': bytes(12),
  'options.aad': optional(bytes(4)),
  'options.signal': signal,
};
const CBC = { options: options(true), 'options.iv': bytes(16) };
const digest = one('sha256', 'sha1', undefined);
const aesUsages = usages('encrypt', 'decrypt', 'wrap', 'unwrap');
const rsaUsages = usages('sign', 'decrypt', 'unwrap');

const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const rsaJwk = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey;
const isKey =
  (type: string) =>
  (value: unknown): boolean =>
    value instanceof KeyObject && value.type === type;
const publicKey: Kind = { valid: ec.publicKey, accepts: isKey('public') };

const ta = new FakeTa();
let app: Application;
let login: TokenLogin;
let token: Token;
let pkcs11: Pkcs11;
let keys: Record<'ecPrivate' | 'rsaPrivate', PrivateKey> &
  Record<'ecPublic' | 'rsaPublic', PublicKey> &
  Record<'aes' | 'hmac', SecretKey> & { data: DataObject };
let asked = 0;

beforeAll(async () => {
  const who = { tee: ta.tee, slot: 0, login: Login.public, user: User.USER, pin: Buffer.from('user-1234') };
  app = await Application.open(who);
  login = makeLogin.make(app, () => undefined);
  pkcs11 = await Pkcs11.open({ context: ta.tee });
  const ask = (): Promise<never> => {
    asked++;
    return Promise.reject(new Error('something was sent'));
  };
  const info = (): Promise<unknown> => {
    asked++;
    return Promise.resolve({ flags: TokenFlag.TOKEN_INITIALIZED });
  };
  token = makeToken.make({ tee: ta.tee, info, ask, login: ask }, { slot: 0, serialNumber: '' });
  const make = <T>(type: unknown, objectClass: ObjectClass, entries: readonly [number, Uint8Array][]): T => {
    const attributes = new Attributes(new Map(entries.map(([name, value]) => [name, Buffer.from(value)])));
    const reference = new ObjectReference(app, objectClass, 1, 0, attributes);
    return new (type as MakesObject<T>)({ reference, attributes }, ec.publicKey);
  };
  const { PRIVATE_KEY, PUBLIC_KEY, SECRET_KEY, DATA } = ObjectClass;
  const p256: [number, Uint8Array][] = [
    [Attribute.KEY_TYPE, u32s(KeyType.EC)],
    [Attribute.EC_PARAMS, Buffer.from('06082a8648ce3d030107', 'hex')],
  ];
  const rsa: [number, Uint8Array][] = [
    [Attribute.KEY_TYPE, u32s(KeyType.RSA)],
    [Attribute.MODULUS, Buffer.from(rsaJwk.export({ format: 'jwk' }).n as string, 'base64url')],
  ];
  const secret = (type: number): [number, Uint8Array][] => [
    [Attribute.KEY_TYPE, u32s(type)],
    [Attribute.VALUE_LEN, u32s(32)],
  ];
  keys = {
    ecPrivate: make(PrivateKey, PRIVATE_KEY, p256),
    rsaPrivate: make(PrivateKey, PRIVATE_KEY, rsa),
    ecPublic: make(PublicKey, PUBLIC_KEY, p256),
    rsaPublic: make(PublicKey, PUBLIC_KEY, rsa),
    aes: make(SecretKey, SECRET_KEY, secret(KeyType.AES)),
    hmac: make(SecretKey, SECRET_KEY, secret(KeyType.GENERIC_SECRET)),
    data: make(DataObject, DATA, []),
  };
});
afterAll(async () => {
  await pkcs11.close();
  await app.close();
});

/** The arguments of a call by name; those of an object are in it. */
type Given = Record<string, never>;

const ALL: [name: string, args: Record<string, Kind>, call: (given: Given) => unknown][] = [
  ['Pkcs11.open', { ...SIGNAL, 'options.context': never(undefined) }, (a) => Pkcs11.open(a.options)],
  [
    'token, by slot',
    { query: never(undefined), 'query.slot': number(0, 0, 2 ** 32 - 1) },
    (a) => pkcs11.token(a.query),
  ],
  ['token, by label', { 'query.label': text }, (a) => pkcs11.token(a.query)],
  [
    'initialize',
    {
      'options.label': { ...text, accepts: (value) => typeof value === 'string' && value.length <= 8 },
      'options.soPin': optional(pin),
      'options.signal': signal,
    },
    (a) => token.initialize(a.options),
  ],
  [
    'setUserPin',
    { options: never(undefined), 'options.soPin': pin, 'options.pin': pin, 'options.signal': signal },
    (a) => token.setUserPin(a.options),
  ],
  [
    'setUserIdentity',
    {
      options: never(undefined),
      'options.so': never({ identity: 'user' }),
      'options.user': never({ identity: 'group', gid: 0 }),
    },
    (a) => token.setUserIdentity(a.options),
  ],
  ['changePin', { 'options.pin': pin, 'options.newPin': pin }, (a) => token.changePin(a.options)],
  ['changeSoPin', { 'options.soPin': pin, 'options.newPin': pin }, (a) => token.changeSoPin(a.options)],
  ['login', { options: never(undefined), 'options.pin': optional(pin) }, (a) => token.login(a.options)],
  [
    'login, by identity',
    { 'options.identity': optional(one('group')), 'options.gid': number(0, 0, 2 ** 32 - 1) },
    (a) => token.login(a.options),
  ],
  ['open', SIGNAL, (a) => token.open(a.options)],
  [
    'generateKeyPair, EC',
    {
      type: one('ec'),
      ...KEY,
      'options.namedCurve': one('P-256'),
      'options.usages': usages('sign', 'derive'),
    },
    (a) => login.generateKeyPair(a.type, a.options),
  ],
  [
    'generateKeyPair, RSA',
    {
      type: one('rsa'),
      ...KEY,
      'options.modulusLength': number(2048, 2048, 4096),
      'options.publicExponent': optional(number(65537, 65537, 2 ** 32 - 1)),
      'options.usages': rsaUsages,
    },
    (a) => login.generateKeyPair(a.type, a.options),
  ],
  [
    'generateKey',
    {
      type: one('aes'),
      ...KEY,
      options: options(true),
      'options.length': one(128),
      'options.usages': aesUsages,
    },
    (a) => login.generateKey(a.type, a.options),
  ],
  [
    'importPublicKey',
    { key: publicKey, ...OBJECT, 'options.usages': usages('verify') },
    (a) => login.importPublicKey(a.key, a.options),
  ],
  [
    'importPrivateKey',
    { key: { valid: ec.privateKey, accepts: isKey('private') }, ...KEY },
    (a) => login.importPrivateKey(a.key, a.options),
  ],
  [
    'importSecretKey',
    {
      key: {
        valid: createSecretKey(Buffer.alloc(16)),
        accepts: (value) => isBytes(value) && [16, 24, 32].includes((value as ArrayBuffer).byteLength),
      },
      ...KEY,
      options: options(true),
      'options.type': one('aes'),
    },
    (a) => login.importSecretKey(a.key, a.options),
  ],
  [
    'importCertificate',
    { certificate: never(new X509Certificate(CERTIFICATE)), ...OBJECT },
    (a) => login.importCertificate(a.certificate, a.options),
  ],
  [
    'importData',
    {
      data: bytes(8),
      options: options(false),
      'options.label': optional(text),
      'options.token': boolean,
      'options.application': optional(text),
      'options.private': boolean,
    },
    (a) => login.importData(a.data, a.options),
  ],
  ...(['privateKey', 'publicKey', 'secretKey', 'certificate', 'privateKeys', 'objects'] as const).map(
    (name): (typeof ALL)[number] => [
      name,
      name.endsWith('s') ? { ...QUERY, query: options(false) } : QUERY,
      (a) => login[name](a.query),
    ],
  ),
  [
    'destroy',
    { object: never(undefined), ...SIGNAL },
    (a) => login.destroy(a.object === undefined ? keys.data : a.object, a.options),
  ],
  [
    'digest',
    { algorithm: one('sha256'), data: bytes(8), ...SIGNAL },
    (a) => login.digest(a.algorithm, a.data, a.options),
  ],
  ['randomBytes', { size: number(1, 0, 1 << 20), ...SIGNAL }, (a) => login.randomBytes(a.size, a.options)],
  [
    'sign, EC',
    {
      algorithm: { ...digest, accepts: (value) => value === null || digest.accepts(value) },
      data: bytes(8),
      ...SIGNAL,
      'options.dsaEncoding': optional(one('der', 'ieee-p1363')),
    },
    (a) => keys.ecPrivate.sign(a.algorithm, a.data, a.options),
  ],
  [
    'sign, RSA',
    {
      data: bytes(8),
      'options.padding': optional(one(6, 1)),
      'options.saltLength': optional(number(0, -2, 222)),
    },
    (a) => keys.rsaPrivate.sign('sha256', a.data, a.options),
  ],
  [
    'verify, EC',
    { data: bytes(8), signature: bytes(64), ...SIGNAL },
    (a) => keys.ecPublic.verify('sha256', a.data, a.signature, a.options),
  ],
  ['diffieHellman', { publicKey, ...SIGNAL }, (a) => keys.ecPrivate.diffieHellman(a.publicKey, a.options)],
  [
    'deriveKey',
    {
      publicKey,
      ...KEY,
      options: options(true),
      'options.type': one('aes'),
      'options.length': one(128),
      'options.usages': aesUsages,
    },
    (a) => keys.ecPrivate.deriveKey(a.publicKey, a.options),
  ],
  [
    'privateDecrypt',
    { data: sized(256), ...SIGNAL, ...OAEP },
    (a) => keys.rsaPrivate.privateDecrypt(a.data, a.options),
  ],
  [
    'publicEncrypt',
    { data: bytes(8), ...SIGNAL, ...OAEP },
    (a) => keys.rsaPublic.publicEncrypt(a.data, a.options),
  ],
  [
    'wrapKey, RSA',
    { key: never(undefined), ...SIGNAL, ...OAEP },
    (a) => keys.rsaPublic.wrapKey(a.key === undefined ? keys.aes : a.key, a.options),
  ],
  [
    'unwrapKey, RSA',
    {
      wrapped: bytes(64),
      ...KEY,
      ...OAEP,
      options: options(true),
      'options.type': one('rsa'),
      'options.usages': rsaUsages,
    },
    (a) => keys.rsaPrivate.unwrapKey(a.wrapped, a.options),
  ],
  [
    'sign, HMAC',
    { algorithm: one('sha256'), data: bytes(8), ...SIGNAL },
    (a) => keys.hmac.sign(a.algorithm, a.data, a.options),
  ],
  [
    'verify, HMAC',
    { algorithm: one('sha256'), data: bytes(8), signature: bytes(32), ...SIGNAL },
    (a) => keys.hmac.verify(a.algorithm, a.data, a.signature, a.options),
  ],
  [
    'encrypt',
    {
      algorithm: one('aes-256-gcm'),
      data: bytes(8),
      ...GCM,
      'options.authTagLength': optional(number(12, 12, 16)),
    },
    (a) => keys.aes.encrypt(a.algorithm, a.data, a.options),
  ],
  [
    'encrypt, CBC',
    { data: bytes(8), ...CBC, 'options.autoPadding': boolean },
    (a) => keys.aes.encrypt('aes-256-cbc', a.data, a.options),
  ],
  [
    'decrypt',
    {
      algorithm: one('aes-256-gcm'),
      data: bytes(8),
      ...GCM,
      'options.authTag': sized(16, 15, 14, 13, 12),
    },
    (a) => keys.aes.decrypt(a.algorithm, a.data, a.options),
  ],
  [
    'wrapKey, AES',
    { key: never(undefined), algorithm: one('aes-256-cbc'), ...CBC },
    (a) => keys.aes.wrapKey(a.key === undefined ? keys.hmac : a.key, a.algorithm, a.options),
  ],
  [
    'unwrapKey, AES',
    {
      wrapped: bytes(32),
      algorithm: one('aes-256-cbc'),
      ...KEY,
      ...CBC,
      'options.type': one('hmac'),
      'options.length': { ...number(256, 8, 4096), accepts: (value) => typeof value === 'number' },
    },
    (a) => keys.aes.unwrapKey(a.wrapped, a.algorithm, a.options),
  ],
  ['export', SIGNAL, (a) => keys.aes.export(a.options)],
  ['read', SIGNAL, (a) => keys.data.read(a.options)],
];

/** The arguments as a call has them, with one of them changed. */
function given(args: Record<string, Kind>, changed: string, value: unknown): Given {
  const found: Record<string, unknown> = {};
  for (const [name, kind] of Object.entries(args)) {
    const its = name === changed ? value : kind.valid;
    const [object = '', property] = name.split('.');
    if (property === undefined) found[object] = its;
    else if (object !== changed) {
      const into = (found[object] ??= {}) as Record<string, unknown>;
      into[property] = its;
    }
  }
  return found as Given;
}

const anything = fc.anything({
  withBigInt: true,
  withBoxedValues: true,
  withDate: true,
  withMap: true,
  withNullPrototype: true,
  withSparseArray: true,
  withTypedArray: true,
});

/** What is given by mistake. */
const USUAL = [undefined, null, '', 'x', 0, -1, 1.5, NaN, 2 ** 32, true, {}, { x: 1 }, [], () => undefined];

test.each(ALL)('%s', async (_, args, call) => {
  for (const [name, kind] of Object.entries(args)) {
    const wrong = anything.filter((value) => !kind.accepts(value));
    await fc.assert(
      fc.asyncProperty(wrong, async (value) => {
        const before = [ta.asked.length, ta.opened, asked];
        const error = await Promise.resolve(call(given(args, name, value))).then(
          () => new Error('it resolved'),
          (thrown: Error) => thrown,
        );
        expect({ code: (error as { code?: string }).code, message: error.message }).toEqual({
          code: expect.stringMatching(/^ERR_(INVALID_ARG_TYPE|INVALID_ARG_VALUE|OUT_OF_RANGE)$/),
          message: expect.stringContaining(name),
        });
        expect([ta.asked.length, ta.opened, asked]).toEqual(before);
      }),
      {
        numRuns: 25,
        examples: USUAL.filter((value) => !kind.accepts(value)).map((value): [unknown] => [value]),
      },
    );
  }
});
