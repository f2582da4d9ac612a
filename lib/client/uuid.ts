/**
 * UUIDs of Trusted Applications: any 16 bytes. The version and variant bits are not checked, because those of many TAs do
 * not follow RFC 4122.
 */
import { isUint8Array } from 'node:util/types';
import { invalidArgType, invalidArgValue } from './errors.js';
import { byteLengthOf } from './validate.js';

const PATTERN = /^([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})$/i;

/**
 * The 16 bytes of a UUID in the order in which they are written (big-endian), as the kernel expects them.
 * @param uuid 32 hexadecimal digits, with or without the usual dashes, upper or lower case; or the 16 bytes
 * @param name the parameter's name, for the messages of errors
 * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
 */
export function parseUuid(uuid: string | Uint8Array, name = 'uuid'): Uint8Array {
  if (typeof uuid === 'string') {
    const match = PATTERN.exec(uuid);
    if (match === null) {
      throw invalidArgValue(
        name,
        uuid,
        'must be 32 hexadecimal digits, like 8aaaf200-2450-11e4-abe2-0002a5d5c51b',
      );
    }
    return new Uint8Array(Buffer.from(match.slice(1).join(''), 'hex'));
  }
  if (isUint8Array(uuid)) {
    const length = byteLengthOf(uuid);
    if (length !== 16) throw invalidArgValue(name, uuid, `must have 16 bytes, not ${length}`);
    return new Uint8Array(uuid);
  }
  throw invalidArgType(name, 'a string or a Uint8Array of 16 bytes', uuid);
}

/**
 * A UUID as text: lower case, 8-4-4-4-12 digits.
 * @param bytes 16 bytes, big-endian
 */
export function formatUuid(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

/** A UUID as OP-TEE has it in memory and in ELF files, or back: its first three parts are little-endian numbers there. */
export function swapUuid(bytes: Uint8Array): Buffer {
  const swapped = Buffer.from(bytes);
  swapped.subarray(0, 4).reverse();
  swapped.subarray(4, 6).reverse();
  swapped.subarray(6, 8).reverse();
  return swapped;
}
