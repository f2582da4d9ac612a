/** Who somebody is to a token: a PIN, or an identity that the kernel vouches for. */
import { createHash } from 'node:crypto';
import { invalidArgType, invalidArgValue } from '../client/errors.js';
import { Login } from '../client/login.js';
import { formatUuid, parseUuid } from '../client/uuid.js';
import { checkKnown, checkU32 } from '../client/validate.js';
import { PIN_SIZE } from './constants.js';

/** The effective user of this process, or a group that it is a member of. */
export type Identity =
  | { readonly identity: 'user' }
  | {
      readonly identity: 'group';
      /** The group's id, u32. */
      readonly gid: number;
    };

/** A user of the machine, or a group: this process need not be either. */
export type NamedIdentity =
  | {
      readonly identity: 'user';
      /** The user's id, u32; that of this process unless told otherwise. */
      readonly uid?: number | undefined;
    }
  | { readonly identity: 'group'; readonly gid: number };

/** A PIN: text (its UTF-8), or bytes. */
export type Pin = string | Uint8Array;

/** What the TA takes for an identity: never to be sent as a PIN, which it would become for everybody. */
const IDENTITY_FORM = /^(public$|user:|group:)/;

/**
 * A PIN's bytes, copied. No error shows them.
 * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
 */
export function readPin(pin: unknown, name: string): Buffer {
  if (typeof pin !== 'string' && !(pin instanceof Uint8Array)) {
    throw invalidArgType(name, 'a string or a Uint8Array', pin, true);
  }
  const bytes = typeof pin === 'string' ? Buffer.from(pin, 'utf8') : Buffer.from(pin);
  const { min, max } = PIN_SIZE;
  const problem =
    bytes.length < min || bytes.length > max
      ? `must have ${min} to ${max} bytes, not ${bytes.length}`
      : IDENTITY_FORM.test(bytes.toString('latin1'))
        ? "must not look like an identity ('public', 'user:…', 'group:…')"
        : undefined;
  if (problem === undefined) return bytes;
  bytes.fill(0);
  throw invalidArgValue(name, undefined, problem);
}

/**
 * Reads two PINs, and wipes the copies when their use has ended, in whatever way.
 * @throws (rejects with) as `readPin`; what `use` rejects with
 */
export async function withPins<T>(
  [first, firstName]: readonly [pin: unknown, name: string],
  [second, secondName]: readonly [pin: unknown, name: string],
  use: (first: Buffer, second: Buffer) => Promise<T>,
): Promise<T> {
  const one = readPin(first, firstName);
  try {
    const two = readPin(second, secondName);
    try {
      return await use(one, two);
    } finally {
      two.fill(0);
    }
  } finally {
    one.fill(0);
  }
}

/** Options with a PIN among them: what is no object can be the PIN itself, and is not shown. */
export function checkSecretOptions(options: unknown, name: string, names: readonly string[]): void {
  if (typeof options !== 'object' || options === null) throw invalidArgType(name, 'an object', options, true);
  checkKnown(options, name, names);
}

/** @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE; RangeError ERR_OUT_OF_RANGE */
export function readIdentity(value: Identity, name: string): Login {
  switch (checkIdentity(value, name)) {
    case 'user':
      return Login.user;
    case 'group':
      return Login.group(checkU32((value as { gid?: unknown }).gid, `${name}.gid`));
  }
}

function checkIdentity(value: unknown, name: string): 'user' | 'group' {
  if (typeof value !== 'object' || value === null) throw invalidArgType(name, 'an object', value);
  const { identity } = value as { identity?: unknown };
  if (identity !== 'user' && identity !== 'group') {
    throw invalidArgValue(`${name}.identity`, identity, "must be 'user' or 'group'");
  }
  return identity;
}

/** The namespace of the kernel's client UUIDs. Source: `tee_client_uuid_ns` in drivers/tee/tee_core.c */
const NAMESPACE = parseUuid('58ac9ca0-2086-4683-a1b8-ec4bc08e01b6');

/** The version 5 UUID that the kernel makes of a user or a group. */
export function clientUuid(kind: 'uid' | 'gid', id: number): string {
  const hash = createHash('sha1')
    .update(NAMESPACE)
    .update(`${kind}=${id.toString(16)}`)
    .digest();
  hash.writeUInt8((hash.readUInt8(6) & 0x0f) | 0x50, 6);
  hash.writeUInt8((hash.readUInt8(8) & 0x3f) | 0x80, 8);
  return formatUuid(new Uint8Array(hash.subarray(0, 16)));
}

/**
 * An identity as the TA reads it where a PIN would be. It is always well formed: what is not, the TA would take for a PIN.
 * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE; RangeError ERR_OUT_OF_RANGE
 */
export function identityPin(value: NamedIdentity, name: string): Buffer {
  if (checkIdentity(value, name) === 'group') {
    const { gid } = value as { gid?: unknown };
    return Buffer.from(`group:${clientUuid('gid', checkU32(gid, `${name}.gid`))}`);
  }
  const { uid = process.geteuid?.() } = value as { uid?: unknown };
  return Buffer.from(`user:${clientUuid('uid', checkU32(uid, `${name}.uid`))}`);
}
