/** One call of the PKCS#11 TA. */
import { buffer } from '../client/parameters.js';
import { TeeError } from '../client/errors.js';
import type { Session } from '../client/session.js';
import { CKR, type Command } from './constants.js';
import { badAnswer, Pkcs11Error } from './errors.js';

/** What is asked of the TA. */
export interface Question {
  readonly command: Command;
  /** The control block, at least 4 bytes. */
  readonly control: Uint8Array;
  /** Parameter 1: data for the TA. */
  readonly data?: Uint8Array | undefined;
  /** Parameter 2: how many bytes there is room for. */
  readonly room?: number | undefined;
  /** Parameter 2: a signature for the TA. */
  readonly signature?: Uint8Array | undefined;
  /** In words, for errors. */
  readonly asked: string;
  /** There is a secret in it, or in its answer: the TEE's memory is wiped right after the call, and so is the control block. */
  readonly secret?: boolean | undefined;
}

const NOTHING = new Uint8Array(0);

/**
 * Calls the TA.
 * @returns what parameter 2 brought back; empty if it is no output
 * @throws (rejects with) Pkcs11Error for a result other than CKR_OK, unless it is one of `accepted`; ERR_PKCS11_ANSWER;
 *   what `Session.invoke` rejects with
 */
export async function ask(
  session: Session,
  { command, control, data, room, signature, asked, secret = false }: Question,
  accepted: readonly number[] = [],
): Promise<Uint8Array> {
  const second =
    signature === undefined ? (room === undefined ? undefined : buffer.out(room)) : buffer.in(signature);
  const params = [buffer.inout(control), data && buffer.in(data), second] as const;
  let result: Uint8Array;
  let output: Uint8Array | undefined;
  try {
    let answer;
    try {
      answer = session.invoke(command, params, { wipe: secret });
    } finally {
      if (secret) control.fill(0); // it has been copied
    }
    [result, , output] = await answer;
  } catch (error) {
    if (error instanceof TeeError) dropData(error);
    // The one result of PKCS #11 that comes as a result of the TEE.
    if (error instanceof TeeError && error.code === 'TEE_ERROR_SHORT_BUFFER') {
      throw new Pkcs11Error({ value: CKR.CKR_BUFFER_TOO_SMALL, asked, cause: error });
    }
    throw error;
  }
  if (result.length < 4) throw badAnswer(asked, `a result of ${result.length} bytes`);
  const value = new DataView(result.buffer, result.byteOffset).getUint32(0, true);
  if (secret) result.fill(0); // a TA that left its control block as it was
  if (value !== CKR.CKR_OK && !accepted.includes(value)) throw new Pkcs11Error({ value, asked });
  return output ?? NOTHING;
}

/**
 * A call that failed brings its control block back as it was sent, with PINs, keys or plain text in it. Errors are logged,
 * so they do not keep it.
 */
function dropData({ outputs }: TeeError): void {
  for (const output of outputs) {
    if (output === undefined || !('data' in output)) continue;
    output.data?.fill(0);
    delete output.data;
  }
}

/** Did the TA die, so that this session is of no use any more? */
export function isDead(error: unknown): error is TeeError {
  return error instanceof TeeError && error.code === 'TEE_ERROR_TARGET_DEAD';
}
