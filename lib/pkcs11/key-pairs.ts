/** The keys of a pair, private and public, and what they do. */
import { X509Certificate, type KeyObject } from 'node:crypto';
import { invalidArgType, invalidArgValue, notSupported } from '../client/errors.js';
import { checkKnown } from '../client/validate.js';
import type { Application, Turn } from './application.js';
import { Attribute, Command, KeyType, ObjectClass } from './constants.js';
import { signatureFromDer, signatureToDer } from './der.js';
import { notFound } from './errors.js';
import {
  ecdh,
  OAEP_OPTIONS,
  oaep,
  readBytes,
  rsaAesWrap,
  SIGN_OPTIONS,
  type OaepOptions,
  type SignOptions,
} from './mechanisms.js';
import { MAX_SECRET, newPrivateKey, newSecretKey } from './new-keys.js';
import { classAttribute, NEW_KEY_OPTIONS, type NewKeyOptions } from './new-objects.js';
import {
  checkNeeded,
  describeObject,
  find,
  make,
  objectAt,
  readSignal,
  referenceOf,
  TokenObject,
  type Found,
  type ObjectReference,
  type OperationOptions,
} from './objects.js';
import {
  cipher,
  ofSize,
  readData,
  sign,
  verify,
  type Bytes,
  type Data,
  type Operation,
} from './operations.js';
import { ecPoint, keyKind, publicKeyOf, type KeyKind } from './public-keys.js';
import { SecretKey, secretKeyAt, secretValue } from './secret-keys.js';
import {
  encodeMechanism,
  encodeTemplate,
  pack,
  u32s,
  type MechanismWithParameters,
  type Template,
} from './serializer.js';
import { readSigning, verifyAnySalt, type Signing } from './signatures.js';
import { unwrap, wrap, type UnwrapKeyOptions, type UnwrapPrivateKeyOptions } from './wrapping.js';

/** A key of a pair: what its two sides have in common. */
abstract class AsymmetricKey extends TokenObject {
  /** As node:crypto's; 'unknown' for a key that this client cannot use. */
  readonly asymmetricKeyType: KeyKind['type'];
  /** As node:crypto's. */
  readonly asymmetricKeyDetails: { namedCurve?: string; modulusLength?: number };
  /** @internal */
  protected readonly kind: KeyKind;

  /** @internal */
  protected constructor({ reference, attributes }: Found) {
    super(reference);
    this.kind = keyKind(attributes);
    const { type, curve, modulusSize } = this.kind;
    this.asymmetricKeyType = type;
    this.asymmetricKeyDetails = {
      ...(type === 'ec' && curve !== undefined ? { namedCurve: curve.openssl } : {}),
      ...(modulusSize === undefined ? {} : { modulusLength: modulusSize * 8 }),
    };
  }

  /** @internal */
  protected signing(algorithm: unknown, data: Bytes, options: SignOptions, checks: boolean): Signing {
    return readSigning(this.kind, algorithm, data, options, { checks, what: this.toString() });
  }

  /** @internal Runs an operation on what is signed, which is computed while the operation waits for its turn. */
  protected async run<T>(
    { mechanism, input }: Signing,
    data: Bytes,
    { asked, signal }: { asked: string; signal: AbortSignal | undefined },
    use: (operation: Operation, input: Buffer) => Promise<T>,
  ): Promise<T> {
    const computed = input({ asked, signal });
    computed.catch(() => undefined); // its turn reports it
    // A stream can take its time: others have their turns meanwhile.
    if (!Buffer.isBuffer(data)) await computed;
    return this.reference.app.operate(
      async (turn) => {
        const key = await this.reference.handle(turn, asked);
        return use({ turn, key, mechanism, asked }, await computed);
      },
      { asked, signal },
    );
  }

  /** @internal */
  protected needs(type: KeyKind['type'], what: string): void {
    if (this.kind.type !== type)
      throw notSupported(`${what} needs a key of type ${type}, not ${this.kind.type}`);
  }
}

/** What is made with a key that another party's public key is agreed with. */
export interface DeriveKeyOptions extends NewKeyOptions {
  /** 'aes', or 'hmac' for a generic secret. */
  type: 'aes' | 'hmac';
  /** In bits: of AES 128, 192 or 256; at most the size of the curve. */
  length: number;
}

/** A private key of a token. It never leaves the TEE: what it does is done there. */
export class PrivateKey extends AsymmetricKey {
  /** CKA_SENSITIVE: is its value never read? */
  readonly sensitive: boolean;
  /** CKA_EXTRACTABLE: may it leave the TEE wrapped? */
  readonly extractable: boolean;
  readonly #publicKey: KeyObject | undefined;

  /** @internal */
  constructor(found: Found, publicKey: KeyObject | undefined) {
    super(found);
    this.sensitive = found.attributes.boolean(Attribute.SENSITIVE);
    this.extractable = found.attributes.boolean(Attribute.EXTRACTABLE);
    this.#publicKey = publicKey;
  }

  /**
   * Its public key.
   * @throws ERR_PKCS11_NOT_FOUND for an EC key where the token has neither a public key nor a certificate with its id
   */
  get publicKey(): KeyObject {
    if (this.#publicKey === undefined) throw notFound(`public key for ${this.toString()}`, 0);
    return this.#publicKey;
  }

  /**
   * Signs data, as node:crypto's `sign` does. The data is hashed in this process and only its digest goes to the TEE (but
   * for Ed25519, which needs all of it there).
   * @param algorithm the digest: 'sha1', 'sha224', 'sha256', 'sha384' or 'sha512'; 'sha256' if it is undefined. Of Ed25519
   *   undefined or null
   * @param data bytes, or a stream or other async iterable of them; of Ed25519 bytes
   * @throws (rejects with) Pkcs11Error, TeeError, AbortError; TypeError or RangeError for a bad argument; what the stream
   *   throws
   */
  async sign(algorithm: string | null | undefined, data: Data, options: SignOptions = {}): Promise<Buffer> {
    checkKnown(options, 'options', SIGN_OPTIONS);
    const signal = readSignal(options);
    const bytes = readData(data, 'data');
    const how = this.signing(algorithm, bytes, options, false);
    const asked = `a signature with ${this.toString()}`;
    const signature = await this.run(how, bytes, { asked, signal }, (operation, input) =>
      sign(operation, input, how.size),
    );
    return how.ieee ? signature : signatureToDer(signature);
  }

  /**
   * Decrypts with RSA OAEP, as node:crypto's `privateDecrypt`.
   * @throws (rejects with) Pkcs11Error, …
   */
  async privateDecrypt(data: Uint8Array, options: OaepOptions = {}): Promise<Buffer> {
    checkKnown(options, 'options', OAEP_OPTIONS);
    this.needs('rsa', 'privateDecrypt');
    const signal = readSignal(options);
    const { mechanism } = oaep(options);
    const bytes = readBytes(data, 'data');
    const { modulusSize = 0 } = this.kind;
    if (bytes.length !== modulusSize) {
      throw invalidArgValue(
        'data',
        undefined,
        `must have the ${modulusSize} bytes of the key, not ${bytes.length}`,
      );
    }
    const asked = `RSA decryption with ${this.toString()}`;
    return this.reference.app.operate(
      async (turn) => {
        const key = await this.reference.handle(turn, asked);
        return cipher('decrypt', { turn, key, mechanism, asked }, bytes, { extra: 0, parts: false });
      },
      { asked, signal },
    );
  }

  /**
   * The secret that this EC key and another party's public key have in common, as node:crypto's `diffieHellman`. It leaves
   * the TEE. `deriveKey` makes a key of it that does not.
   * @throws (rejects with) Pkcs11Error, …
   */
  async diffieHellman(publicKey: KeyObject, options: OperationOptions = {}): Promise<Buffer> {
    checkKnown(options, 'options', ['signal']);
    const signal = readSignal(options);
    const mechanism = this.#agreement(publicKey);
    const asked = `a key agreement with ${this.toString()}`;
    const template: Template = [
      ...classAttribute(ObjectClass.SECRET_KEY),
      [Attribute.KEY_TYPE, KeyType.GENERIC_SECRET],
      [Attribute.VALUE_LEN, this.kind.curve?.size],
      [Attribute.TOKEN, false],
      [Attribute.PRIVATE, true],
      [Attribute.SENSITIVE, false],
      [Attribute.EXTRACTABLE, true],
    ];
    return this.reference.app.operate(
      async (turn) => {
        const handle = await this.#derive(turn, mechanism, template, asked);
        try {
          return ofSize(await secretValue(turn, handle, asked), this.kind.curve?.size ?? 0, asked);
        } finally {
          const control = u32s(turn.handle, handle);
          await turn.ask({ command: Command.DESTROY_OBJECT, control, asked });
        }
      },
      { asked, signal, home: true },
    );
  }

  /**
   * Makes a secret key of what this EC key and another party's public key have in common (its first bytes, with no key
   * derivation function). It stays in the TEE.
   * @throws (rejects with) Pkcs11Error, …
   */
  async deriveKey(publicKey: KeyObject, options: DeriveKeyOptions): Promise<SecretKey> {
    checkNeeded(options, 'options', [...NEW_KEY_OPTIONS, 'type', 'length']);
    const size = this.kind.curve?.size ?? 0;
    const { template, token, signal } = newSecretKey(options, size);
    const mechanism = this.#agreement(publicKey);
    const asked = `a key agreement with ${this.toString()}`;
    const { app } = this.reference;
    return app.operate(
      async (turn) => secretKeyAt(app, turn, await this.#derive(turn, mechanism, template, asked), asked),
      { asked, signal, home: !token },
    );
  }

  /**
   * Unwraps a key into the TEE, which was wrapped by RSA with an AES key of its own (CKM_RSA_AES_KEY_WRAP).
   * @param options what it is: a secret key, or a private RSA key
   * @throws (rejects with) Pkcs11Error, …
   */
  unwrapKey(wrapped: Uint8Array, options: UnwrapPrivateKeyOptions & OaepOptions): Promise<PrivateKey>;
  unwrapKey(wrapped: Uint8Array, options: UnwrapKeyOptions & OaepOptions): Promise<SecretKey>;
  async unwrapKey(
    wrapped: Uint8Array,
    options: (UnwrapKeyOptions | UnwrapPrivateKeyOptions) & OaepOptions,
  ): Promise<SecretKey | PrivateKey> {
    checkNeeded(options, 'options', [...NEW_KEY_OPTIONS, ...OAEP_OPTIONS, 'type', 'length']);
    this.needs('rsa', 'unwrapKey');
    const bytes = readBytes(wrapped, 'wrapped');
    const mechanism = rsaAesWrap(options);
    if (options.type !== 'rsa') {
      const secretKey = newSecretKey(options, MAX_SECRET, false);
      return unwrap(this.reference, mechanism, bytes, secretKey, secretKeyAt);
    }
    if ('length' in options && options.length !== undefined) {
      throw invalidArgValue('options.length', undefined, 'is for secret keys only');
    }
    const privateKey = newPrivateKey('rsa', options, [[Attribute.KEY_TYPE, KeyType.RSA]]);
    return unwrap(this.reference, mechanism, bytes, privateKey, privateKeyAt);
  }

  /** @throws for a key of another curve, which would make the TA panic */
  #agreement(publicKey: unknown): MechanismWithParameters {
    this.needs('ec', 'a key agreement');
    const key = publicKey as Partial<KeyObject> | null | undefined;
    if (key?.type !== 'public' || typeof key.export !== 'function') {
      throw invalidArgType('publicKey', 'a public KeyObject of node:crypto', publicKey);
    }
    const { curve } = this.kind;
    const jwk = key.export({ format: 'jwk' });
    if (jwk.kty !== 'EC' || jwk.crv !== curve?.name) {
      throw invalidArgValue('publicKey', undefined, `must be of the curve ${curve?.name} of the private key`);
    }
    if (curve?.name === 'P-521') throw notSupported('The PKCS#11 TA has no key agreement with P-521');
    return ecdh(ecPoint(jwk));
  }

  async #derive(
    turn: Turn,
    mechanism: MechanismWithParameters,
    template: Template,
    asked: string,
  ): Promise<number> {
    const key = await this.reference.handle(turn, asked);
    const control = pack(turn.handle, key, encodeMechanism(mechanism), encodeTemplate(template));
    return make(turn, { command: Command.DERIVE_KEY, control, asked });
  }
}

/** A public key of a token. */
export class PublicKey extends AsymmetricKey {
  readonly #publicKey: KeyObject | undefined;

  /** @internal */
  constructor(found: Found, publicKey: KeyObject | undefined) {
    super(found);
    this.#publicKey = publicKey;
  }

  /**
   * The key for node:crypto.
   * @throws ERR_PKCS11_NOT_FOUND if it is of a kind that node:crypto does not know
   */
  get publicKey(): KeyObject {
    if (this.#publicKey === undefined)
      throw notFound(`value of ${this.toString()} that node:crypto knows`, 0);
    return this.#publicKey;
  }

  /**
   * Checks a signature in the TEE, as node:crypto's `verify`. (RSA PSS with a salt of unknown length, Node's default, is
   * checked by node:crypto itself: the TA has to be told the length.)
   * @param data as of `sign`
   * @returns is it right
   * @throws (rejects with) Pkcs11Error, …
   */
  async verify(
    algorithm: string | null | undefined,
    data: Data,
    signature: Uint8Array,
    options: SignOptions = {},
  ): Promise<boolean> {
    checkKnown(options, 'options', SIGN_OPTIONS);
    const signal = readSignal(options);
    const bytes = readData(data, 'data');
    const given = readBytes(signature, 'signature');
    const how = this.signing(algorithm, bytes, options, true);
    const asked = `the check of a signature with ${this.toString()}`;
    if (how.autoSalt !== undefined) {
      return verifyAnySalt(this.publicKey, how.autoSalt, bytes, given, { asked, signal });
    }
    const inTheForm = how.ieee ? given : signatureFromDer(given, how.size / 2);
    if (inTheForm?.length !== how.size) return false;
    return this.run(how, bytes, { asked, signal }, (operation, input) => verify(operation, input, inTheForm));
  }

  /**
   * Encrypts with RSA OAEP, as node:crypto's `publicEncrypt`.
   * @throws (rejects with) Pkcs11Error, …
   */
  async publicEncrypt(data: Uint8Array, options: OaepOptions = {}): Promise<Buffer> {
    checkKnown(options, 'options', OAEP_OPTIONS);
    this.needs('rsa', 'publicEncrypt');
    const signal = readSignal(options);
    const { mechanism, of } = oaep(options);
    const bytes = readBytes(data, 'data');
    const { modulusSize = 0 } = this.kind;
    const most = modulusSize - 2 * of.size - 2;
    if (bytes.length > most) {
      throw invalidArgValue(
        'data',
        undefined,
        `can have ${Math.max(most, 0)} bytes with this key, not ${bytes.length}`,
      );
    }
    const asked = `RSA encryption with ${this.toString()}`;
    return this.reference.app.operate(
      async (turn) => {
        const key = await this.reference.handle(turn, asked);
        const extra = modulusSize - bytes.length;
        const besides = { extra, parts: false, size: modulusSize };
        return cipher('encrypt', { turn, key, mechanism, asked }, bytes, besides);
      },
      { asked, signal },
    );
  }

  /**
   * Wraps an extractable key with this RSA key and an AES key of its own (CKM_RSA_AES_KEY_WRAP).
   * @param key a secret key, or a private RSA key
   * @throws (rejects with) Pkcs11Error, …
   */
  async wrapKey(key: SecretKey | PrivateKey, options: OaepOptions = {}): Promise<Buffer> {
    checkKnown(options, 'options', OAEP_OPTIONS);
    this.needs('rsa', 'wrapKey');
    return wrap(this.reference, rsaAesWrap(options), wrappable(key), readSignal(options));
  }
}

/** A key that the TA can wrap. @throws TypeError ERR_INVALID_ARG_TYPE; ERR_TEE_NOT_SUPPORTED */
function wrappable(key: unknown): ObjectReference {
  const expected = 'a SecretKey or a PrivateKey';
  if (!(key instanceof SecretKey || key instanceof PrivateKey)) throw invalidArgType('key', expected, key);
  if (key instanceof PrivateKey && key.asymmetricKeyType !== 'rsa') {
    throw notSupported(`The PKCS#11 TA wraps no private keys but those of RSA, not ${key.toString()}`);
  }
  return referenceOf(key, 'key', expected);
}

/** A private key, with its public key from wherever the token has it. */
export async function privateKeyAt(
  app: Application,
  turn: Turn,
  handle: number,
  asked: string,
): Promise<PrivateKey> {
  const found = await objectAt(app, turn, handle, ObjectClass.PRIVATE_KEY, asked);
  const kind = keyKind(found.attributes);
  const { reference } = found;
  const own = publicKeyOf(found.attributes, kind, asked);
  if (own !== undefined) return new PrivateKey(found, own);
  const publicKey = await publicKeyWithId(turn, reference.id, kind, asked);
  reference.isStill = async (later) => {
    const now = await publicKeyWithId(later, reference.id, kind, asked);
    return now === undefined || publicKey === undefined || now.equals(publicKey);
  };
  return new PrivateKey(found, publicKey);
}

/** Of EC, the TA does not say what the public key of a private key is. */
async function publicKeyWithId(
  turn: Turn,
  id: Buffer,
  kind: KeyKind,
  asked: string,
): Promise<KeyObject | undefined> {
  if (id.length === 0) return undefined;
  const template: Template = [...classAttribute(ObjectClass.PUBLIC_KEY), [Attribute.ID, id]];
  for (const handle of await find(turn, template, asked)) {
    const attributes = await describeObject(turn, handle, ObjectClass.PUBLIC_KEY, asked);
    const { type, curve } = keyKind(attributes);
    if (type === kind.type && curve === kind.curve) return publicKeyOf(attributes, kind, asked);
  }
  const certificates: Template = [...classAttribute(ObjectClass.CERTIFICATE), [Attribute.ID, id]];
  for (const handle of await find(turn, certificates, asked)) {
    const attributes = await describeObject(turn, handle, ObjectClass.CERTIFICATE, asked);
    const der = attributes.bytes(Attribute.VALUE);
    if (der !== undefined) return publicKeyOfCertificate(der);
  }
  return undefined;
}

export async function publicKeyAt(
  app: Application,
  turn: Turn,
  handle: number,
  asked: string,
): Promise<PublicKey> {
  const found = await objectAt(app, turn, handle, ObjectClass.PUBLIC_KEY, asked);
  return new PublicKey(found, publicKeyOf(found.attributes, keyKind(found.attributes), asked));
}

function publicKeyOfCertificate(der: Buffer): KeyObject | undefined {
  try {
    return new X509Certificate(der).publicKey;
  } catch {
    return undefined; // not a certificate that node:crypto knows
  }
}
