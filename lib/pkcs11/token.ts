import { Login } from '../client/login.js';
import type { TeeContext } from '../client/context.js';
import { invalidArgValue } from '../client/errors.js';
import { hex32 } from '../client/results.js';
import { checkKnown, checkString } from '../client/validate.js';
import { Application, notInitialized } from './application.js';
import { Command, Mechanism, TokenFlag, User } from './constants.js';
import {
  checkSecretOptions,
  identityPin,
  readIdentity,
  readPin,
  withPins,
  type Identity,
  type NamedIdentity,
  type Pin,
} from './identity.js';
import { readSignal, type OperationOptions } from './objects.js';
import { decodeU32s, encodeLabel, LABEL_SIZE, pack, u32s, type RawTokenInfo } from './serializer.js';
import type { TokenLogin } from './token-login.js';
import type { Question } from './wire.js';

/** What a token says of itself. */
export interface TokenInfo {
  /** Its slot's number. */
  readonly slot: number;
  readonly label: string;
  readonly serialNumber: string;
  readonly manufacturer: string;
  readonly model: string;
  /** Was it ever initialized? */
  readonly initialized: boolean;
  /** Does it have a user? */
  readonly userPinInitialized: boolean;
  /** Does it know its users by the identities that the kernel vouches for, and not by PINs? */
  readonly identity: boolean;
  /** Was there a wrong user PIN since the last right one? */
  readonly userPinCountLow: boolean;
  /** Does one more wrong user PIN lock it? */
  readonly userPinFinalTry: boolean;
  readonly userPinLocked: boolean;
  readonly soPinCountLow: boolean;
  readonly soPinFinalTry: boolean;
  /** Nothing unlocks the PIN of the security officer. */
  readonly soPinLocked: boolean;
  readonly writeProtected: boolean;
  /** PKCS#11 sessions that are open, of all processes. */
  readonly sessions: number;
}

export function describeToken(slot: number, raw: RawTokenInfo): TokenInfo {
  const has = (flag: number): boolean => (raw.flags & flag) !== 0;
  return {
    slot,
    label: has(TokenFlag.TOKEN_INITIALIZED) ? raw.label : '',
    serialNumber: raw.serialNumber,
    manufacturer: raw.manufacturer,
    model: raw.model,
    initialized: has(TokenFlag.TOKEN_INITIALIZED),
    userPinInitialized: has(TokenFlag.USER_PIN_INITIALIZED),
    identity: has(TokenFlag.PROTECTED_AUTHENTICATION_PATH),
    userPinCountLow: has(TokenFlag.USER_PIN_COUNT_LOW),
    userPinFinalTry: has(TokenFlag.USER_PIN_FINAL_TRY),
    userPinLocked: has(TokenFlag.USER_PIN_LOCKED),
    soPinCountLow: has(TokenFlag.SO_PIN_COUNT_LOW),
    soPinFinalTry: has(TokenFlag.SO_PIN_FINAL_TRY),
    soPinLocked: has(TokenFlag.SO_PIN_LOCKED),
    writeProtected: has(TokenFlag.WRITE_PROTECTED),
    sessions: raw.sessions,
  };
}

/** How a user logs in: by a PIN, or by an identity that the kernel vouches for. */
export type LoginOptions = ({ pin: Pin } | Identity) & OperationOptions;

/** How a token is initialized: with the PIN of its security officer, or with an identity in its place. */
export type InitializeOptions = {
  /** At most 32 bytes of UTF-8. */
  label: string;
} & ({ soPin: Pin } | Identity) &
  OperationOptions;

/** What a token needs of whoever found it. */
export interface TokenHome {
  readonly tee: TeeContext;
  /** Reads what the token says of itself. */
  info(slot: number): Promise<RawTokenInfo>;
  /** Asks without a login. */
  ask(question: Question): Promise<Uint8Array>;
  /** A login, which closes with the rest. */
  login(app: Application): TokenLogin;
}

/** A token: what OP-TEE's PKCS#11 TA keeps in one of its slots. Made by `Pkcs11.token`. */
export class Token {
  /** Its slot's number. */
  readonly slot: number;
  readonly serialNumber: string;
  readonly #home: TokenHome;

  private constructor(home: TokenHome, { slot, serialNumber }: TokenInfo) {
    this.#home = home;
    this.slot = slot;
    this.serialNumber = serialNumber;
  }

  /** @internal */
  static make(home: TokenHome, info: TokenInfo): Token {
    return new Token(home, info);
  }

  /**
   * What it says of itself now.
   * @throws (rejects with) Pkcs11Error, TeeError
   */
  async info(): Promise<TokenInfo> {
    return describeToken(this.slot, await this.#home.info(this.slot));
  }

  /**
   * The names of its mechanisms, like `CKM_ECDSA`; `CKM_0x00001234` for those that this client does not use.
   * @throws (rejects with) Pkcs11Error, TeeError
   */
  async mechanisms(): Promise<string[]> {
    const asked = `the mechanisms of the token in slot ${this.slot}`;
    const question = { command: Command.MECHANISM_IDS, control: u32s(this.slot), room: 4096, asked } as const;
    const known = new Map<number, string>(Object.entries(Mechanism).map(([name, id]) => [id, `CKM_${name}`]));
    return decodeU32s(await this.#home.ask(question), asked)
      .sort((a, b) => a - b)
      .map((id) => known.get(id) ?? `CKM_${hex32(id)}`);
  }

  /**
   * Erases the token: all its objects and its user. Nobody may have it open.
   * @param options the new label. Of a token that was initialized before, the PIN or identity must be that of its security
   *   officer; else it becomes that
   * @throws (rejects with) Pkcs11Error: CKR_SESSION_EXISTS, CKR_PIN_INCORRECT, CKR_PIN_LOCKED, …
   */
  async initialize(options: InitializeOptions): Promise<void> {
    checkSecretOptions(options, 'options', ['label', 'soPin', 'identity', 'gid', 'signal']);
    const label = checkString(options.label, 'options.label');
    if (Buffer.byteLength(label) > LABEL_SIZE) {
      throw invalidArgValue('options.label', label, `can have ${LABEL_SIZE} bytes of UTF-8`);
    }
    const { login, pin, signal } = readWho(options, 'soPin');
    try {
      const { flags } = await this.#home.info(this.slot);
      // A PIN that an identity token ignores, and an identity that is counted as a wrong PIN.
      if ((flags & TokenFlag.TOKEN_INITIALIZED) !== 0) this.#checkMode(flags, pin.length > 0);
      await Application.askAlone(
        { tee: this.#home.tee, login },
        {
          command: Command.INIT_TOKEN,
          control: pack(this.slot, pin.length, encodeLabel(label), pin),
          asked: `the initialization of the token in slot ${this.slot}`,
          secret: true,
        },
        signal,
      );
    } finally {
      pin.fill(0);
    }
  }

  /**
   * Gives the token its user's PIN, or another one: also after too many wrong ones.
   * @param options the PINs of the security officer and of the user
   * @throws (rejects with) Pkcs11Error: CKR_PIN_INCORRECT, CKR_PIN_LOCKED (both of the security officer's PIN), …
   */
  async setUserPin(options: { soPin: Pin; pin: Pin } & OperationOptions): Promise<void> {
    checkSecretOptions(options, 'options', ['soPin', 'pin', 'signal']);
    const signal = readSignal(options);
    await withPins([options.soPin, 'options.soPin'], [options.pin, 'options.pin'], (soPin, pin) =>
      this.#asSecurityOfficer(Login.public, soPin, signal, (handle) => ({
        command: Command.INIT_PIN,
        control: pack(handle, pin.length, pin),
        asked: `the user's PIN of the token in slot ${this.slot}`,
        secret: true,
      })),
    );
  }

  /**
   * Says who the user of an identity token is.
   * @param options the security officer's identity, and the user's
   * @throws (rejects with) Pkcs11Error, …
   */
  async setUserIdentity(options: { so: Identity; user: NamedIdentity } & OperationOptions): Promise<void> {
    checkSecretOptions(options, 'options', ['so', 'user', 'signal']);
    const signal = readSignal(options);
    const login = readIdentity(options.so, 'options.so');
    const pin = identityPin(options.user, 'options.user');
    await this.#asSecurityOfficer(login, Buffer.alloc(0), signal, (handle) => ({
      command: Command.INIT_PIN,
      control: pack(handle, pin.length, pin),
      asked: `the user of the token in slot ${this.slot}`,
      secret: true,
    }));
  }

  /**
   * Changes the user's PIN. Needs no login.
   * @throws (rejects with) Pkcs11Error: CKR_PIN_INCORRECT, CKR_PIN_LOCKED, …
   */
  async changePin(options: { pin: Pin; newPin: Pin } & OperationOptions): Promise<void> {
    checkSecretOptions(options, 'options', ['pin', 'newPin', 'signal']);
    const signal = readSignal(options);
    const { pin, newPin } = options;
    await withPins([pin, 'options.pin'], [newPin, 'options.newPin'], async (before, after) => {
      await this.#check(true);
      await this.#with({ login: Login.public }, signal, (handle) => this.#newPin(handle, before, after));
    });
  }

  /**
   * Changes the PIN of the security officer.
   * @throws (rejects with) Pkcs11Error: CKR_PIN_INCORRECT, CKR_PIN_LOCKED, …
   */
  async changeSoPin(options: { soPin: Pin; newPin: Pin } & OperationOptions): Promise<void> {
    checkSecretOptions(options, 'options', ['soPin', 'newPin', 'signal']);
    const signal = readSignal(options);
    const { soPin, newPin } = options;
    await withPins([soPin, 'options.soPin'], [newPin, 'options.newPin'], (before, after) =>
      this.#asSecurityOfficer(Login.public, before, signal, (handle) => this.#newPin(handle, before, after)),
    );
  }

  /**
   * Logs the user in.
   * @returns to be closed when it is no longer needed; it closes with the Pkcs11
   * @throws (rejects with) Pkcs11Error: CKR_PIN_INCORRECT, CKR_PIN_LOCKED, CKR_USER_PIN_NOT_INITIALIZED, …
   */
  async login(options: LoginOptions): Promise<TokenLogin> {
    checkSecretOptions(options, 'options', ['pin', 'identity', 'gid', 'signal']);
    const { login, pin, signal } = readWho(options, 'pin');
    try {
      await this.#check(pin.length > 0);
    } catch (error) {
      pin.fill(0);
      throw error;
    }
    const who = { tee: this.#home.tee, slot: this.slot, login, user: User.USER, pin };
    return this.#home.login(await Application.open(who, signal));
  }

  /**
   * Opens the token without a login: public objects are seen, and random bytes and digests are to be had.
   * @returns to be closed when it is no longer needed; it closes with the Pkcs11
   * @throws (rejects with) Pkcs11Error, …
   */
  async open(options: OperationOptions = {}): Promise<TokenLogin> {
    checkKnown(options, 'options', ['signal']);
    const signal = readSignal(options);
    const who = { tee: this.#home.tee, slot: this.slot, login: Login.public };
    return this.#home.login(await Application.open(who, signal));
  }

  #newPin(handle: number, pin: Buffer, newPin: Buffer): Question {
    return {
      command: Command.SET_PIN,
      control: pack(handle, pin.length, newPin.length, pin, newPin),
      asked: `a new PIN of the token in slot ${this.slot}`,
      secret: true,
    };
  }

  /** Is it initialized, and are its users known in this way? */
  async #check(byPin: boolean): Promise<void> {
    const { flags } = await this.#home.info(this.slot);
    if ((flags & TokenFlag.TOKEN_INITIALIZED) === 0) {
      throw notInitialized(`the login to the token in slot ${this.slot}`);
    }
    this.#checkMode(flags, byPin);
  }

  /** A PIN for an identity token is ignored by the TA, or worse; an identity for a PIN token counts as a wrong PIN. */
  #checkMode(flags: number, byPin: boolean): void {
    const identity = (flags & TokenFlag.PROTECTED_AUTHENTICATION_PATH) !== 0;
    if (identity !== byPin) return;
    throw invalidArgValue(
      'options',
      undefined,
      identity
        ? `must have an identity: the token in slot ${this.slot} knows its users by identity, and ignores PINs`
        : `must have a PIN: the token in slot ${this.slot} knows its users by PIN`,
    );
  }

  /** @param pin its caller wipes it */
  async #asSecurityOfficer(
    login: Login,
    pin: Buffer,
    signal: AbortSignal | undefined,
    question: (handle: number) => Question,
  ): Promise<void> {
    await this.#check(pin.length > 0);
    await this.#with({ login, user: User.SO, pin }, signal, question);
  }

  async #with(
    who: { login: Login; user?: typeof User.SO; pin?: Buffer },
    signal: AbortSignal | undefined,
    question: (handle: number) => Question,
  ): Promise<void> {
    const app = await Application.open({ tee: this.#home.tee, slot: this.slot, ...who }, signal);
    try {
      const asked = `the administration of the token in slot ${this.slot}`;
      await app.operate(async (turn) => turn.effect(question(turn.handle)), { asked, signal });
    } finally {
      await app.close();
    }
  }
}

/** A PIN, or an identity. */
function readWho(
  options: object,
  pinName: 'pin' | 'soPin',
): { login: Login; pin: Buffer; signal: AbortSignal | undefined } {
  const given = options as { identity?: unknown; signal?: AbortSignal } & Record<string, unknown>;
  const [pin, identity] = [given[pinName], given.identity];
  const signal = readSignal(given);
  if ((pin === undefined) === (identity === undefined)) {
    throw invalidArgValue('options', undefined, `must have either ${pinName} or identity`);
  }
  if (identity !== undefined) {
    return { login: readIdentity(given as unknown as Identity, 'options'), pin: Buffer.alloc(0), signal };
  }
  return { login: Login.public, pin: readPin(pin, `options.${pinName}`), signal };
}
