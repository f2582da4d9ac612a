/** Keys that leave the TEE wrapped by another key, and come back. */
import { invalidArgValue } from '../client/errors.js';
import type { Application, Turn } from './application.js';
import { Command } from './constants.js';
import type { NewKeyOptions, NewObject } from './new-objects.js';
import { make, type ObjectReference } from './objects.js';
import { encodeMechanism, encodeTemplate, pack, type MechanismWithParameters } from './serializer.js';

/** How a key is unwrapped, and what it is. */
export interface UnwrapKeyOptions extends NewKeyOptions {
  /** What is in it. */
  type: 'aes' | 'hmac';
  /** Of the key, in bits. CBC needs it, because it fills up what it wraps with zeros. */
  length?: number | undefined;
}

/** How a private key is unwrapped: the TA does it with RSA keys only. */
export interface UnwrapPrivateKeyOptions extends NewKeyOptions {
  type: 'rsa';
}

/** Room for a wrapped key: the largest, a private RSA key, has less than 3 KiB. */
const WRAPPED_SIZE = 4096;

/** Wraps a key: a secret one, or a private one of RSA. */
export async function wrap(
  by: ObjectReference,
  mechanism: MechanismWithParameters,
  what: ObjectReference,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  if (what.app !== by.app) throw invalidArgValue('key', undefined, 'must be of the same login');
  const asked = `wrapping ${what.toString()} with ${by.toString()}`;
  return by.app.operate(
    async (turn) => {
      const handles = [await by.handle(turn, asked), await what.handle(turn, asked)];
      const control = pack(turn.handle, ...handles, encodeMechanism(mechanism));
      return Buffer.from(await turn.ask({ command: Command.WRAP_KEY, control, room: WRAPPED_SIZE, asked }));
    },
    { asked, signal },
  );
}

/**
 * Unwraps a key into the TEE.
 * @param at makes the object of its handle
 */
export async function unwrap<T>(
  by: ObjectReference,
  mechanism: MechanismWithParameters,
  wrapped: Buffer,
  { template, token, signal }: NewObject,
  at: (app: Application, turn: Turn, handle: number, asked: string) => Promise<T>,
): Promise<T> {
  const asked = `unwrapping a key with ${by.toString()}`;
  const { app } = by;
  return app.operate(
    async (turn) => {
      const key = await by.handle(turn, asked);
      const control = pack(turn.handle, key, encodeMechanism(mechanism), encodeTemplate(template));
      const handle = await make(turn, { command: Command.UNWRAP_KEY, control, data: wrapped, asked });
      return at(app, turn, handle, asked);
    },
    { asked, signal, home: !token },
  );
}
