/** Public keys: between the attributes of a token and the KeyObject of node:crypto. */
import { createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto';
import { invalidArgValue } from '../client/errors.js';
import { Attribute, KeyType } from './constants.js';
import { contentOf, OCTET_STRING, writeElement } from './der.js';
import { badAnswer } from './errors.js';
import type { Attributes } from './objects.js';
import type { Template } from './serializer.js';

/** A curve, by the names of WebCrypto, OpenSSL and the token. */
export interface Curve {
  readonly name: 'P-256' | 'P-384' | 'P-521' | 'Ed25519';
  /** node:crypto's namedCurve */
  readonly openssl: string;
  /** CKA_EC_PARAMS: an object identifier, or a name, in DER. */
  readonly parameters: Buffer;
  /** Bytes of a coordinate, of r and of s. */
  readonly size: number;
}

const hex = (text: string): Buffer => Buffer.from(text, 'hex');

/** Source of the identifiers: RFC 5480; of Ed25519 as the TA knows it: PKCS #11 3.0, "edwards25519" and RFC 8410. */
const CURVES: readonly Curve[] = [
  { name: 'P-256', openssl: 'prime256v1', parameters: hex('06082a8648ce3d030107'), size: 32 },
  { name: 'P-384', openssl: 'secp384r1', parameters: hex('06052b81040022'), size: 48 },
  { name: 'P-521', openssl: 'secp521r1', parameters: hex('06052b81040023'), size: 66 },
  { name: 'Ed25519', openssl: 'ed25519', parameters: hex('130c656477617264733235353139'), size: 32 },
];
export const ED25519 = CURVES[3] as Curve;
/** What else stands for Ed25519: its object identifiers. */
const ED25519_ALSO = [hex('06032b6570'), hex('06092b06010401da470f01')];

/** @throws TypeError ERR_INVALID_ARG_VALUE */
export function readCurve(name: unknown, argument: string): Curve {
  const curve = CURVES.find((one) => one !== ED25519 && (one.name === name || one.openssl === name));
  if (curve === undefined) {
    throw invalidArgValue(argument, name, "must be 'P-256', 'P-384' or 'P-521' (or OpenSSL's name of it)");
  }
  return curve;
}

function curveOf(parameters: Buffer | undefined): Curve | undefined {
  if (parameters === undefined) return undefined;
  return (
    CURVES.find((curve) => curve.parameters.equals(parameters)) ??
    (ED25519_ALSO.some((also) => also.equals(parameters)) ? ED25519 : undefined)
  );
}

/** What a key is, public or private. */
export interface KeyKind {
  /** As node:crypto's `asymmetricKeyType`; 'unknown' for what this client cannot use. */
  readonly type: 'ec' | 'ed25519' | 'rsa' | 'unknown';
  readonly curve?: Curve | undefined;
  /** Bytes of the modulus. */
  readonly modulusSize?: number | undefined;
}

export function keyKind(attributes: Attributes): KeyKind {
  switch (attributes.number(Attribute.KEY_TYPE)) {
    case KeyType.RSA:
      return { type: 'rsa', modulusSize: attributes.bytes(Attribute.MODULUS)?.length };
    case KeyType.EC: {
      const curve = curveOf(attributes.bytes(Attribute.EC_PARAMS));
      return curve === undefined ? { type: 'unknown' } : { type: 'ec', curve };
    }
    case KeyType.EC_EDWARDS:
      return { type: 'ed25519', curve: ED25519 };
    default:
      return { type: 'unknown' };
  }
}

const url = (bytes: Buffer): string => bytes.toString('base64url');

/**
 * The public key in attributes; undefined if they do not have it, as those of an EC private key.
 * @throws ERR_PKCS11_ANSWER where the key is not well formed
 */
export function publicKeyOf(attributes: Attributes, kind: KeyKind, asked: string): KeyObject | undefined {
  const jwk = jwkOf(attributes, kind);
  if (jwk === undefined) return undefined;
  try {
    return createPublicKey({ key: jwk, format: 'jwk' });
  } catch (error) {
    throw badAnswer(asked, `its public key is not one: ${(error as Error).message}`);
  }
}

function jwkOf(attributes: Attributes, { type, curve }: KeyKind): JsonWebKey | undefined {
  if (type === 'rsa') {
    const n = attributes.bytes(Attribute.MODULUS);
    const e = attributes.bytes(Attribute.PUBLIC_EXPONENT);
    return n && e && { kty: 'RSA', n: url(n), e: url(e) };
  }
  const encoded = attributes.bytes(Attribute.EC_POINT);
  if (encoded === undefined || curve === undefined) return undefined;
  const { size } = curve;
  if (type === 'ed25519') {
    // This TA has the bytes as they are, others in an OCTET STRING.
    const point = encoded.length === size ? encoded : contentOf(encoded, OCTET_STRING);
    return point && { kty: 'OKP', crv: 'Ed25519', x: url(point) };
  }
  const point = contentOf(encoded, OCTET_STRING) ?? encoded;
  return {
    kty: 'EC',
    crv: curve.name,
    x: url(point.subarray(1, 1 + size)),
    y: url(point.subarray(1 + size)),
  };
}

/** A key of node:crypto's as the attributes of a token. */
export interface ImportedKey {
  readonly type: 'ec' | 'ed25519' | 'rsa';
  /** The attributes of the public key. */
  readonly publicAttributes: Template;
  /** Those of the private key; empty if it is none. They hold the secret. */
  readonly privateAttributes: Template;
}

/** @throws TypeError ERR_INVALID_ARG_VALUE for a kind of key that the TA does not have */
export function importKey(key: KeyObject, name: string): ImportedKey {
  const type = key.asymmetricKeyType;
  if (type !== 'ec' && type !== 'ed25519' && type !== 'rsa') {
    throw invalidArgValue(name, type, 'must be an EC, Ed25519 or RSA key');
  }
  const jwk = key.export({ format: 'jwk' });
  const isPrivate = key.type === 'private';
  const bytes = (text: string | undefined): Buffer => Buffer.from(text ?? '', 'base64url');
  if (type === 'rsa') {
    const both: Template = [
      [Attribute.KEY_TYPE, KeyType.RSA],
      [Attribute.MODULUS, bytes(jwk.n)],
      [Attribute.PUBLIC_EXPONENT, bytes(jwk.e)],
    ];
    const secret: Template = [
      [Attribute.PRIVATE_EXPONENT, bytes(jwk.d)],
      [Attribute.PRIME_1, bytes(jwk.p)],
      [Attribute.PRIME_2, bytes(jwk.q)],
      [Attribute.EXPONENT_1, bytes(jwk.dp)],
      [Attribute.EXPONENT_2, bytes(jwk.dq)],
      [Attribute.COEFFICIENT, bytes(jwk.qi)],
    ];
    return { type, publicAttributes: both, privateAttributes: isPrivate ? [...both, ...secret] : [] };
  }
  const curve = type === 'ed25519' ? ED25519 : readCurve(jwk.crv, `the curve of ${name}`);
  const both: Template = [
    [Attribute.KEY_TYPE, type === 'ed25519' ? KeyType.EC_EDWARDS : KeyType.EC],
    [Attribute.EC_PARAMS, curve.parameters],
  ];
  const x = bytes(jwk.x);
  const point = type === 'ed25519' ? x : writeElement(OCTET_STRING, ecPoint(jwk));
  const secret: Template = [
    [Attribute.VALUE, bytes(jwk.d)],
    [Attribute.EC_POINT, type === 'ed25519' ? point : undefined],
  ];
  return {
    type,
    publicAttributes: [...both, [Attribute.EC_POINT, point]],
    privateAttributes: isPrivate ? [...both, ...secret] : [],
  };
}

/** An uncompressed point. */
export function ecPoint({ x = '', y = '' }: JsonWebKey): Buffer {
  return Buffer.concat([Uint8Array.of(4), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')]);
}
