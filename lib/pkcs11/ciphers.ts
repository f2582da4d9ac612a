/** What an AES key encrypts and decrypts. */
import { invalidArgValue } from '../client/errors.js';
import { CKR } from './constants.js';
import { isResult, Pkcs11Error } from './errors.js';
import { BLOCK, pad, unpad, type Cipher } from './mechanisms.js';
import type { ObjectReference } from './objects.js';
import { cipher } from './operations.js';

/** Options of a cipher, read once. */
export interface ReadCipher {
  readonly how: Cipher;
  readonly signal: AbortSignal | undefined;
  /** PKCS #7, which this client puts on and takes off. */
  readonly padding: boolean;
}

/** @throws TypeError ERR_INVALID_ARG_VALUE; (rejects with) Pkcs11Error, … */
export async function encrypt(
  by: ObjectReference,
  { how, signal, padding }: ReadCipher,
  plain: Buffer,
): Promise<{ ciphertext: Buffer; authTag?: Buffer }> {
  const input = padding ? pad(plain) : plain;
  if (how.mode === 'cbc') checkBlocks(input);
  const asked = `encryption with ${by.toString()}`;
  const { mechanism, tag } = how;
  const output = await by.app.operate(
    async (turn) => {
      const key = await by.handle(turn, asked);
      const operation = { turn, key, mechanism, asked, signal };
      const size = input.length + tag;
      return cipher('encrypt', operation, input, { extra: BLOCK + tag, parts: true, size });
    },
    { asked, signal },
  );
  if (tag === 0) return { ciphertext: output };
  const end = output.length - tag;
  return { ciphertext: output.subarray(0, end), authTag: output.subarray(end) };
}

/** @throws TypeError ERR_INVALID_ARG_VALUE; (rejects with) Pkcs11Error, … */
export async function decrypt(
  by: ObjectReference,
  { how, signal, padding }: ReadCipher,
  given: Buffer,
  authTag: Buffer | undefined,
): Promise<Buffer> {
  const gcm = how.mode === 'gcm';
  if (gcm !== (authTag !== undefined) || (authTag?.length ?? 0) !== how.tag) {
    const expected = how.tag > 0 ? `${how.tag} bytes` : 'undefined';
    throw invalidArgValue('options.authTag', undefined, `must be ${expected}`);
  }
  if (how.mode === 'cbc') checkBlocks(given);
  const input = authTag === undefined ? given : Buffer.concat([given, authTag]);
  const asked = `decryption with ${by.toString()}`;
  let output: Buffer;
  try {
    output = await by.app.operate(
      async (turn) => {
        const key = await by.handle(turn, asked);
        const operation = { turn, key, mechanism: how.mechanism, asked, signal };
        return cipher('decrypt', operation, input, { extra: BLOCK, parts: !gcm, size: given.length });
      },
      { asked, signal },
    );
  } catch (error) {
    if (!gcm || !isResult(error, CKR.CKR_DEVICE_MEMORY)) throw error;
    const hint =
      'the TA keeps the text of a GCM decryption in its heap until all of it was found right: encrypt less at once, or ' +
      'build the TA with a larger CFG_PKCS11_TA_HEAP_SIZE';
    throw new Pkcs11Error({ value: error.value, asked, hint, cause: error });
  }
  if (!padding) return output;
  const plain = unpad(output);
  if (plain === undefined) {
    const hint = 'the padding is wrong: another key or iv, or the text was changed';
    throw new Pkcs11Error({ value: CKR.CKR_ENCRYPTED_DATA_INVALID, asked, hint });
  }
  return plain;
}

function checkBlocks(data: Buffer): void {
  if (data.length % BLOCK === 0) return;
  const problem = `must be a whole number of blocks of ${BLOCK} bytes, not ${data.length} bytes`;
  throw invalidArgValue('data', undefined, problem);
}
