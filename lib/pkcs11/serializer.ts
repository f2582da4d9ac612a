/** Bytes to and from the PKCS#11 TA: packed little-endian u32s, and what they are the length of. Pure. */
import { UNAVAILABLE } from './constants.js';
import { badAnswer } from './errors.js';

/** What an attribute can be written as: CK_BBOOL (1 byte), CK_ULONG (4 bytes), or bytes. */
export type AttributeValue = boolean | number | Uint8Array;

/** Attributes of an object that is made or looked for; undefined is left out. */
export type Template = readonly (readonly [attribute: number, value: AttributeValue | undefined])[];

/** A mechanism and its parameters. */
export interface MechanismWithParameters {
  readonly id: number;
  readonly parameters?: Uint8Array;
}

/** One u32 after the other. */
export function u32s(...numbers: readonly number[]): Buffer {
  const bytes = Buffer.alloc(numbers.length * 4);
  numbers.forEach((number, i) => bytes.writeUInt32LE(number, i * 4));
  return bytes;
}

/**
 * One piece after the other: numbers as u32, bytes as they are. The pieces are copied into one array, so there is one copy
 * of a secret to wipe.
 */
export function pack(...pieces: readonly (number | Uint8Array)[]): Buffer {
  const size = pieces.reduce<number>((sum, piece) => sum + (typeof piece === 'number' ? 4 : piece.length), 0);
  const bytes = Buffer.alloc(size);
  let at = 0;
  for (const piece of pieces) {
    if (typeof piece === 'number') at = bytes.writeUInt32LE(piece, at);
    else {
      bytes.set(piece, at);
      at += piece.length;
    }
  }
  return bytes;
}

/** A mechanism with its parameters (struct pkcs11_attribute_head). */
export function encodeMechanism({ id, parameters = new Uint8Array(0) }: MechanismWithParameters): Buffer {
  return pack(id, parameters.length, parameters);
}

function attributeBytes(value: AttributeValue): Uint8Array {
  if (typeof value === 'boolean') return Uint8Array.of(value ? 1 : 0);
  return typeof value === 'number' ? u32s(value) : value;
}

/** Attributes with their values (struct pkcs11_object_head). */
export function encodeTemplate(template: Template): Buffer {
  const pieces: (number | Uint8Array)[] = [];
  let count = 0;
  for (const [id, value] of template) {
    if (value === undefined) continue;
    const bytes = attributeBytes(value);
    pieces.push(id, bytes.length, bytes);
    count++;
  }
  const attributes = pack(...pieces);
  return pack(attributes.length, count, attributes);
}

/** An attribute that is asked for, with room for its value; 0 asks for its size. */
export interface Wanted {
  readonly id: number;
  readonly room: number;
}

/** What is asked for, with room for the values (struct pkcs11_object_head). */
export function encodeWanted(wanted: readonly Wanted[]): Buffer {
  return encodeTemplate(wanted.map(({ id, room }) => [id, Buffer.alloc(room)]));
}

/** The form of an answer to `encodeWanted`: by the sizes that were asked for, since the answer's own can be anything. */
function* walk(
  answer: Uint8Array,
  wanted: readonly Wanted[],
  asked: string,
): Generator<{ id: number; size: number; room: Buffer }> {
  const bytes = Buffer.from(answer.buffer, answer.byteOffset, answer.length);
  const expected = wanted.reduce((sum, { room }) => sum + 8 + room, 8);
  if (bytes.length < expected) throw badAnswer(asked, `it has ${bytes.length} bytes instead of ${expected}`);
  const [size, count] = [bytes.readUInt32LE(0), bytes.readUInt32LE(4)];
  if (size !== expected - 8 || count !== wanted.length) {
    throw badAnswer(
      asked,
      `it says ${count} attributes of ${size} bytes instead of ${wanted.length} of ${expected - 8}`,
    );
  }
  let at = 8;
  for (const { id, room } of wanted) {
    const found = bytes.readUInt32LE(at);
    if (found !== id)
      throw badAnswer(asked, `attribute 0x${found.toString(16)} instead of 0x${id.toString(16)}`);
    yield { id, size: bytes.readUInt32LE(at + 4), room: bytes.subarray(at + 8, at + 8 + room) };
    at += 8 + room;
  }
}

/** A size that no attribute of this TA reaches: its heap is smaller. */
const MAX_ATTRIBUTE_SIZE = 1 << 20;

/**
 * The sizes of attributes, from the answer to a request with no room.
 * @returns without those that the object does not have or does not give away
 * @throws ERR_PKCS11_ANSWER
 */
export function decodeSizes(answer: Uint8Array, wanted: readonly Wanted[], asked: string): Wanted[] {
  const sizes: Wanted[] = [];
  for (const { id, size } of walk(answer, wanted, asked)) {
    if (size === UNAVAILABLE) continue;
    if (size > MAX_ATTRIBUTE_SIZE) {
      throw badAnswer(asked, `attribute 0x${id.toString(16)} has ${size} bytes`);
    }
    sizes.push({ id, room: size });
  }
  return sizes;
}

/**
 * The values of attributes.
 * @returns copies, without those that the object does not have or does not give away
 * @throws ERR_PKCS11_ANSWER
 */
export function decodeAttributes(
  answer: Uint8Array,
  wanted: readonly Wanted[],
  asked: string,
): Map<number, Buffer> {
  const values = new Map<number, Buffer>();
  for (const { id, size, room } of walk(answer, wanted, asked)) {
    if (size === UNAVAILABLE) continue;
    if (size > room.length) {
      throw badAnswer(
        asked,
        `attribute 0x${id.toString(16)} has ${size} bytes where ${room.length} were asked for`,
      );
    }
    values.set(id, Buffer.from(room.subarray(0, size)));
  }
  return values;
}

/**
 * An array of u32.
 * @throws ERR_PKCS11_ANSWER where the bytes are no whole number of them
 */
export function decodeU32s(answer: Uint8Array, asked: string): number[] {
  if (answer.length % 4 !== 0) throw badAnswer(asked, `${answer.length} bytes are no whole number of u32`);
  const bytes = Buffer.from(answer.buffer, answer.byteOffset, answer.length);
  return Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readUInt32LE(i * 4));
}

/**
 * So many u32, no more and no less.
 * @throws ERR_PKCS11_ANSWER
 */
export function decodeHandles(answer: Uint8Array, count: number, asked: string): number[] {
  const handles = decodeU32s(answer, asked);
  if (handles.length !== count) throw badAnswer(asked, `${handles.length} handles instead of ${count}`);
  return handles;
}

/** The handle of one thing. @throws ERR_PKCS11_ANSWER */
export function decodeHandle(answer: Uint8Array, asked: string): number {
  return decodeHandles(answer, 1, asked)[0] as number;
}

/** What a token says of itself. Source: `struct pkcs11_token_info`. */
export interface RawTokenInfo {
  readonly label: string;
  readonly manufacturer: string;
  readonly model: string;
  readonly serialNumber: string;
  readonly flags: number;
  readonly sessions: number;
}

export const TOKEN_INFO_SIZE = 160;
export const LABEL_SIZE = 32;

/** @throws ERR_PKCS11_ANSWER */
export function decodeTokenInfo(answer: Uint8Array, asked: string): RawTokenInfo {
  if (answer.length !== TOKEN_INFO_SIZE) {
    throw badAnswer(asked, `it has ${answer.length} bytes instead of ${TOKEN_INFO_SIZE}`);
  }
  const bytes = Buffer.from(answer.buffer, answer.byteOffset, answer.length);
  const text = (from: number, size: number): string =>
    bytes
      .toString('utf8', from, from + size)
      .replace(/\0.*$/s, '')
      .trimEnd();
  return {
    label: text(0, LABEL_SIZE),
    manufacturer: text(32, 32),
    model: text(64, 16),
    serialNumber: text(80, 16),
    flags: bytes.readUInt32LE(96),
    sessions: bytes.readUInt32LE(104),
  };
}

/** A token's label: UTF-8, filled up with spaces. The caller has checked its size. */
export function encodeLabel(label: string): Buffer {
  const bytes = Buffer.alloc(LABEL_SIZE, ' ');
  bytes.write(label, 'utf8');
  return bytes;
}
