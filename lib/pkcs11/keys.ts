/** Keys of a token, and what they do. */
import { constants, verify as nodeVerify, X509Certificate, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import { invalidArgType, invalidArgValue, notSupported } from '../client/errors.js';
import { checkBoolean, checkInteger, checkKnown, checkString } from '../client/validate.js';
import type { Application, Turn } from './application.js';
import { Attribute, CKR, Command, KeyType, Mechanism, ObjectClass } from './constants.js';
import { signatureFromDer, signatureToDer } from './der.js';
import { isResult, notFound, Pkcs11Error } from './errors.js';
import {
  BLOCK,
  CIPHER_OPTIONS,
  ecdh,
  EDDSA,
  OAEP_OPTIONS,
  oaep,
  pad,
  readBytes,
  readCipher,
  readDigest,
  readDsaEncoding,
  rsaAesWrap,
  rsaSignature,
  SIGN_OPTIONS,
  unpad,
  type Cipher,
  type CipherOptions,
  type Digest,
  type OaepOptions,
  type SignOptions,
} from './mechanisms.js';
import {
  classAttribute,
  NEW_KEY_OPTIONS,
  protection,
  readNew,
  readUsages,
  usageAttributes,
  type KeyUsage,
  type NewKeyOptions,
  type NewObject,
} from './new-objects.js';
import {
  checkNeeded,
  describeObject,
  find,
  make,
  objectAt,
  readAttributes,
  readSignal,
  referenceOf,
  TokenObject,
  type Found,
  type ObjectReference,
  type OperationOptions,
} from './objects.js';
import { cipher, hash, ofSize, sign, verify, type Operation } from './operations.js';
import { ecPoint, keyKind, publicKeyOf, type KeyKind } from './public-keys.js';
import {
  decodeHandle,
  encodeMechanism,
  encodeTemplate,
  pack,
  u32s,
  type MechanismWithParameters,
  type Template,
} from './serializer.js';

const verifyWithNode = promisify(nodeVerify);

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

  /** @internal How a signature is made or checked: what the mechanism takes, and what comes out. */
  protected signing(algorithm: unknown, data: Buffer, options: SignOptions, checks: boolean): Signing {
    const { type, curve, modulusSize = 0 } = this.kind;
    const dsaEncoding = readDsaEncoding(options);
    switch (type) {
      case 'ed25519':
        if (algorithm !== undefined && algorithm !== null) {
          throw invalidArgValue(
            'algorithm',
            algorithm,
            'must be undefined or null: Ed25519 has a digest of its own',
          );
        }
        return {
          mechanism: EDDSA,
          input: () => Promise.resolve(data),
          size: 64,
          ieee: true,
          autoSalt: false,
        };
      case 'ec': {
        const digest = readDigest(algorithm ?? 'sha256', 'algorithm');
        const input = () => hash(digest, data);
        const size = 2 * (curve?.size ?? 0);
        const mechanism = { id: Mechanism.ECDSA };
        return { mechanism, input, size, ieee: dsaEncoding === 'ieee-p1363', autoSalt: false };
      }
      case 'rsa': {
        const digest = readDigest(algorithm ?? 'sha256', 'algorithm');
        const { mechanism, prefix, autoSalt } = rsaSignature(options, digest, modulusSize, checks);
        const input = async () => Buffer.concat([prefix, await hash(digest, data)]);
        return { mechanism, input, size: modulusSize, ieee: true, autoSalt };
      }
      default:
        throw notSupported(`${this.toString()} is of a kind that this client does not know`);
    }
  }

  /** @internal Runs an operation on what is signed, which is computed while the operation waits for its turn. */
  protected run<T>(
    { mechanism, input }: Signing,
    { asked, signal }: { asked: string; signal: AbortSignal | undefined },
    use: (operation: Operation, input: Buffer) => Promise<T>,
  ): Promise<T> {
    const computed = input();
    computed.catch(() => undefined); // its turn reports it
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

interface Signing {
  readonly mechanism: MechanismWithParameters;
  /** What is signed. */
  readonly input: () => Promise<Buffer>;
  /** Bytes of the signature as the TA has it. */
  readonly size: number;
  /** Is the caller's signature the TA's? Else it is DER. */
  readonly ieee: boolean;
  readonly autoSalt: boolean;
}

/** What is made with a key that another party's public key is agreed with. */
export interface DeriveKeyOptions extends NewKeyOptions {
  /** 'aes', or 'hmac' for a generic secret. */
  type: 'aes' | 'hmac';
  /** In bits: of AES 128, 192 or 256; at most the size of the curve. */
  length: number;
}

/** How a key is unwrapped, and what it is. */
export interface UnwrapKeyOptions extends NewKeyOptions {
  /** What is in it. */
  type: 'aes' | 'hmac';
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
   * @throws (rejects with) Pkcs11Error, TeeError, AbortError; TypeError or RangeError for a bad argument
   */
  async sign(
    algorithm: string | null | undefined,
    data: Uint8Array,
    options: SignOptions = {},
  ): Promise<Buffer> {
    checkKnown(options, 'options', SIGN_OPTIONS);
    const signal = readSignal(options);
    const how = this.signing(algorithm, readBytes(data, 'data'), options, false);
    const asked = `a signature with ${this.toString()}`;
    const signature = await this.run(how, { asked, signal }, (operation, input) =>
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

  /** Unwraps a key that was wrapped by RSA with an AES key of its own (CKM_RSA_AES_KEY_WRAP). */
  async unwrapKey(wrapped: Uint8Array, options: UnwrapKeyOptions & OaepOptions): Promise<SecretKey> {
    checkNeeded(options, 'options', [...NEW_KEY_OPTIONS, ...OAEP_OPTIONS, 'type']);
    this.needs('rsa', 'unwrapKey');
    return unwrap(this.reference, rsaAesWrap(options), readBytes(wrapped, 'wrapped'), options);
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
   * @returns is it right
   * @throws (rejects with) Pkcs11Error, …
   */
  async verify(
    algorithm: string | null | undefined,
    data: Uint8Array,
    signature: Uint8Array,
    options: SignOptions = {},
  ): Promise<boolean> {
    checkKnown(options, 'options', SIGN_OPTIONS);
    const signal = readSignal(options);
    const bytes = readBytes(data, 'data');
    const given = readBytes(signature, 'signature');
    const how = this.signing(algorithm, bytes, options, true);
    if (how.autoSalt) {
      const { RSA_PKCS1_PSS_PADDING: padding, RSA_PSS_SALTLEN_AUTO: saltLength } = constants;
      return verifyWithNode(
        algorithm ?? 'sha256',
        bytes,
        { key: this.publicKey, padding, saltLength },
        given,
      );
    }
    const inTheForm = how.ieee ? given : signatureFromDer(given, how.size / 2);
    if (inTheForm?.length !== how.size) return false;
    const asked = `the check of a signature with ${this.toString()}`;
    return this.run(how, { asked, signal }, (operation, input) => verify(operation, input, inTheForm));
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
        return cipher('encrypt', { turn, key, mechanism, asked }, bytes, {
          extra,
          parts: false,
          size: modulusSize,
        });
      },
      { asked, signal },
    );
  }

  /**
   * Wraps an extractable key with this RSA key and an AES key of its own (CKM_RSA_AES_KEY_WRAP).
   * @throws (rejects with) Pkcs11Error, …
   */
  async wrapKey(key: SecretKey | PrivateKey, options: OaepOptions = {}): Promise<Buffer> {
    checkKnown(options, 'options', OAEP_OPTIONS);
    this.needs('rsa', 'wrapKey');
    return wrap(this.reference, rsaAesWrap(options), key, readSignal(options));
  }
}

/** The ciphers with a tag. */
export type GcmAlgorithm = 'aes-128-gcm' | 'aes-192-gcm' | 'aes-256-gcm';

/** A secret key of a token: AES, or a generic secret for HMAC. */
export class SecretKey extends TokenObject {
  /** 'aes', or 'hmac' for a generic secret; 'unknown' for what this client cannot use. */
  readonly type: 'aes' | 'hmac' | 'unknown';
  /** In bytes, as node:crypto's. */
  readonly symmetricKeySize: number;
  /** CKA_SENSITIVE: is its value never read? */
  readonly sensitive: boolean;
  /** CKA_EXTRACTABLE: may it leave the TEE wrapped? */
  readonly extractable: boolean;
  /** The mechanism of a key that is for one digest only. */
  readonly #onlyHmac: number | undefined;

  /** @internal */
  constructor({ reference, attributes }: Found) {
    super(reference);
    const type = attributes.number(Attribute.KEY_TYPE);
    this.#onlyHmac = HMAC_OF.get(type);
    if (type === KeyType.AES) this.type = 'aes';
    else this.type = type === KeyType.GENERIC_SECRET || this.#onlyHmac !== undefined ? 'hmac' : 'unknown';
    this.symmetricKeySize = attributes.number(Attribute.VALUE_LEN) ?? 0;
    this.sensitive = attributes.boolean(Attribute.SENSITIVE);
    this.extractable = attributes.boolean(Attribute.EXTRACTABLE);
  }

  /**
   * The HMAC of data, as node:crypto's `createHmac(algorithm, key).update(data).digest()`.
   * @throws (rejects with) Pkcs11Error, …
   */
  async sign(algorithm: string, data: Uint8Array, options: OperationOptions = {}): Promise<Buffer> {
    checkKnown(options, 'options', ['signal']);
    const { hmac, size } = this.#hmac(algorithm, 'sign');
    const bytes = readBytes(data, 'data');
    const signal = readSignal(options);
    const asked = `an HMAC with ${this.toString()}`;
    return this.reference.app.operate(
      (turn) =>
        this.#withHmacKey(turn, asked, (key) =>
          sign({ turn, key, mechanism: { id: hmac }, asked, signal }, bytes, size),
        ),
      { asked, signal },
    );
  }

  /**
   * Checks an HMAC in the TEE.
   * @returns is it right
   * @throws (rejects with) Pkcs11Error, …
   */
  async verify(
    algorithm: string,
    data: Uint8Array,
    signature: Uint8Array,
    options: OperationOptions = {},
  ): Promise<boolean> {
    checkKnown(options, 'options', ['signal']);
    const { hmac, size } = this.#hmac(algorithm, 'verify');
    const bytes = readBytes(data, 'data');
    const given = readBytes(signature, 'signature');
    const signal = readSignal(options);
    if (given.length !== size) return false;
    const asked = `the check of an HMAC with ${this.toString()}`;
    return this.reference.app.operate(
      (turn) =>
        this.#withHmacKey(turn, asked, (key) =>
          verify({ turn, key, mechanism: { id: hmac }, asked, signal }, bytes, given),
        ),
      { asked, signal },
    );
  }

  /**
   * Encrypts with AES.
   * @param algorithm node:crypto's name: 'aes-256-gcm', 'aes-256-cbc', 'aes-256-ctr', with the bits of the key
   * @returns the text and, of GCM, its tag
   * @throws (rejects with) Pkcs11Error, …
   */
  encrypt(
    algorithm: GcmAlgorithm,
    data: Uint8Array,
    options: CipherOptions,
  ): Promise<{ ciphertext: Buffer; authTag: Buffer }>;
  encrypt(
    algorithm: string,
    data: Uint8Array,
    options: CipherOptions,
  ): Promise<{ ciphertext: Buffer; authTag?: Buffer }>;
  async encrypt(
    algorithm: string,
    data: Uint8Array,
    options: CipherOptions,
  ): Promise<{ ciphertext: Buffer; authTag?: Buffer }> {
    const { how, signal, padding } = this.#cipher(algorithm, options, CIPHER_OPTIONS);
    const plain = readBytes(data, 'data');
    const input = padding ? pad(plain) : plain;
    if (how.mode === 'cbc') checkBlocks(input);
    const asked = `encryption with ${this.toString()}`;
    const output = await this.reference.app.operate(
      async (turn) => {
        const key = await this.reference.handle(turn, asked);
        const { mechanism, tag } = how;
        const [extra, size] = [BLOCK + tag, input.length + tag];
        return cipher('encrypt', { turn, key, mechanism, asked, signal }, input, {
          extra,
          parts: true,
          size,
        });
      },
      { asked, signal },
    );
    if (how.tag === 0) return { ciphertext: output };
    const end = output.length - how.tag;
    return { ciphertext: output.subarray(0, end), authTag: output.subarray(end) };
  }

  /**
   * Decrypts with AES. Of GCM, no plain text is given before all of it was found right, so the TA keeps it: of a TA with a
   * heap of 32 KiB, 16 KiB.
   * @param options as of `encrypt`; of GCM with `authTag`
   * @throws (rejects with) Pkcs11Error: CKR_SIGNATURE_INVALID if the text, its tag or aad were changed; …
   */
  async decrypt(
    algorithm: string,
    data: Uint8Array,
    options: CipherOptions & { authTag?: Uint8Array | undefined },
  ): Promise<Buffer> {
    checkNeeded(options, 'options', [...CIPHER_OPTIONS, 'authTag']);
    const authTag = options.authTag === undefined ? undefined : readBytes(options.authTag, 'options.authTag');
    const authTagLength = options.authTagLength ?? authTag?.length;
    const read = this.#cipher(algorithm, { ...options, authTagLength }, [...CIPHER_OPTIONS, 'authTag']);
    const { how, signal, padding } = read;
    if ((how.mode === 'gcm') !== (authTag !== undefined) || (authTag?.length ?? 0) !== how.tag) {
      throw invalidArgValue(
        'options.authTag',
        undefined,
        `must be ${how.tag > 0 ? `${how.tag} bytes` : 'undefined'}`,
      );
    }
    const given = readBytes(data, 'data');
    if (how.mode === 'cbc') checkBlocks(given);
    const input = authTag === undefined ? given : Buffer.concat([given, authTag]);
    const asked = `decryption with ${this.toString()}`;
    const gcm = how.mode === 'gcm';
    let output: Buffer;
    try {
      output = await this.reference.app.operate(
        async (turn) => {
          const key = await this.reference.handle(turn, asked);
          const operation = { turn, key, mechanism: how.mechanism, asked, signal };
          return cipher('decrypt', operation, input, { extra: BLOCK, parts: !gcm, size: given.length });
        },
        { asked, signal },
      );
    } catch (error) {
      if (gcm && isResult(error, CKR.CKR_DEVICE_MEMORY)) {
        const hint =
          'the TA keeps the text of a GCM decryption in its heap until all of it was found right: encrypt less at once, or ' +
          'build the TA with a larger CFG_PKCS11_TA_HEAP_SIZE';
        throw new Pkcs11Error({ value: error.value, asked, hint, cause: error });
      }
      throw error;
    }
    if (!padding) return output;
    const plain = unpad(output);
    if (plain === undefined) {
      const hint = 'the padding is wrong: another key or iv, or the text was changed';
      throw new Pkcs11Error({ value: CKR.CKR_ENCRYPTED_DATA_INVALID, asked, hint });
    }
    return plain;
  }

  /**
   * Wraps an extractable key.
   * @param algorithm 'aes-256-gcm' or 'aes-256-cbc', with the bits of this key. CBC only keys of a whole number of blocks
   * @returns the wrapped key, of GCM with its tag behind it
   * @throws (rejects with) Pkcs11Error, …
   */
  async wrapKey(key: SecretKey | PrivateKey, algorithm: string, options: CipherOptions): Promise<Buffer> {
    const { how, signal } = this.#cipher(algorithm, options, CIPHER_OPTIONS);
    if (how.mode === 'ctr') throw invalidArgValue('algorithm', algorithm, 'must be gcm or cbc');
    if (how.mode === 'cbc' && (!(key instanceof SecretKey) || key.symmetricKeySize % BLOCK !== 0)) {
      throw invalidArgValue(
        'algorithm',
        algorithm,
        'must be gcm for a key that is no whole number of blocks',
      );
    }
    return wrap(this.reference, how.mechanism, key, signal);
  }

  /**
   * Unwraps a key into the TEE.
   * @param algorithm as of `wrapKey`
   * @throws (rejects with) Pkcs11Error, …
   */
  async unwrapKey(
    wrapped: Uint8Array,
    algorithm: string,
    options: CipherOptions & UnwrapKeyOptions,
  ): Promise<SecretKey> {
    const { how } = this.#cipher(algorithm, options, [...CIPHER_OPTIONS, ...NEW_KEY_OPTIONS, 'type']);
    if (how.mode === 'ctr') throw invalidArgValue('algorithm', algorithm, 'must be gcm or cbc');
    return unwrap(this.reference, how.mechanism, readBytes(wrapped, 'wrapped'), options);
  }

  /**
   * Its value, of a key that was made `extractable: true` and `sensitive: false`.
   * @throws (rejects with) Pkcs11Error: CKR_ATTRIBUTE_SENSITIVE for all others
   */
  async export(options: OperationOptions = {}): Promise<Buffer> {
    checkKnown(options, 'options', ['signal']);
    const asked = `the value of ${this.toString()}`;
    return this.reference.app.operate(
      async (turn) => secretValue(turn, await this.reference.handle(turn, asked), asked),
      { asked, signal: readSignal(options) },
    );
  }

  /**
   * A generic secret that was used with one digest makes the TA panic when it is used with another (as of OP-TEE 4.10): it
   * keeps the key as it has loaded it first, for whichever client. So each operation has a copy of its own.
   */
  async #withHmacKey<T>(turn: Turn, asked: string, use: (key: number) => Promise<T>): Promise<T> {
    const handle = await this.reference.handle(turn, asked);
    if (this.#onlyHmac !== undefined) return use(handle);
    const control = pack(turn.handle, handle, encodeTemplate([[Attribute.TOKEN, false]]));
    const answer = await turn.ask({ command: Command.COPY_OBJECT, control, room: 4, asked });
    const copy = decodeHandle(answer, asked);
    try {
      return await use(copy);
    } finally {
      const question = { command: Command.DESTROY_OBJECT, control: u32s(turn.handle, copy), asked } as const;
      await turn.ask(question).catch(() => undefined); // it ends with its session at the latest
    }
  }

  #hmac(algorithm: unknown, what: string): Digest {
    this.#needs('hmac', what);
    const digest = readDigest(algorithm, 'algorithm');
    if (this.#onlyHmac !== undefined && this.#onlyHmac !== digest.hmac) {
      throw invalidArgValue('algorithm', undefined, `must be the one that ${this.toString()} is for`);
    }
    return digest;
  }

  #needs(type: SecretKey['type'], what: string): void {
    if (this.type !== type) throw notSupported(`${what} needs a key of type ${type}, not ${this.type}`);
  }

  #cipher(
    algorithm: unknown,
    options: CipherOptions,
    names: readonly string[],
  ): { how: Cipher; signal: AbortSignal | undefined; padding: boolean } {
    checkNeeded(options, 'options', names);
    this.#needs('aes', checkString(algorithm, 'algorithm'));
    const how = readCipher(algorithm, options, this.symmetricKeySize);
    const autoPadding = checkBoolean(options.autoPadding ?? true, 'options.autoPadding');
    return { how, signal: readSignal(options), padding: how.mode === 'cbc' && autoPadding };
  }
}

/** The mechanisms of keys that are for one digest only. */
const HMAC_OF: ReadonlyMap<number | undefined, number> = new Map([
  [KeyType.SHA_1_HMAC, Mechanism.SHA_1_HMAC],
  [KeyType.SHA224_HMAC, Mechanism.SHA224_HMAC],
  [KeyType.SHA256_HMAC, Mechanism.SHA256_HMAC],
  [KeyType.SHA384_HMAC, Mechanism.SHA384_HMAC],
  [KeyType.SHA512_HMAC, Mechanism.SHA512_HMAC],
]);

function checkBlocks(data: Buffer): void {
  if (data.length % BLOCK !== 0) {
    throw invalidArgValue(
      'data',
      undefined,
      `must be a whole number of blocks of ${BLOCK} bytes, not ${data.length} bytes`,
    );
  }
}

async function secretValue(turn: Turn, handle: number, asked: string): Promise<Buffer> {
  const value = (await readAttributes(turn, handle, [Attribute.VALUE], asked, true)).get(Attribute.VALUE);
  if (value === undefined) throw new Pkcs11Error({ value: CKR.CKR_ATTRIBUTE_SENSITIVE, asked });
  return value;
}

export async function secretKeyAt(
  app: Application,
  turn: Turn,
  handle: number,
  asked: string,
): Promise<SecretKey> {
  return new SecretKey(await objectAt(app, turn, handle, ObjectClass.SECRET_KEY, asked));
}

const SECRET_USAGES = {
  aes: { usual: ['encrypt', 'decrypt'], allowed: ['encrypt', 'decrypt', 'wrap', 'unwrap'] },
  hmac: { usual: ['sign', 'verify'], allowed: ['sign', 'verify'] },
} as const satisfies Record<string, Record<'usual' | 'allowed', readonly KeyUsage[]>>;

/**
 * Options of a new secret key, read once.
 * @param most bytes that it can have; 0 if its size is not given but found
 * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE; RangeError ERR_OUT_OF_RANGE
 */
export function newSecretKey(
  options: NewKeyOptions & { type: unknown; length?: unknown },
  most: number,
): NewObject {
  const { type, length, usages } = options;
  if (type !== 'aes' && type !== 'hmac') throw invalidArgValue('type', type, "must be 'aes' or 'hmac'");
  const bytes = most > 0 ? secretSize(type, length, most) : undefined;
  const { usual, allowed } = SECRET_USAGES[type];
  const { attributes, token, signal } = readNew(options);
  const template: Template = [
    ...classAttribute(ObjectClass.SECRET_KEY),
    [Attribute.KEY_TYPE, type === 'aes' ? KeyType.AES : KeyType.GENERIC_SECRET],
    ...attributes,
    ...protection(options),
    ...usageAttributes(readUsages(usages, usual, allowed)),
    [Attribute.VALUE_LEN, bytes],
  ];
  return { template, token, signal };
}

/** @returns bytes */
function secretSize(type: 'aes' | 'hmac', length: unknown, most: number): number {
  const name = 'options.length';
  if (type === 'hmac') {
    const bits = checkInteger(length, name, 8, most * 8);
    if (bits % 8 !== 0) throw invalidArgValue(name, undefined, `must be whole bytes, not ${bits} bits`);
    return bits / 8;
  }
  if (length !== 128 && length !== 192 && length !== 256) {
    throw invalidArgValue(name, length, 'must be 128, 192 or 256');
  }
  if (length > most * 8) throw invalidArgValue(name, undefined, `can be ${most * 8} bits at most`);
  return length / 8;
}

/** Room for a wrapped key: the largest, a private RSA key, has less than 3 KiB. */
const WRAPPED_SIZE = 4096;

async function wrap(
  by: ObjectReference,
  mechanism: MechanismWithParameters,
  key: unknown,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  const what = referenceOf(key, 'key', 'a SecretKey or a PrivateKey');
  if (what.app !== by.app) throw invalidArgValue('key', undefined, 'must be of the same login');
  const asked = `wrapping ${what.toString()} with ${by.toString()}`;
  return by.app.operate(
    async (turn) => {
      const handles = [await by.handle(turn, asked), await what.handle(turn, asked)];
      const control = pack(turn.handle, ...handles, encodeMechanism(mechanism));
      return Buffer.from(await turn.ask({ command: Command.WRAP_KEY, control, room: WRAPPED_SIZE, asked }));
    },
    { asked, signal },
  );
}

async function unwrap(
  by: ObjectReference,
  mechanism: MechanismWithParameters,
  wrapped: Buffer,
  options: UnwrapKeyOptions,
): Promise<SecretKey> {
  const { template, token, signal } = newSecretKey(options, 0);
  const asked = `unwrapping a key with ${by.toString()}`;
  const { app } = by;
  return app.operate(
    async (turn) => {
      const key = await by.handle(turn, asked);
      const control = pack(turn.handle, key, encodeMechanism(mechanism), encodeTemplate(template));
      const handle = await make(turn, { command: Command.UNWRAP_KEY, control, data: wrapped, asked });
      return secretKeyAt(app, turn, handle, asked);
    },
    { asked, signal, home: !token },
  );
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
  const own = publicKeyOf(found.attributes, kind, asked);
  return new PrivateKey(found, own ?? (await publicKeyWithId(turn, found.reference.id, kind, asked)));
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
