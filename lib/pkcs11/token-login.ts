import { createPrivateKey, createPublicKey, createSecretKey, KeyObject } from 'node:crypto';
import type { X509Certificate } from 'node:crypto';
import { debuglog } from 'node:util';
import { invalidArgType, invalidArgValue } from '../client/errors.js';
import { checkInteger, checkKnown } from '../client/validate.js';
import type { Application, Turn } from './application.js';
import {
  Certificate,
  certificateAt,
  DataObject,
  dataObjectAt,
  newCertificate,
  newData,
  type NewDataOptions,
} from './certificates.js';
import { Attribute, Command, KeyType, Mechanism, ObjectClass } from './constants.js';
import { notFound } from './errors.js';
import { PrivateKey, privateKeyAt, PublicKey, publicKeyAt } from './key-pairs.js';
import { readBytes, readDigest } from './mechanisms.js';
import { MAX_SECRET, newPair, newPublicKey, newSecretKey } from './new-keys.js';
import {
  NEW_KEY_OPTIONS,
  NEW_OBJECT_OPTIONS,
  type KeyUsage,
  type NewKeyOptions,
  type NewObjectOptions,
} from './new-objects.js';
import {
  checkNeeded,
  CLASS_NAMES,
  describeQuery,
  find,
  make,
  queryTemplate,
  readQuery,
  readSignal,
  TokenObject,
  type ObjectQuery,
  type OperationOptions,
} from './objects.js';
import { digest, random, readData, type Data } from './operations.js';
import { ED25519, importKey, readCurve } from './public-keys.js';
import { SecretKey, secretKeyAt } from './secret-keys.js';
import { decodeHandles, encodeMechanism, encodeTemplate, pack, u32s, type Template } from './serializer.js';

const debug = debuglog('node-optee');

/** How a key pair is made. */
export interface KeyPairOptions extends NewKeyOptions {
  /** Of 'ec': 'P-256', 'P-384' or 'P-521', or OpenSSL's name of it. */
  namedCurve?: string | undefined;
  /** Of 'rsa': bits, 2048 to 4096. */
  modulusLength?: number | undefined;
  /** Of 'rsa': 65537 unless told otherwise. */
  publicExponent?: number | undefined;
}

/** The two sides of a key pair on a token. */
export interface KeyPair {
  privateKey: PrivateKey;
  publicKey: PublicKey;
}

/** How a secret key is made. */
export interface SecretKeyOptions extends NewKeyOptions {
  /** In bits: of AES 128, 192 or 256; of HMAC up to 4096. */
  length: number;
}

/** How a secret key is imported. */
export interface ImportSecretKeyOptions extends NewKeyOptions {
  /** What it is for. */
  type: 'aes' | 'hmac';
}

/**
 * A token that is open, by a user who is logged in, or by nobody. It has a TEE session of its own. Several of them, on one
 * token or on many, do not know of each other. Made by `Token.login` and `Token.open`.
 *
 * Operations run in the order in which they were made, as far as each waits for nothing else; as many as are asked for can
 * wait.
 */
export class TokenLogin {
  readonly #app: Application;
  readonly #closed: (login: TokenLogin) => void;
  #closing: Promise<void> | undefined;

  private constructor(app: Application, closed: (login: TokenLogin) => void) {
    this.#app = app;
    this.#closed = closed;
  }

  /** @internal */
  static make(app: Application, closed: (login: TokenLogin) => void): TokenLogin {
    return new TokenLogin(app, closed);
  }

  /** Was it closed? */
  get closed(): boolean {
    return this.#app.closed;
  }

  /**
   * Makes a key pair in the TEE.
   * @param type 'ec', 'ed25519' or 'rsa'
   * @throws (rejects with) Pkcs11Error, TeeError, AbortError; TypeError or RangeError for a bad argument
   */
  async generateKeyPair(type: 'ec' | 'ed25519' | 'rsa', options: KeyPairOptions = {}): Promise<KeyPair> {
    checkKnown(options, 'options', [...NEW_KEY_OPTIONS, 'namedCurve', 'modulusLength', 'publicExponent']);
    const [mechanism, keyType, parameters] = pairParameters(type, options);
    const ofType: Template = [[Attribute.KEY_TYPE, keyType]];
    const { templates, token, signal } = newPair(type, options, [...ofType, ...parameters], ofType);
    const asked = `the generation of a key pair (${type})`;
    this.#app.needUser(asked);
    return this.#app.operate(
      async (turn) => {
        const encoded = templates.map(encodeTemplate);
        const control = pack(turn.handle, encodeMechanism({ id: mechanism }), ...encoded);
        const answer = await turn.effect({ command: Command.GENERATE_KEY_PAIR, control, room: 8, asked });
        return this.#pairAt(turn, decodeHandles(answer, 2, asked) as [number, number], asked);
      },
      { asked, signal, home: !token },
    );
  }

  /**
   * Makes a secret key in the TEE.
   * @param type 'aes', or 'hmac' for a generic secret
   * @throws (rejects with) Pkcs11Error, …
   */
  async generateKey(type: 'aes' | 'hmac', options: SecretKeyOptions): Promise<SecretKey> {
    checkNeeded(options, 'options', [...NEW_KEY_OPTIONS, 'length']);
    if (type !== 'aes' && type !== 'hmac') throw invalidArgValue('type', type, "must be 'aes' or 'hmac'");
    const { template, token, signal } = newSecretKey({ ...options, type });
    const id = type === 'aes' ? Mechanism.AES_KEY_GEN : Mechanism.GENERIC_SECRET_KEY_GEN;
    const asked = `the generation of a key (${type})`;
    this.#app.needUser(asked);
    return this.#app.operate(
      async (turn) => {
        const control = pack(turn.handle, encodeMechanism({ id }), encodeTemplate(template));
        const handle = await make(turn, { command: Command.GENERATE_KEY, control, asked });
        return secretKeyAt(this.#app, turn, handle, asked);
      },
      { asked, signal, home: !token },
    );
  }

  /**
   * Brings a public key onto the token.
   * @param key a KeyObject, or a PEM
   * @throws (rejects with) Pkcs11Error, …
   */
  async importPublicKey(
    key: KeyObject | string,
    options: NewObjectOptions & { usages?: readonly KeyUsage[] | undefined } = {},
  ): Promise<PublicKey> {
    checkKnown(options, 'options', [...NEW_OBJECT_OPTIONS, 'usages']);
    const { type, publicAttributes } = importKey(readKey(key, 'public'), 'key');
    const { template, token, signal } = newPublicKey(type, options, publicAttributes);
    const asked = 'the import of a public key';
    return this.#app.operate(
      async (turn) => publicKeyAt(this.#app, turn, await create(turn, template, asked), asked),
      { asked, signal, home: !token },
    );
  }

  /**
   * Brings a private key, and its public key, onto the token. Whoever had the key before has it still: make keys on the
   * token instead where you can.
   * @param key a private KeyObject, or a PEM that is not encrypted
   * @throws (rejects with) Pkcs11Error, …
   */
  async importPrivateKey(key: KeyObject | string, options: NewKeyOptions = {}): Promise<KeyPair> {
    checkKnown(options, 'options', NEW_KEY_OPTIONS);
    const { type, publicAttributes, privateAttributes } = importKey(readKey(key, 'private'), 'key');
    const { templates, token, signal } = newPair(type, options, publicAttributes, privateAttributes);
    const [publicTemplate, privateTemplate] = templates;
    const asked = 'the import of a private key';
    return this.#app.operate(
      async (turn) => {
        const publicHandle = await create(turn, publicTemplate, asked);
        let privateHandle;
        try {
          privateHandle = await create(turn, privateTemplate, asked, true);
        } catch (error) {
          const control = u32s(turn.handle, publicHandle);
          await turn.ask({ command: Command.DESTROY_OBJECT, control, asked }).catch(() => undefined);
          throw error;
        }
        return this.#pairAt(turn, [publicHandle, privateHandle], asked);
      },
      { asked, signal, home: !token },
    );
  }

  /**
   * Brings a secret key onto the token.
   * @param key a secret KeyObject, or its bytes
   * @throws (rejects with) Pkcs11Error, …
   */
  async importSecretKey(key: KeyObject | Uint8Array, options: ImportSecretKeyOptions): Promise<SecretKey> {
    checkNeeded(options, 'options', [...NEW_KEY_OPTIONS, 'type']);
    const secret = readSecret(key);
    const { template, token, signal } = newSecretKey(options, MAX_SECRET, false);
    if (options.type === 'aes' && ![16, 24, 32].includes(secret.length)) {
      throw invalidArgValue('key', undefined, `must have 16, 24 or 32 bytes for AES, not ${secret.length}`);
    }
    const asked = 'the import of a secret key';
    return this.#app.operate(
      async (turn) => {
        const all: Template = [...template, [Attribute.VALUE, secret]];
        return secretKeyAt(this.#app, turn, await create(turn, all, asked, true), asked);
      },
      { asked, signal, home: !token },
    );
  }

  /**
   * Brings a certificate onto the token.
   * @param certificate in DER or PEM, or an X509Certificate
   * @param options with the `id` of its key
   * @throws (rejects with) Pkcs11Error, …
   */
  async importCertificate(
    certificate: Uint8Array | string | X509Certificate,
    options: NewObjectOptions = {},
  ): Promise<Certificate> {
    const { template, token, signal } = newCertificate(certificate, options);
    const asked = 'the import of a certificate';
    return this.#app.operate(
      async (turn) => certificateAt(this.#app, turn, await create(turn, template, asked), asked),
      { asked, signal, home: !token },
    );
  }

  /**
   * Keeps data on the token, at most 4 KiB or so.
   * @throws (rejects with) Pkcs11Error, …
   */
  async importData(data: Uint8Array, options: NewDataOptions = {}): Promise<DataObject> {
    const { template, token, signal } = newData(data, options);
    const asked = 'the import of data';
    return this.#app.operate(
      async (turn) => dataObjectAt(this.#app, turn, await create(turn, template, asked, true), asked),
      { asked, signal, home: !token },
    );
  }

  /**
   * The private key with an id or a label, or both.
   * @throws (rejects with) ERR_PKCS11_NOT_FOUND; ERR_PKCS11_AMBIGUOUS if there are several; Pkcs11Error, …
   */
  async privateKey(query: ObjectQuery): Promise<PrivateKey> {
    return this.#one(ObjectClass.PRIVATE_KEY, query, privateKeyAt);
  }

  /** The public key with an id or a label. @throws (rejects with) as `privateKey` */
  async publicKey(query: ObjectQuery): Promise<PublicKey> {
    return this.#one(ObjectClass.PUBLIC_KEY, query, publicKeyAt);
  }

  /** The secret key with an id or a label. @throws (rejects with) as `privateKey` */
  async secretKey(query: ObjectQuery): Promise<SecretKey> {
    return this.#one(ObjectClass.SECRET_KEY, query, secretKeyAt);
  }

  /** The certificate with an id or a label. @throws (rejects with) as `privateKey` */
  async certificate(query: ObjectQuery): Promise<Certificate> {
    return this.#one(ObjectClass.CERTIFICATE, query, certificateAt);
  }

  /** The data object with a label. @throws (rejects with) as `privateKey` */
  async data(query: Omit<ObjectQuery, 'id'>): Promise<DataObject> {
    return this.#one(ObjectClass.DATA, query, dataObjectAt);
  }

  /** All private keys, or those with an id or a label. @throws (rejects with) Pkcs11Error, … */
  async privateKeys(query: ObjectQuery = {}): Promise<PrivateKey[]> {
    return this.#all(ObjectClass.PRIVATE_KEY, query, privateKeyAt);
  }

  /** All public keys, or those with an id or a label. @throws (rejects with) Pkcs11Error, … */
  async publicKeys(query: ObjectQuery = {}): Promise<PublicKey[]> {
    return this.#all(ObjectClass.PUBLIC_KEY, query, publicKeyAt);
  }

  /** All secret keys, or those with an id or a label. @throws (rejects with) Pkcs11Error, … */
  async secretKeys(query: ObjectQuery = {}): Promise<SecretKey[]> {
    return this.#all(ObjectClass.SECRET_KEY, query, secretKeyAt);
  }

  /** All certificates, or those with an id or a label. @throws (rejects with) Pkcs11Error, … */
  async certificates(query: ObjectQuery = {}): Promise<Certificate[]> {
    return this.#all(ObjectClass.CERTIFICATE, query, certificateAt);
  }

  /** All data objects, or those with a label. @throws (rejects with) Pkcs11Error, … */
  async dataObjects(query: Omit<ObjectQuery, 'id'> = {}): Promise<DataObject[]> {
    return this.#all(ObjectClass.DATA, query, dataObjectAt);
  }

  /** All objects, or those with an id or a label. @throws (rejects with) Pkcs11Error, … */
  async objects(query: ObjectQuery = {}): Promise<TokenObject[]> {
    const read = readQuery(query, false);
    return (
      await Promise.all([
        this.privateKeys(read),
        this.publicKeys(read),
        this.secretKeys(read),
        this.certificates(read),
        read.id === undefined ? this.dataObjects(read) : [],
      ])
    ).flat();
  }

  /**
   * Removes an object from the token, for good.
   * @throws (rejects with) Pkcs11Error
   */
  async destroy(object: TokenObject, options: OperationOptions = {}): Promise<void> {
    if (!(object instanceof TokenObject)) throw invalidArgType('object', 'an object of a token', object);
    await object.destroy(options);
  }

  /**
   * A digest that the TA computes, of data or of a stream of it. (node:crypto is faster.)
   * @param algorithm 'sha1', 'sha224', 'sha256', 'sha384' or 'sha512'
   * @param data bytes, or a stream or other async iterable of them
   * @throws (rejects with) Pkcs11Error, …; what the stream throws
   */
  async digest(algorithm: string, data: Data, options: OperationOptions = {}): Promise<Buffer> {
    checkKnown(options, 'options', ['signal']);
    const { mechanism, size } = readDigest(algorithm, 'algorithm');
    const signal = readSignal(options);
    const asked = `the ${algorithm} of data`;
    const bytes = readData(data, 'data');
    return this.#app.operate(
      async (turn) => digest({ turn, key: 0, mechanism: { id: mechanism }, asked, signal }, bytes, size),
      { asked, signal, own: !Buffer.isBuffer(bytes) },
    );
  }

  /**
   * Random bytes of the TEE.
   * @param size 0 to 1 MiB
   * @throws (rejects with) Pkcs11Error, …
   */
  async randomBytes(size: number, options: OperationOptions = {}): Promise<Buffer> {
    checkKnown(options, 'options', ['signal']);
    checkInteger(size, 'size', 0, 1 << 20);
    const signal = readSignal(options);
    const asked = `${size} random bytes`;
    return this.#app.operate((turn) => random({ turn, asked, signal }, size), { asked, signal });
  }

  async #pairAt(turn: Turn, handles: readonly [number, number], asked: string): Promise<KeyPair> {
    const [publicHandle, privateHandle] = handles;
    return {
      privateKey: await privateKeyAt(this.#app, turn, privateHandle, asked),
      publicKey: await publicKeyAt(this.#app, turn, publicHandle, asked),
    };
  }

  async #one<T>(objectClass: ObjectClass, query: ObjectQuery, at: At<T>): Promise<T> {
    const read = readQuery(query, true);
    const what = describeQuery(CLASS_NAMES[objectClass], read);
    const asked = `the ${what}`;
    return this.#app.operate(
      async (turn) => {
        const found = await find(turn, queryTemplate(objectClass, read), asked);
        if (found.length !== 1) throw notFound(what, found.length);
        return at(this.#app, turn, found[0] as number, asked);
      },
      { asked, signal: read.signal },
    );
  }

  async #all<T>(objectClass: ObjectClass, query: ObjectQuery, at: At<T>): Promise<T[]> {
    const read = readQuery(query, false);
    const asked = `all objects like ${describeQuery(CLASS_NAMES[objectClass], read)}`;
    return this.#app.operate(
      async (turn) => {
        const all: T[] = [];
        for (const handle of await find(turn, queryTemplate(objectClass, read), asked)) {
          all.push(await at(this.#app, turn, handle, asked));
        }
        return all;
      },
      { asked, signal: read.signal },
    );
  }

  /**
   * Logs out. Operations that have not begun are refused; those under way run to their end. Session objects are gone.
   * @returns resolves when the TEE has closed it; the same promise each time
   */
  close(): Promise<void> {
    this.#closing ??= this.#app.close().finally(() => this.#closed(this));
    return this.#closing;
  }

  /** Starts to close it and does not wait. */
  [Symbol.dispose](): void {
    this.close().catch((error: unknown) => debug('close of a login: %s', error));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

type At<T> = (app: Application, turn: Turn, handle: number, asked: string) => Promise<T>;

/** Makes an object of attributes. @returns its handle */
function create(turn: Turn, template: Template, asked: string, secret = false): Promise<number> {
  const control = pack(turn.handle, encodeTemplate(template));
  return make(turn, { command: Command.CREATE_OBJECT, control, asked, secret });
}

function pairParameters(
  type: unknown,
  options: KeyPairOptions,
): [mechanism: number, keyType: number, Template] {
  const { namedCurve, modulusLength, publicExponent = 65537 } = options;
  if (type !== 'ec' && type !== 'ed25519' && type !== 'rsa') {
    throw invalidArgValue('type', type, "must be 'ec', 'ed25519' or 'rsa'");
  }
  for (const [name, value, kind] of [
    ['namedCurve', namedCurve, 'ec'],
    ['modulusLength', modulusLength, 'rsa'],
    ['publicExponent', options.publicExponent, 'rsa'],
  ] as const) {
    if (value !== undefined && type !== kind) {
      throw invalidArgValue(`options.${name}`, undefined, `is for '${kind}' only`);
    }
  }
  switch (type) {
    case 'ec': {
      const { parameters } = readCurve(namedCurve, 'options.namedCurve');
      return [Mechanism.EC_KEY_PAIR_GEN, KeyType.EC, [[Attribute.EC_PARAMS, parameters]]];
    }
    case 'ed25519': {
      const { parameters } = ED25519;
      return [Mechanism.EC_EDWARDS_KEY_PAIR_GEN, KeyType.EC_EDWARDS, [[Attribute.EC_PARAMS, parameters]]];
    }
    case 'rsa': {
      const bits = checkInteger(modulusLength, 'options.modulusLength', 2048, 4096);
      const exponent = checkInteger(publicExponent, 'options.publicExponent', 65537, 0xffffffff);
      if (bits % 8 !== 0)
        throw invalidArgValue('options.modulusLength', undefined, 'must be a whole number of bytes');
      if (exponent % 2 === 0) throw invalidArgValue('options.publicExponent', undefined, 'must be odd');
      const digits = exponent.toString(16);
      return [
        Mechanism.RSA_PKCS_KEY_PAIR_GEN,
        KeyType.RSA,
        [
          [Attribute.MODULUS_BITS, bits],
          [
            Attribute.PUBLIC_EXPONENT,
            Buffer.from(digits.padStart(digits.length + (digits.length % 2), '0'), 'hex'),
          ],
        ],
      ];
    }
  }
}

/** A KeyObject of what a caller has. No error shows a private key. */
function readKey(key: unknown, type: 'public' | 'private'): KeyObject {
  if (key instanceof KeyObject) {
    if (key.type === type) return key;
    throw invalidArgValue('key', undefined, `must be a ${type} key, not a ${key.type} one`);
  }
  if (typeof key !== 'string') throw invalidArgType('key', 'a KeyObject or a PEM', key, true);
  try {
    return type === 'public' ? createPublicKey(key) : createPrivateKey(key);
  } catch (error) {
    throw invalidArgValue('key', undefined, `is no ${type} key in PEM: ${(error as Error).message}`);
  }
}

function readSecret(key: unknown): Buffer {
  const secret = key instanceof KeyObject ? key : createSecretKey(readBytes(key, 'key'));
  if (secret.type !== 'secret')
    throw invalidArgValue('key', undefined, `must be a secret key, not a ${secret.type} one`);
  const bytes = secret.export();
  if (bytes.length < 1 || bytes.length > MAX_SECRET) {
    throw invalidArgValue('key', undefined, `must have 1 to ${MAX_SECRET} bytes, not ${bytes.length}`);
  }
  return bytes;
}
