import { debuglog, inspect } from 'node:util';
import { TeeContext } from '../client/context.js';
import { closedError, invalidArgType, invalidArgValue, TeeError } from '../client/errors.js';
import type { Session } from '../client/session.js';
import { checkKnown, checkString, checkU32 } from '../client/validate.js';
import { tokenInfo } from './application.js';
import { Command, PKCS11_TA } from './constants.js';
import { notFound } from './errors.js';
import { readSignal } from './objects.js';
import { decodeU32s, u32s } from './serializer.js';
import { describeToken, Token, type TokenHome, type TokenInfo } from './token.js';
import { TokenLogin } from './token-login.js';
import { ask, isDead, type Question } from './wire.js';

const debug = debuglog('node-optee');

/** How the PKCS#11 TA is reached. */
export interface Pkcs11Options {
  /** The device, which stays its owner's; without it the first that speaks GlobalPlatform is opened, and closed with this. */
  context?: TeeContext | undefined;
  /** Aborts the opening. */
  signal?: AbortSignal | undefined;
}

/** Which token: one of these. */
export type TokenQuery = { label: string } | { slot: number } | { serialNumber: string };

/** Room for the numbers of slots: OP-TEE's default is 3. */
const MAX_SLOTS = 256;

/** OP-TEE's PKCS#11 TA, with its tokens. */
export class Pkcs11 {
  readonly #tee: TeeContext;
  readonly #own: boolean;
  readonly #logins = new Set<TokenLogin>();
  /** Undefined: it was lost, and nobody has asked since. */
  #session: Promise<Session> | undefined;
  #closing: Promise<void> | undefined;

  private constructor(tee: TeeContext, own: boolean, session: Session) {
    this.#tee = tee;
    this.#own = own;
    this.#session = Promise.resolve(session);
  }

  /**
   * Reaches the TA. OP-TEE loads it first where it is not there yet.
   * @throws (rejects with) ERR_PKCS11_NO_TA if OP-TEE does not have it; TeeError, TeeSystemError, AbortError; TypeError for
   *   a bad argument
   */
  static async open(options: Pkcs11Options = {}): Promise<Pkcs11> {
    checkKnown(options, 'options', ['context', 'signal']);
    const { context } = options;
    const signal = readSignal(options);
    if (context !== undefined && !(context instanceof TeeContext)) {
      throw invalidArgType('options.context', 'a TeeContext', context);
    }
    const tee = context ?? TeeContext.open();
    try {
      return new Pkcs11(tee, context === undefined, await openSession(tee, signal));
    } catch (error) {
      if (context === undefined) await tee.close();
      throw error;
    }
  }

  /** Was it closed? */
  get closed(): boolean {
    return this.#closing !== undefined;
  }

  /**
   * All tokens, those too that were never initialized.
   * @throws (rejects with) Pkcs11Error, TeeError
   */
  async tokens(): Promise<TokenInfo[]> {
    return this.#use(async (session) => {
      const asked = 'the list of tokens';
      const question = { command: Command.SLOT_LIST, control: u32s(0), room: 4 * MAX_SLOTS, asked } as const;
      const found: TokenInfo[] = [];
      for (const slot of decodeU32s(await ask(session, question), asked)) {
        found.push(describeToken(slot, await tokenInfo(session, slot)));
      }
      return found;
    });
  }

  /**
   * One token.
   * @throws (rejects with) ERR_PKCS11_NOT_FOUND; ERR_PKCS11_AMBIGUOUS if several have that label; Pkcs11Error, TeeError
   */
  async token(query: TokenQuery): Promise<Token> {
    checkKnown(query, 'query', ['label', 'slot', 'serialNumber']);
    const [name, ...more] = Object.keys(query ?? {}) as ('label' | 'slot' | 'serialNumber')[];
    if (name === undefined || more.length > 0) {
      throw invalidArgValue('query', undefined, 'must have a label, a slot or a serialNumber');
    }
    const value = (query as Record<string, unknown>)[name];
    if (name === 'slot') checkU32(value, 'query.slot');
    else checkString(value, `query.${name}`);
    const found = (await this.tokens()).filter((info) =>
      // A token without a label has none that it could be found by.
      name === 'label' ? info.initialized && info.label === value : info[name] === value,
    );
    if (found.length !== 1) throw notFound(`token with ${name} ${inspect(value)}`, found.length);
    return Token.make(this.#home(), found[0] as TokenInfo);
  }

  #home(): TokenHome {
    return {
      tee: this.#tee,
      info: (slot) => this.#use((session) => tokenInfo(session, slot)),
      ask: (question: Question) => this.#use((session) => ask(session, question)),
      login: (app) => {
        const login = TokenLogin.make(app, (closed) => this.#logins.delete(closed));
        this.#logins.add(login);
        if (this.closed) login[Symbol.dispose]();
        return login;
      },
    };
  }

  /** Questions only: they are asked again where the TA had died. */
  async #use<T>(work: (session: Session) => Promise<T>): Promise<T> {
    for (let again = false; ; again = true) {
      if (this.closed) throw closedError('the Pkcs11');
      const opened = (this.#session ??= this.#open());
      const session = await opened;
      try {
        return await work(session);
      } catch (error) {
        // Closed: another question found the TA dead.
        if (!isDead(error) && !session.closed) throw error;
        if (this.#session === opened) this.#session = undefined;
        await session.close().catch(() => undefined);
        if (again) throw error;
      }
    }
  }

  /** A session in place of one that was lost. If it cannot be opened now, the next question tries again. */
  #open(): Promise<Session> {
    const opening: Promise<Session> = openSession(this.#tee).catch((error: unknown) => {
      if (this.#session === opening) this.#session = undefined;
      throw error;
    });
    return opening;
  }

  /**
   * Closes it, and all its logins.
   * @returns resolves when all is closed; the same promise each time
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const session = this.#session?.catch(() => undefined);
    const closing = [...this.#logins].map((login) => login.close());
    const settled = await Promise.allSettled([...closing, session?.then((one) => one?.close())]);
    // Also if one of them could not be closed.
    if (this.#own) await this.#tee.close();
    const failed = settled.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  /** Starts to close it and does not wait. */
  [Symbol.dispose](): void {
    this.close().catch((error: unknown) => debug('close of a Pkcs11: %s', error));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

async function openSession(tee: TeeContext, signal?: AbortSignal): Promise<Session> {
  try {
    return await tee.openSession(PKCS11_TA, { signal });
  } catch (cause) {
    if (!(cause instanceof TeeError) || cause.code !== 'TEE_ERROR_ITEM_NOT_FOUND') throw cause;
    throw Object.assign(
      new Error(
        `This OP-TEE has no PKCS#11 TA. It is ${PKCS11_TA}.ta, built with CFG_PKCS11_TA=y, in tee-supplicant's folder ` +
          'of TAs (/lib/optee_armtz on most boards)',
        { cause },
      ),
      { code: 'ERR_PKCS11_NO_TA' },
    );
  }
}
