/** Operations of the TA with data: in one part, or in parts where there is more. Each runs in one turn. */
import { setImmediate } from 'node:timers/promises';
import { createHash } from 'node:crypto';
import { AbortError } from '../client/errors.js';
import type { Turn } from './application.js';
import { CKR, Command } from './constants.js';
import { badAnswer, isResult } from './errors.js';
import { readBytes, type Digest } from './mechanisms.js';
import { encodeMechanism, pack, u32s, type MechanismWithParameters } from './serializer.js';
import type { Question } from './wire.js';

/** Bytes of data that go to the TA at once. Each is temporary memory of the TEE. */
const PART = 64 * 1024;

/** The commands of an operation that takes data. */
interface Commands {
  readonly init: Command;
  readonly oneShot: Command;
  readonly update: Command;
  readonly final: Command;
}

const SIGN: Commands = {
  init: Command.SIGN_INIT,
  oneShot: Command.SIGN_ONESHOT,
  update: Command.SIGN_UPDATE,
  final: Command.SIGN_FINAL,
};
const VERIFY: Commands = {
  init: Command.VERIFY_INIT,
  oneShot: Command.VERIFY_ONESHOT,
  update: Command.VERIFY_UPDATE,
  final: Command.VERIFY_FINAL,
};
const DIGEST: Commands = {
  init: Command.DIGEST_INIT,
  oneShot: Command.DIGEST_ONESHOT,
  update: Command.DIGEST_UPDATE,
  final: Command.DIGEST_FINAL,
};
const ENCRYPT: Commands = {
  init: Command.ENCRYPT_INIT,
  oneShot: Command.ENCRYPT_ONESHOT,
  update: Command.ENCRYPT_UPDATE,
  final: Command.ENCRYPT_FINAL,
};
const DECRYPT: Commands = {
  init: Command.DECRYPT_INIT,
  oneShot: Command.DECRYPT_ONESHOT,
  update: Command.DECRYPT_UPDATE,
  final: Command.DECRYPT_FINAL,
};

/** Bytes, or a stream or other async iterable of them. */
export type Data = Uint8Array | AsyncIterable<Uint8Array>;

/** Data, read once: all of it, or its parts as they come. */
export type Bytes = Buffer | AsyncIterable<Buffer>;

/**
 * Data of the caller's, copied.
 * @throws TypeError ERR_INVALID_ARG_TYPE; a stream throws it when it comes to a part that is not bytes
 */
export function readData(data: unknown, name: string): Bytes {
  return typeof data === 'object' && data !== null && Symbol.asyncIterator in data
    ? partsOf(data as AsyncIterable<unknown>, `a part of ${name}`)
    : readBytes(data, name);
}

async function* partsOf(data: AsyncIterable<unknown>, name: string): AsyncGenerator<Buffer> {
  for await (const part of data) yield readBytes(part, name);
}

/** What all operations are told. */
export interface Operation {
  readonly turn: Turn;
  readonly key: number;
  readonly mechanism: MechanismWithParameters;
  readonly asked: string;
  readonly signal?: AbortSignal | undefined;
}

function init({ init: command }: Commands, { turn, key, mechanism, asked }: Operation): Question {
  const encoded = encodeMechanism(mechanism);
  const control =
    command === Command.DIGEST_INIT ? pack(turn.handle, encoded) : pack(turn.handle, key, encoded);
  return { command, control, asked };
}

function checkAborted({ signal, asked }: Pick<Operation, 'signal' | 'asked'>): void {
  if (signal?.aborted === true)
    throw new AbortError(signal.reason, asked, undefined, 'was ended between two parts');
}

/** What an operation sends and gets besides data. */
type Besides = Pick<Question, 'room' | 'signature' | 'secret'>;

/**
 * Sends data in parts.
 * @param last of the last step
 * @param each of the step with a part of so many bytes
 * @returns what each step brought back
 */
async function inParts(
  commands: Commands,
  operation: Operation,
  data: Iterable<Buffer> | AsyncIterable<Buffer>,
  last: Besides,
  each: (size: number) => Besides = () => ({}),
): Promise<Buffer> {
  const { turn, asked } = operation;
  // (A control block is wiped when it was sent with a secret: each step has its own.)
  const { update, final } = commands;
  const step = (command: Command, data: Buffer | undefined, besides: Besides): Promise<Uint8Array> =>
    turn.step({ command, control: u32s(turn.handle), data, asked, ...besides }, final);
  await turn.step(init(commands, operation), final);
  turn.begun = true; // a stream gives its parts once
  const outputs: Uint8Array[] = [];
  for await (const all of data) {
    for (let at = 0; at < all.length; at += PART) {
      checkAborted(operation);
      const part = all.subarray(at, at + PART);
      outputs.push(await step(update, part, each(part.length)));
    }
  }
  checkAborted(operation);
  outputs.push(await step(final, undefined, last));
  return Buffer.concat(outputs);
}

async function whole(
  commands: Commands,
  operation: Operation,
  data: Buffer,
  besides: Besides,
): Promise<Buffer> {
  const { turn, asked } = operation;
  const shot = { command: commands.oneShot, control: u32s(turn.handle), data, asked, ...besides };
  return Buffer.from(await turn.oneShot(init(commands, operation), shot));
}

/** In one part where it fits, and where the mechanism takes no parts: EdDSA, and RSA with parameters. */
function run(commands: Commands, operation: Operation, data: Bytes, besides: Besides): Promise<Buffer> {
  if (!Buffer.isBuffer(data)) return inParts(commands, operation, data, besides);
  return data.length <= PART || operation.mechanism.parameters !== undefined
    ? whole(commands, operation, data, besides)
    : inParts(commands, operation, [data], besides);
}

/**
 * What came back, where its size is known: part of a signature, say, must not be taken for one.
 * @throws ERR_PKCS11_ANSWER
 */
export function ofSize<T extends Uint8Array>(output: T, size: number, asked: string): T {
  if (output.length !== size) throw badAnswer(asked, `it has ${output.length} bytes instead of ${size}`);
  return output;
}

/** Signs what the mechanism takes: a digest, or for HMAC and EdDSA the data. */
export async function sign(operation: Operation, data: Bytes, size: number): Promise<Buffer> {
  return ofSize(await run(SIGN, operation, data, { room: size }), size, operation.asked);
}

/** @returns is the signature right */
export async function verify(operation: Operation, data: Bytes, signature: Buffer): Promise<boolean> {
  try {
    await run(VERIFY, operation, data, { signature });
    return true;
  } catch (error) {
    if (isResult(error, CKR.CKR_SIGNATURE_INVALID) || isResult(error, CKR.CKR_SIGNATURE_LEN_RANGE))
      return false;
    throw error;
  }
}

/** A digest that the TA computes. */
export async function digest(operation: Operation, data: Bytes, size: number): Promise<Buffer> {
  return ofSize(await run(DIGEST, operation, data, { room: size }), size, operation.asked);
}

/**
 * Encrypts or decrypts: what goes in or comes out is plain text, a secret.
 * @param extra bytes that can come out beyond those that go in
 * @param parts can it be done in parts
 * @param size of what comes out, where it is known
 */
export async function cipher(
  direction: 'encrypt' | 'decrypt',
  operation: Operation,
  data: Buffer,
  { extra, parts, size }: { extra: number; parts: boolean; size?: number },
): Promise<Buffer> {
  const commands = direction === 'encrypt' ? ENCRYPT : DECRYPT;
  const besides = (bytes: number): Besides => ({ room: bytes + extra, secret: true });
  const output = await (parts && data.length > PART
    ? inParts(commands, operation, [data], besides(0), besides)
    : whole(commands, operation, data, besides(data.length)));
  return size === undefined ? output : ofSize(output, size, operation.asked);
}

/** Bytes of random that the TA gives at once: it has them in its heap first. */
const RANDOM_PART = 2048;

/** Random bytes of the TEE. */
export async function random(
  operation: Pick<Operation, 'turn' | 'asked' | 'signal'>,
  size: number,
): Promise<Buffer> {
  const { turn, asked } = operation;
  const bytes = Buffer.alloc(size);
  for (let at = 0; at < size; at += RANDOM_PART) {
    checkAborted(operation);
    const room = Math.min(RANDOM_PART, size - at);
    const control = u32s(turn.handle);
    const part = await turn.ask({ command: Command.GENERATE_RANDOM, control, room, asked, secret: true });
    bytes.set(ofSize(part, room, asked), at);
  }
  return bytes;
}

/** Bytes that are hashed between two turns of the event loop: about a millisecond. */
const SLICE = 1 << 20;

/**
 * Hashes data in this process, which has the data anyway: only the digest goes to the TA. The event loop turns in between.
 * @param hashing takes it part by part
 */
export async function feed<T extends { update(part: Buffer): unknown }>(
  hashing: T,
  data: Bytes,
  operation: Pick<Operation, 'signal' | 'asked'>,
): Promise<T> {
  for await (const part of Buffer.isBuffer(data) ? [data] : data) {
    for (let at = 0; at < part.length; at += SLICE) {
      if (at > 0) await setImmediate();
      checkAborted(operation);
      hashing.update(part.subarray(at, at + SLICE));
    }
  }
  return hashing;
}

/** The digest of data, computed in this process. */
export async function hash(
  algorithm: Digest,
  data: Bytes,
  operation: Pick<Operation, 'signal' | 'asked'>,
): Promise<Buffer> {
  return (await feed(createHash(algorithm.name), data, operation)).digest();
}
