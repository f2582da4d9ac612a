/** Text as UTF-8 without a NUL. */
import { TextDecoder } from 'node:util';
import { invalidArgValue, outOfRange } from '../client/errors.js';
import { checkString } from '../client/validate.js';
import { badOutput } from './bad-output.js';

/**
 * The bytes of a text.
 * @param max how many there can be
 * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE; RangeError ERR_OUT_OF_RANGE
 */
export function encodeText(value: unknown, max: number, place: string): Uint8Array {
  const text = checkString(value, place);
  // A text has no fewer bytes than units of UTF-16.
  const size = text.length > max ? text.length : Buffer.byteLength(text);
  if (size > max) throw outOfRange(place, `at most ${max} bytes of UTF-8`, size);
  if (text.includes('\0'))
    throw invalidArgValue(place, undefined, 'must not contain a NUL, which ends a text in C');
  if (/\p{Surrogate}/u.test(text)) {
    throw invalidArgValue(place, undefined, 'has half of a surrogate pair, which has no UTF-8');
  }
  return Buffer.from(text);
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * The text of bytes of a TA's.
 * @throws Error ERR_TEE_BAD_OUTPUT
 */
export function decodeText(bytes: Uint8Array, place: string): string {
  if (bytes.includes(0)) throw badOutput(place, 'has a NUL');
  try {
    return decoder.decode(bytes);
  } catch {
    throw badOutput(place, 'is no UTF-8');
  }
}
