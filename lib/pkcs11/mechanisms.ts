/** Names, options and defaults of node:crypto, as mechanisms of the TA. */
import { constants } from 'node:crypto';
import { inspect } from 'node:util';
import { invalidArgType, invalidArgValue } from '../client/errors.js';
import { checkInteger, checkString } from '../client/validate.js';
import { KDF_NULL, LABEL_SPECIFIED, Mechanism, Mgf1 } from './constants.js';
import { pack, u32s, type MechanismWithParameters } from './serializer.js';

/** A digest that the TA has. */
export interface Digest {
  /** node:crypto's name */
  readonly name: string;
  readonly size: number;
  readonly mechanism: number;
  readonly hmac: number;
  readonly mgf: number;
  /** What PKCS #1 puts before it (RFC 8017, 9.2). */
  readonly prefix: Buffer;
}

function digest(
  name: string,
  size: number,
  mechanism: number,
  hmac: number,
  mgf: number,
  prefix: string,
): Digest {
  return { name, size, mechanism, hmac, mgf, prefix: Buffer.from(prefix, 'hex') };
}

const { SHA_1, SHA224, SHA256, SHA384, SHA512 } = Mechanism;
const DIGESTS: readonly Digest[] = [
  digest('sha1', 20, SHA_1, Mechanism.SHA_1_HMAC, Mgf1.SHA1, '3021300906052b0e03021a05000414'),
  digest('sha224', 28, SHA224, Mechanism.SHA224_HMAC, Mgf1.SHA224, '302d300d06096086480165030402040500041c'),
  digest('sha256', 32, SHA256, Mechanism.SHA256_HMAC, Mgf1.SHA256, '3031300d060960864801650304020105000420'),
  digest('sha384', 48, SHA384, Mechanism.SHA384_HMAC, Mgf1.SHA384, '3041300d060960864801650304020205000430'),
  digest('sha512', 64, SHA512, Mechanism.SHA512_HMAC, Mgf1.SHA512, '3051300d060960864801650304020305000440'),
];

/** @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE */
export function readDigest(algorithm: unknown, name: string): Digest {
  const given = checkString(algorithm, name);
  const plain = given.toLowerCase().replace(/^rsa-/, '').replace(/^sha-/, 'sha');
  const found = DIGESTS.find((one) => one.name === plain);
  if (found === undefined) {
    throw invalidArgValue(name, given, `must be one of ${DIGESTS.map((one) => one.name).join(', ')}`);
  }
  return found;
}

/** Options of signatures, as those of node:crypto's `sign` and `verify`. */
export interface SignOptions {
  /** Of ECDSA: 'der' (the default), or 'ieee-p1363', r and s one after the other. */
  dsaEncoding?: 'der' | 'ieee-p1363' | undefined;
  /** Of RSA: constants.RSA_PKCS1_PADDING (the default) or RSA_PKCS1_PSS_PADDING. */
  padding?: number | undefined;
  /**
   * Of RSA PSS: bytes, or constants.RSA_PSS_SALTLEN_DIGEST or RSA_PSS_SALTLEN_MAX_SIGN (the default, to sign) or
   * RSA_PSS_SALTLEN_AUTO (the default, to verify).
   */
  saltLength?: number | undefined;
  /** Aborts it while it waits for its turn. */
  signal?: AbortSignal | undefined;
}

export const SIGN_OPTIONS = ['dsaEncoding', 'padding', 'saltLength', 'signal'];

/** @throws TypeError ERR_INVALID_ARG_VALUE */
export function readDsaEncoding({ dsaEncoding = 'der' }: SignOptions): 'der' | 'ieee-p1363' {
  if (dsaEncoding !== 'der' && dsaEncoding !== 'ieee-p1363') {
    throw invalidArgValue('options.dsaEncoding', dsaEncoding, "must be 'der' or 'ieee-p1363'");
  }
  return dsaEncoding;
}

/** How RSA signs a digest. */
export interface RsaSignature {
  readonly mechanism: MechanismWithParameters;
  /** What stands before the digest. */
  readonly prefix: Buffer;
  /** The length of the salt is to be found out, which the TA cannot. */
  readonly autoSalt: boolean;
}

/**
 * @param modulusSize in bytes
 * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE; RangeError ERR_OUT_OF_RANGE
 */
export function rsaSignature(
  { padding = constants.RSA_PKCS1_PADDING, saltLength = constants.RSA_PSS_SALTLEN_MAX_SIGN }: SignOptions,
  of: Digest,
  modulusSize: number,
  verify: boolean,
): RsaSignature {
  if (padding === constants.RSA_PKCS1_PADDING) {
    return { mechanism: { id: Mechanism.RSA_PKCS }, prefix: of.prefix, autoSalt: false };
  }
  if (padding !== constants.RSA_PKCS1_PSS_PADDING) {
    throw invalidArgValue(
      'options.padding',
      undefined,
      `must be constants.RSA_PKCS1_PADDING or RSA_PKCS1_PSS_PADDING, not ${inspect(padding)}`,
    );
  }
  const longest = modulusSize - of.size - 2;
  if (longest < 0) {
    throw invalidArgValue('algorithm', of.name, 'is too large for this key');
  }
  let salt = saltLength;
  // Node's constants of MAX_SIGN and AUTO are the same number.
  const autoSalt = verify && salt === constants.RSA_PSS_SALTLEN_AUTO;
  if (salt === constants.RSA_PSS_SALTLEN_DIGEST) salt = of.size;
  else if (salt === constants.RSA_PSS_SALTLEN_MAX_SIGN) salt = longest;
  else checkInteger(salt, 'options.saltLength', 0, longest);
  const parameters = u32s(of.mechanism, of.mgf, salt);
  return { mechanism: { id: Mechanism.RSA_PKCS_PSS, parameters }, prefix: Buffer.alloc(0), autoSalt };
}

/** Options of RSA OAEP, as those of node:crypto's `publicEncrypt`. */
export interface OaepOptions {
  /** 'sha1' unless told otherwise, as in Node. */
  oaepHash?: string | undefined;
  oaepLabel?: Uint8Array | undefined;
  signal?: AbortSignal | undefined;
}

export const OAEP_OPTIONS = ['oaepHash', 'oaepLabel', 'signal'];

/** @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE */
function oaepParameters({ oaepHash = 'sha1', oaepLabel }: OaepOptions): {
  of: Digest;
  parameters: Buffer;
} {
  const of = readDigest(oaepHash, 'options.oaepHash');
  const label = oaepLabel === undefined ? Buffer.alloc(0) : readBytes(oaepLabel, 'options.oaepLabel');
  return { of, parameters: pack(of.mechanism, of.mgf, LABEL_SPECIFIED, label.length, label) };
}

export function oaep(options: OaepOptions): { of: Digest; mechanism: MechanismWithParameters } {
  const { of, parameters } = oaepParameters(options);
  return { of, mechanism: { id: Mechanism.RSA_PKCS_OAEP, parameters } };
}

/** RSA and an AES key of its own: wraps keys of any size. */
export function rsaAesWrap(options: OaepOptions): MechanismWithParameters {
  const { parameters } = oaepParameters(options);
  return { id: Mechanism.RSA_AES_KEY_WRAP, parameters: pack(256, parameters) };
}

/** Options of ciphers, as of node:crypto's `createCipheriv`. */
export interface CipherOptions {
  /** The initialization vector: 16 bytes of CBC and CTR, 1 to 256 of GCM (12 are best). */
  iv: Uint8Array;
  /** Of GCM: data that is authenticated, not encrypted. */
  aad?: Uint8Array | undefined;
  /** Of GCM: bytes of the tag, 12 to 16; 16 unless told otherwise. */
  authTagLength?: number | undefined;
  /** Of CBC: PKCS #7 padding, true unless told otherwise (Node's `setAutoPadding`). */
  autoPadding?: boolean | undefined;
  /** Aborts it while it waits for its turn, or between two parts of large data. */
  signal?: AbortSignal | undefined;
}

export const CIPHER_OPTIONS = ['iv', 'aad', 'authTagLength', 'autoPadding', 'signal'];
export const BLOCK = 16;

export interface Cipher {
  readonly mode: 'gcm' | 'cbc' | 'ctr';
  readonly mechanism: MechanismWithParameters;
  /** Bytes of the tag; 0 if there is none. */
  readonly tag: number;
}

const NO_BYTES = Buffer.alloc(0);

/**
 * @param keySize of the AES key, in bytes
 * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE; RangeError ERR_OUT_OF_RANGE
 */
export function readCipher(algorithm: unknown, options: CipherOptions, keySize: number): Cipher {
  const name = checkString(algorithm, 'algorithm');
  const [, bits, found] = /^aes-?(128|192|256)-(gcm|cbc|ctr)$/.exec(name.toLowerCase()) ?? [];
  const mode = found as Cipher['mode'] | undefined;
  if (mode === undefined)
    throw invalidArgValue('algorithm', name, "must be like 'aes-256-gcm': gcm, cbc or ctr");
  if (Number(bits) !== keySize * 8) {
    throw invalidArgValue('algorithm', name, `must have the ${keySize * 8} bits of the key`);
  }
  const iv = readBytes(options.iv, 'options.iv');
  const { aad, authTagLength = 16 } = options;
  if (mode === 'gcm') {
    if (iv.length < 1 || iv.length > 256) {
      throw invalidArgValue('options.iv', undefined, `must have 1 to 256 bytes, not ${iv.length}`);
    }
    // Any other size makes the TA panic, for all of its clients (as of OP-TEE 4.10).
    checkInteger(authTagLength, 'options.authTagLength', 12, 16);
    const data = aad === undefined ? NO_BYTES : readBytes(aad, 'options.aad');
    const parameters = pack(iv.length, iv, data.length, data, authTagLength * 8);
    return { mode, mechanism: { id: Mechanism.AES_GCM, parameters }, tag: authTagLength };
  }
  if (iv.length !== BLOCK) {
    throw invalidArgValue('options.iv', undefined, `must have ${BLOCK} bytes, not ${iv.length}`);
  }
  if (aad !== undefined) throw invalidArgValue('options.aad', undefined, 'is for GCM only');
  if (options.authTagLength !== undefined)
    throw invalidArgValue('options.authTagLength', undefined, 'is for GCM only');
  if (mode === 'cbc') return { mode, mechanism: { id: Mechanism.AES_CBC, parameters: iv }, tag: 0 };
  return { mode, mechanism: { id: Mechanism.AES_CTR, parameters: pack(1, iv) }, tag: 0 };
}

/** @param point uncompressed, of a key that node:crypto has checked: a point off the curve makes the TA panic */
export function ecdh(point: Buffer): MechanismWithParameters {
  return { id: Mechanism.ECDH1_DERIVE, parameters: pack(KDF_NULL, 0, point.length, point) };
}

/** Ed25519 as it is: no context, no hash before it. */
export const EDDSA: MechanismWithParameters = { id: Mechanism.EDDSA, parameters: u32s(0, 0) };

/**
 * Bytes of the caller's, copied: an operation can wait for its turn.
 * @throws TypeError ERR_INVALID_ARG_TYPE, which does not show them
 */
export function readBytes(value: unknown, name: string): Buffer {
  if (ArrayBuffer.isView(value)) {
    return Buffer.from(Buffer.from(value.buffer, value.byteOffset, value.byteLength));
  }
  if (value instanceof ArrayBuffer) return Buffer.from(new Uint8Array(value));
  throw invalidArgType(name, 'a Uint8Array', value, true);
}

/** PKCS #7 padding. */
export function pad(data: Buffer): Buffer {
  const size = BLOCK - (data.length % BLOCK);
  return Buffer.concat([data, Buffer.alloc(size, size)]);
}

/**
 * Takes PKCS #7 padding off. As with any padding that is not authenticated, whoever can try texts and see whether this
 * fails learns the plain text: use GCM.
 * @returns undefined if there is none
 */
export function unpad(data: Buffer): Buffer | undefined {
  const size = data.at(-1) ?? 0;
  if (size < 1 || size > BLOCK || size > data.length) return undefined;
  const end = data.length - size;
  return data.subarray(end).every((byte) => byte === size) ? data.subarray(0, end) : undefined;
}
