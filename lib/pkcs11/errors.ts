import { CKR, resultName } from './constants.js';

/** What {@link Pkcs11Error} is made of. */
export interface Pkcs11ErrorInit {
  /** u32 */
  value: number;
  /** What was asked, for the message. Never with a secret in it. */
  asked: string;
  /** What to do about it, for the message; else one is found by the value. */
  hint?: string | undefined;
  cause?: unknown;
}

/** The PKCS#11 TA answered with a result other than CKR_OK. */
export class Pkcs11Error extends Error {
  /** The result's name, like `CKR_PIN_INCORRECT`; `CKR_0x12345678` if it has none. */
  readonly code: string;
  /** The result, u32, as the TA gave it. */
  readonly value: number;
  /** What was asked of the TA, in words. */
  readonly asked: string;

  constructor({ value, asked, hint = hintFor(value), cause }: Pkcs11ErrorInit) {
    const code = resultName(value);
    super(
      `${code} for ${asked}` + (hint === undefined ? '' : `: ${hint}`),
      cause === undefined ? undefined : { cause },
    );
    this.code = code;
    this.value = value;
    this.asked = asked;
  }
}
Object.defineProperty(Pkcs11Error.prototype, 'name', {
  value: 'Pkcs11Error',
  configurable: true,
  writable: true,
});

/** What a user can do about it, where experience has something to say. */
function hintFor(value: number): string | undefined {
  switch (value) {
    case CKR.CKR_PIN_INCORRECT:
      return 'after seven wrong PINs in a row the token locks that PIN';
    case CKR.CKR_PIN_LOCKED:
      return (
        'too many wrong PINs in a row. The security officer unlocks a user with setUserPin; nothing unlocks the PIN ' +
        'of the security officer'
      );
    case CKR.CKR_PIN_LEN_RANGE:
      return 'a PIN has 4 to 128 bytes';
    case CKR.CKR_PIN_INVALID:
      return 'the TEE does not vouch for the identity that the token expects, or its form is wrong';
    case CKR.CKR_USER_PIN_NOT_INITIALIZED:
      return 'the token has no user yet, or was initialized again: the security officer makes one with setUserPin';
    case CKR.CKR_USER_NOT_LOGGED_IN:
      return 'only the user may do this: log in first';
    case CKR.CKR_SESSION_EXISTS:
      return 'a token can be initialized only while nobody, in any process, has it open: close all logins first';
    case CKR.CKR_MECHANISM_INVALID:
      return 'this PKCS#11 TA does not have the mechanism, or not for this use (token.mechanisms() lists them)';
    case CKR.CKR_MECHANISM_PARAM_INVALID:
      return 'this PKCS#11 TA does not take these options';
    case CKR.CKR_CURVE_NOT_SUPPORTED:
      return 'this PKCS#11 TA does not have the curve';
    case CKR.CKR_DEVICE_MEMORY:
      return (
        'the PKCS#11 TA is out of memory: fewer session objects or logins, or less data at once. It is built with ' +
        'CFG_PKCS11_TA_HEAP_SIZE bytes for all of its clients together'
      );
    case CKR.CKR_KEY_FUNCTION_NOT_PERMITTED:
      return 'the key was made without this use (option usages)';
    case CKR.CKR_KEY_UNEXTRACTABLE:
      return 'the key was made with extractable: false, for good';
    case CKR.CKR_ATTRIBUTE_SENSITIVE:
      return 'the value of a sensitive key never leaves the TEE';
    case CKR.CKR_KEY_HANDLE_INVALID:
    case CKR.CKR_OBJECT_HANDLE_INVALID:
      return 'the object was destroyed, by this process or another';
    case CKR.CKR_TOKEN_WRITE_PROTECTED:
      return 'the token cannot be written to: is tee-supplicant running, with room for its storage?';
    default:
      return undefined;
  }
}

/** Is it an answer of the TA with that result? */
export function isResult(error: unknown, value: number): error is Pkcs11Error {
  return error instanceof Pkcs11Error && error.value === value;
}

/**
 * An answer of the TA that does not have the form that it must have.
 * @param problem a whole sentence without its stop
 */
export function badAnswer(asked: string, problem: string): Error & { code: string } {
  return Object.assign(new Error(`The PKCS#11 TA's answer for ${asked} is malformed: ${problem}`), {
    code: 'ERR_PKCS11_ANSWER',
  });
}

/** What was found is not one object: none, or several. */
export function notFound(what: string, found: number): Error & { code: string } {
  return found === 0
    ? Object.assign(new Error(`The token has no ${what}`), { code: 'ERR_PKCS11_NOT_FOUND' })
    : Object.assign(new Error(`The token has ${found} objects that are a ${what}: give its id`), {
        code: 'ERR_PKCS11_AMBIGUOUS',
      });
}

/** What was there before the TA died is not there now. */
export function gone(what: string): Error & { code: string } {
  const message = `The token does not have the ${what} any more: somebody has removed or replaced it`;
  return Object.assign(new Error(message), { code: 'ERR_PKCS11_NOT_FOUND' });
}
