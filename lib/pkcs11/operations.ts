/** Operations of the TA with data: in one part, or in parts where there is more. Each runs in one turn. */
import { setImmediate } from 'node:timers/promises';
import { createHash } from 'node:crypto';
import { AbortError } from '../client/errors.js';
import type { Turn } from './application.js';
import { CKR, Command } from './constants.js';
import { isResult } from './errors.js';
import type { Digest } from './mechanisms.js';
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

function checkAborted({ signal, asked }: Operation): void {
  if (signal?.aborted === true)
    throw new AbortError(signal.reason, asked, undefined, 'was ended between two parts');
}

/** Sends data in parts. @returns what the last step brought back */
async function inParts(
  commands: Commands,
  operation: Operation,
  data: Iterable<Buffer> | AsyncIterable<Buffer>,
  last: Pick<Question, 'room' | 'signature'>,
): Promise<Uint8Array> {
  const { turn, asked } = operation;
  await turn.step(init(commands, operation));
  turn.begun = true; // a stream gives its parts once
  for await (const part of data) {
    for (let at = 0; at < part.length; at += PART) {
      checkAborted(operation);
      const control = u32s(turn.handle);
      await turn.step({ command: commands.update, control, data: part.subarray(at, at + PART), asked });
    }
  }
  checkAborted(operation);
  return turn.step({ command: commands.final, control: u32s(turn.handle), asked, ...last }, true);
}

function whole(
  commands: Commands,
  operation: Operation,
  data: Buffer,
  last: Pick<Question, 'room' | 'signature' | 'secret'>,
): Promise<Uint8Array> {
  const { turn, asked } = operation;
  const control = u32s(turn.handle);
  return turn.oneShot(init(commands, operation), {
    command: commands.oneShot,
    control,
    data,
    asked,
    ...last,
  });
}

/** Signs what the mechanism takes: a digest, or for HMAC and EdDSA the data. */
export async function sign(operation: Operation, data: Buffer, room: number): Promise<Buffer> {
  const inOnePart = data.length <= PART || operation.mechanism.parameters !== undefined;
  const signature = inOnePart
    ? await whole(SIGN, operation, data, { room })
    : await inParts(SIGN, operation, [data], { room });
  return Buffer.from(signature);
}

/** @returns is the signature right */
export async function verify(operation: Operation, data: Buffer, signature: Buffer): Promise<boolean> {
  const inOnePart = data.length <= PART || operation.mechanism.parameters !== undefined;
  try {
    if (inOnePart) await whole(VERIFY, operation, data, { signature });
    else await inParts(VERIFY, operation, [data], { signature });
    return true;
  } catch (error) {
    if (isResult(error, CKR.CKR_SIGNATURE_INVALID) || isResult(error, CKR.CKR_SIGNATURE_LEN_RANGE))
      return false;
    throw error;
  }
}

/** A digest that the TA computes. */
export async function digest(
  operation: Operation,
  data: Buffer | AsyncIterable<Buffer>,
  room: number,
): Promise<Buffer> {
  if (Buffer.isBuffer(data) && data.length <= PART)
    return Buffer.from(await whole(DIGEST, operation, data, { room }));
  return Buffer.from(await inParts(DIGEST, operation, Buffer.isBuffer(data) ? [data] : data, { room }));
}

/**
 * Encrypts or decrypts.
 * @param extra bytes that can come out beyond those that go in
 * @param secret is the data, or what comes out, a secret: it is when it is plain text
 */
export async function cipher(
  direction: 'encrypt' | 'decrypt',
  operation: Operation,
  data: Buffer,
  { extra, parts }: { extra: number; parts: boolean },
): Promise<Buffer> {
  const commands = direction === 'encrypt' ? ENCRYPT : DECRYPT;
  if (!parts || data.length <= PART) {
    return Buffer.from(await whole(commands, operation, data, { room: data.length + extra, secret: true }));
  }
  const { turn, asked } = operation;
  await turn.step(init(commands, operation));
  const found: Uint8Array[] = [];
  for (let at = 0; at < data.length; at += PART) {
    checkAborted(operation);
    turn.begun = true;
    const part = data.subarray(at, at + PART);
    const control = u32s(turn.handle);
    const room = part.length + extra;
    found.push(await turn.step({ command: commands.update, control, data: part, room, asked, secret: true }));
  }
  const control = u32s(turn.handle);
  found.push(await turn.step({ command: commands.final, control, room: extra, asked, secret: true }, true));
  return Buffer.concat(found);
}

/** Bytes that are hashed between two turns of the event loop: about a millisecond. */
const SLICE = 1 << 20;

/**
 * The digest of data, computed in this process, which has the data anyway: only the digest goes to the TA. The event loop
 * turns in between.
 */
export async function hash(algorithm: Digest, data: Buffer): Promise<Buffer> {
  const hashing = createHash(algorithm.name);
  for (let at = 0; at < data.length; at += SLICE) {
    if (at > 0) await setImmediate();
    hashing.update(data.subarray(at, at + SLICE));
  }
  return hashing.digest();
}
