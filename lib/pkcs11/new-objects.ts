/** Options of keys that are made, imported, unwrapped or derived, as attributes. */
import { randomBytes } from 'node:crypto';
import { invalidArgType, invalidArgValue } from '../client/errors.js';
import { checkBoolean, checkString } from '../client/validate.js';
import { Attribute, ObjectClass } from './constants.js';
import { readId, readSignal } from './objects.js';
import type { Template } from './serializer.js';

/** What every new object has. */
export interface NewObjectOptions {
  /** CKA_ID, by which it is found: bytes, or hexadecimal digits. Keys get 16 random bytes unless told otherwise. */
  id?: Uint8Array | string | undefined;
  /** CKA_LABEL: a name for people. */
  label?: string | undefined;
  /** CKA_TOKEN: true (the default) keeps it on the token; false ends it with the login. */
  token?: boolean | undefined;
  /** Aborts it while it waits for its turn. */
  signal?: AbortSignal | undefined;
}

/** What a key may be used for. */
export type KeyUsage = 'sign' | 'verify' | 'encrypt' | 'decrypt' | 'wrap' | 'unwrap' | 'derive';

/** What every new secret or private key has. */
export interface NewKeyOptions extends NewObjectOptions {
  /** CKA_EXTRACTABLE: may it leave the TEE wrapped by another key? False unless told otherwise, and then for good. */
  extractable?: boolean | undefined;
  /** CKA_SENSITIVE: its value is never read in plain text, also if it is extractable. True unless told otherwise. */
  sensitive?: boolean | undefined;
  /** What it may be used for. The public key of a pair gets the other side of each. */
  usages?: readonly KeyUsage[] | undefined;
}

export const NEW_OBJECT_OPTIONS = ['id', 'label', 'token', 'signal'];
export const NEW_KEY_OPTIONS = [...NEW_OBJECT_OPTIONS, 'extractable', 'sensitive', 'usages'];

/** Options of a new object, read once. */
export interface ReadNew {
  readonly token: boolean;
  readonly signal: AbortSignal | undefined;
  /** CKA_TOKEN, CKA_LABEL, CKA_ID */
  readonly attributes: Template;
}

/** What a new object is made of. */
export interface NewObject {
  readonly template: Template;
  readonly token: boolean;
  readonly signal: AbortSignal | undefined;
}

/** Text as an attribute; undefined is left out. @throws TypeError ERR_INVALID_ARG_TYPE */
export function readText(text: unknown, name: string): Buffer | undefined {
  return text === undefined ? undefined : Buffer.from(checkString(text, name), 'utf8');
}

/** @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE */
export function readNew(options: NewObjectOptions): ReadNew {
  const { id, label, token = true } = options;
  const bytes = id === undefined ? randomBytes(16) : readId(id, 'options.id');
  const text = readText(label, 'options.label');
  return {
    token: checkBoolean(token, 'options.token'),
    signal: readSignal(options),
    attributes: [
      [Attribute.TOKEN, token],
      [Attribute.LABEL, text],
      [Attribute.ID, bytes],
    ],
  };
}

const USAGES: Record<KeyUsage, { readonly own: number; readonly other?: KeyUsage }> = {
  sign: { own: Attribute.SIGN, other: 'verify' },
  verify: { own: Attribute.VERIFY, other: 'sign' },
  encrypt: { own: Attribute.ENCRYPT, other: 'decrypt' },
  decrypt: { own: Attribute.DECRYPT, other: 'encrypt' },
  wrap: { own: Attribute.WRAP, other: 'unwrap' },
  unwrap: { own: Attribute.UNWRAP, other: 'wrap' },
  derive: { own: Attribute.DERIVE },
};

/** @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE */
export function readUsages(
  usages: unknown,
  defaults: readonly KeyUsage[],
  allowed: readonly KeyUsage[],
): readonly KeyUsage[] {
  if (usages === undefined) return defaults;
  if (!Array.isArray(usages)) throw invalidArgType('options.usages', 'an array', usages);
  // What is checked is what is used, whatever the array says when it is read again.
  const given = Array.from<unknown>(usages);
  for (const usage of given) {
    if (!(allowed as readonly unknown[]).includes(usage)) {
      throw invalidArgValue('options.usages', usage, `can have ${allowed.join(', ')}`);
    }
  }
  return given as KeyUsage[];
}

export function usageAttributes(usages: readonly KeyUsage[]): Template {
  return usages.map((usage) => [USAGES[usage].own, true]);
}

/** The other side: what the public key of a private key may do. */
export function otherUsages(usages: readonly KeyUsage[]): KeyUsage[] {
  return usages.flatMap((usage) => USAGES[usage].other ?? []);
}

/**
 * The attributes that keep a private or secret key where it is. They are always sent: the TA's own defaults are others.
 * @throws TypeError ERR_INVALID_ARG_TYPE
 */
export function protection({ extractable = false, sensitive = true }: NewKeyOptions): Template {
  return [
    [Attribute.PRIVATE, true],
    [Attribute.SENSITIVE, checkBoolean(sensitive, 'options.sensitive')],
    [Attribute.EXTRACTABLE, checkBoolean(extractable, 'options.extractable')],
  ];
}

export const classAttribute = (objectClass: ObjectClass): Template => [[Attribute.CLASS, objectClass]];
