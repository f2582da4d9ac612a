/** What keys are made of that are generated, imported, unwrapped or derived. */
import { invalidArgValue } from '../client/errors.js';
import { checkInteger } from '../client/validate.js';
import { Attribute, KeyType, ObjectClass } from './constants.js';
import {
  classAttribute,
  otherUsages,
  protection,
  readNew,
  readUsages,
  usageAttributes,
  type KeyUsage,
  type NewKeyOptions,
  type NewObject,
  type NewObjectOptions,
  type ReadNew,
} from './new-objects.js';
import type { Template } from './serializer.js';

/** The kinds of key pairs that the TA has. */
export type PairType = 'ec' | 'ed25519' | 'rsa';

/** What a key is for, unless told otherwise, and what it can be for. Of a pair, the private key. */
interface Usages {
  readonly usual: readonly KeyUsage[];
  readonly allowed: readonly KeyUsage[];
}

const PAIR_USAGES: Record<PairType, Usages> = {
  ec: { usual: ['sign', 'derive'], allowed: ['sign', 'derive'] },
  ed25519: { usual: ['sign'], allowed: ['sign'] },
  rsa: { usual: ['sign', 'decrypt'], allowed: ['sign', 'decrypt', 'unwrap'] },
};

const SECRET_USAGES: Record<'aes' | 'hmac', Usages> = {
  aes: { usual: ['encrypt', 'decrypt'], allowed: ['encrypt', 'decrypt', 'wrap', 'unwrap'] },
  hmac: { usual: ['sign', 'verify'], allowed: ['sign', 'verify'] },
};

function publicTemplate({ attributes }: ReadNew, usages: readonly KeyUsage[], ofKey: Template): Template {
  return [
    ...classAttribute(ObjectClass.PUBLIC_KEY),
    ...attributes,
    [Attribute.PRIVATE, false],
    ...usageAttributes(usages),
    ...ofKey,
  ];
}

function privateTemplate(
  { attributes }: ReadNew,
  options: NewKeyOptions,
  usages: readonly KeyUsage[],
  ofKey: Template,
): Template {
  return [
    ...classAttribute(ObjectClass.PRIVATE_KEY),
    ...attributes,
    ...protection(options),
    ...usageAttributes(usages),
    ...ofKey,
  ];
}

/**
 * A public key alone.
 * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
 */
export function newPublicKey(
  type: PairType,
  options: NewObjectOptions & { usages?: unknown },
  ofKey: Template,
): NewObject {
  const { usual, allowed } = PAIR_USAGES[type];
  const usages = readUsages(options.usages, otherUsages(usual), otherUsages(allowed));
  const read = readNew(options);
  return { template: publicTemplate(read, usages, ofKey), token: read.token, signal: read.signal };
}

/**
 * A private key alone.
 * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
 */
export function newPrivateKey(type: PairType, options: NewKeyOptions, ofKey: Template): NewObject {
  const { usual, allowed } = PAIR_USAGES[type];
  const usages = readUsages(options.usages, usual, allowed);
  const read = readNew(options);
  const template = privateTemplate(read, options, usages, ofKey);
  return { template, token: read.token, signal: read.signal };
}

/**
 * The two sides of a key pair, the public one first. Both have the same id and label.
 * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
 */
export function newPair(
  type: PairType,
  options: NewKeyOptions,
  ofPublicKey: Template,
  ofPrivateKey: Template,
): Omit<NewObject, 'template'> & { templates: readonly [Template, Template] } {
  const { usual, allowed } = PAIR_USAGES[type];
  const usages = readUsages(options.usages, usual, allowed);
  const read = readNew(options);
  const templates = [
    publicTemplate(read, otherUsages(usages), ofPublicKey),
    privateTemplate(read, options, usages, ofPrivateKey),
  ] as const;
  return { templates, token: read.token, signal: read.signal };
}

/** HMAC keys of more bytes than this the TA does not make. */
export const MAX_SECRET = 512;

/** What a secret key is, beside the options of every key. */
interface SecretKeyKind {
  readonly type: unknown;
  /** In bits. */
  readonly length?: unknown;
}

/**
 * A secret key.
 * @param most bytes that it can have
 * @param sized must its length be given, or is it found
 * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE; RangeError ERR_OUT_OF_RANGE
 */
export function newSecretKey(
  options: NewKeyOptions & SecretKeyKind,
  most = MAX_SECRET,
  sized = true,
): NewObject {
  const { type, length, usages } = options;
  if (type !== 'aes' && type !== 'hmac')
    throw invalidArgValue('options.type', type, "must be 'aes' or 'hmac'");
  const bytes = sized || length !== undefined ? secretSize(type, length, most) : undefined;
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
