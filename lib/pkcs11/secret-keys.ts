/** Secret keys, AES and HMAC, and what they do. */
import { invalidArgType, invalidArgValue, notSupported } from '../client/errors.js';
import { checkBoolean, checkKnown, checkString } from '../client/validate.js';
import type { Application, Turn } from './application.js';
import { decrypt, encrypt, type ReadCipher } from './ciphers.js';
import { Attribute, CKR, Command, KeyType, Mechanism, ObjectClass } from './constants.js';
import { Pkcs11Error } from './errors.js';
import {
  CIPHER_OPTIONS,
  readBytes,
  readCipher,
  readDigest,
  type CipherOptions,
  type Digest,
} from './mechanisms.js';
import { MAX_SECRET, newSecretKey } from './new-keys.js';
import { NEW_KEY_OPTIONS } from './new-objects.js';
import {
  checkNeeded,
  objectAt,
  readAttributes,
  readSignal,
  TokenObject,
  type Found,
  type OperationOptions,
} from './objects.js';
import { readData, sign, verify, type Data } from './operations.js';
import { decodeHandle, encodeTemplate, pack, u32s } from './serializer.js';
import { unwrap, wrap, type UnwrapKeyOptions } from './wrapping.js';

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
   * @param data bytes, or a stream or other async iterable of them
   * @throws (rejects with) Pkcs11Error, …; what the stream throws
   */
  async sign(algorithm: string, data: Data, options: OperationOptions = {}): Promise<Buffer> {
    checkKnown(options, 'options', ['signal']);
    const { hmac, size } = this.#hmac(algorithm, 'sign');
    const bytes = readData(data, 'data');
    const signal = readSignal(options);
    const asked = `an HMAC with ${this.toString()}`;
    return this.reference.app.operate(
      (turn) =>
        this.#withHmacKey(turn, asked, (key) =>
          sign({ turn, key, mechanism: { id: hmac }, asked, signal }, bytes, size),
        ),
      { asked, signal, own: !Buffer.isBuffer(bytes) },
    );
  }

  /**
   * Checks an HMAC in the TEE.
   * @param data as of `sign`
   * @returns is it right
   * @throws (rejects with) Pkcs11Error, …
   */
  async verify(
    algorithm: string,
    data: Data,
    signature: Uint8Array,
    options: OperationOptions = {},
  ): Promise<boolean> {
    checkKnown(options, 'options', ['signal']);
    const { hmac, size } = this.#hmac(algorithm, 'verify');
    const bytes = readData(data, 'data');
    const given = readBytes(signature, 'signature');
    const signal = readSignal(options);
    if (given.length !== size) return false;
    const asked = `the check of an HMAC with ${this.toString()}`;
    return this.reference.app.operate(
      (turn) =>
        this.#withHmacKey(turn, asked, (key) =>
          verify({ turn, key, mechanism: { id: hmac }, asked, signal }, bytes, given),
        ),
      { asked, signal, own: !Buffer.isBuffer(bytes) },
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
    const read = this.#cipher(algorithm, options, CIPHER_OPTIONS);
    return encrypt(this.reference, read, readBytes(data, 'data'));
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
    const { authTagLength = authTag?.length } = options;
    const read = this.#cipher(algorithm, { ...options, authTagLength }, [...CIPHER_OPTIONS, 'authTag']);
    return decrypt(this.reference, read, readBytes(data, 'data'), authTag);
  }

  /**
   * Wraps an extractable secret key. (The TA wraps private keys too, but does not take them back: CBC fills them up with
   * zeros. `PublicKey.wrapKey` of RSA is for them.)
   * @param algorithm 'aes-256-cbc', with the bits of this key. (Also GCM, which no TA up to OP-TEE 4.10 has for this.)
   * @returns the wrapped key. CBC has filled it up with zeros to a whole number of blocks
   * @throws (rejects with) Pkcs11Error, …
   */
  async wrapKey(key: SecretKey, algorithm: string, options: CipherOptions): Promise<Buffer> {
    const { how, signal } = this.#wrapping(algorithm, options, CIPHER_OPTIONS);
    if (!(key instanceof SecretKey)) throw invalidArgType('key', 'a SecretKey', key);
    return wrap(this.reference, how.mechanism, key.reference, signal);
  }

  /**
   * Unwraps a secret key into the TEE.
   * @param algorithm as of `wrapKey`
   * @param options what it is, of CBC with its `length`
   * @throws (rejects with) Pkcs11Error, …
   */
  async unwrapKey(
    wrapped: Uint8Array,
    algorithm: string,
    options: CipherOptions & UnwrapKeyOptions,
  ): Promise<SecretKey> {
    const names = [...CIPHER_OPTIONS, ...NEW_KEY_OPTIONS, 'type', 'length'];
    const { how } = this.#wrapping(algorithm, options, names);
    const bytes = readBytes(wrapped, 'wrapped');
    const key = newSecretKey(options, MAX_SECRET, how.mode === 'cbc');
    return unwrap(this.reference, how.mechanism, bytes, key, secretKeyAt);
  }

  #wrapping(algorithm: unknown, options: CipherOptions, names: readonly string[]): ReadCipher {
    const read = this.#cipher(algorithm, options, names);
    if (read.how.mode === 'ctr') throw invalidArgValue('algorithm', algorithm, 'must be gcm or cbc');
    return read;
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

  #cipher(algorithm: unknown, options: CipherOptions, names: readonly string[]): ReadCipher {
    checkNeeded(options, 'options', names);
    this.#needs('aes', checkString(algorithm, 'algorithm'));
    const how = readCipher(algorithm, options, this.symmetricKeySize);
    const { autoPadding = true } = options;
    const padding = checkBoolean(autoPadding, 'options.autoPadding') && how.mode === 'cbc';
    return { how, signal: readSignal(options), padding };
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

/** The value of a secret key. @throws Pkcs11Error CKR_ATTRIBUTE_SENSITIVE */
export async function secretValue(turn: Turn, handle: number, asked: string): Promise<Buffer> {
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
