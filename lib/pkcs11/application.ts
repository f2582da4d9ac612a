/**
 * A TEE session with the PKCS#11 TA. To the TA it is what PKCS #11 calls an application: its PKCS#11 sessions share the
 * login, the handles of objects and the session objects. Another TEE session knows nothing of them.
 *
 * Each operation has a PKCS#11 session to itself until it has ended, because an operation that was begun and not ended
 * makes the next one fail. Operations wait for one of a few. Waiting costs nothing: the TA takes one call at a time.
 */
import { onAbort } from '../client/abort.js';
import type { TeeContext } from '../client/context.js';
import { AbortError, closedError } from '../client/errors.js';
import type { Login } from '../client/login.js';
import type { Session } from '../client/session.js';
import { WaitingList, type Entry } from '../client/waiting-list.js';
import { CKR, Command, PKCS11_TA, SESSION_FLAGS, TokenFlag, User } from './constants.js';
import { Pkcs11Error } from './errors.js';
import {
  decodeHandle,
  decodeTokenInfo,
  pack,
  TOKEN_INFO_SIZE,
  u32s,
  type RawTokenInfo,
} from './serializer.js';
import { ask, isDead, type Question } from './wire.js';

/** Who uses the token. */
export interface Who {
  readonly tee: TeeContext;
  readonly slot: number;
  /** Whom the kernel vouches for. */
  readonly login: Login;
  /** Undefined: nobody is logged in to the token, and only public objects are seen. */
  readonly user?: (typeof User)[keyof typeof User] | undefined;
  /** The PIN, empty where the identity is enough. It becomes the application's, which wipes it. */
  readonly pin?: Uint8Array | undefined;
}

/** How an operation runs. */
export interface Running {
  /** In words, for errors. */
  readonly asked: string;
  readonly signal?: AbortSignal | undefined;
  /** It makes a session object: that lives in the PKCS#11 session which is open as long as the application. */
  readonly home?: boolean | undefined;
  /** It waits for its caller in between: it gets a PKCS#11 session that others do not wait for. */
  readonly own?: boolean | undefined;
}

/** A PKCS#11 session, opened when it is first used. */
interface Slot {
  readonly home: boolean;
  handle: number;
  /** Of which TEE session it is. */
  generation: number;
  /** Does an operation have it? */
  taken: boolean;
  /** A command of an operation that could not be ended. */
  open?: Command | undefined;
}

/** An operation that waits for a PKCS#11 session. */
interface Waiting {
  readonly take: (slot: Slot) => void;
  readonly refuse: (error: Error) => void;
  /** Its place among those that any PKCS#11 session will do for; undefined if it needs that of the application. */
  anywhere?: Entry<Entry<Waiting>> | undefined;
}

/** How many operations are on their way to the TA at the same time: one that it is at, and some behind it. */
const SLOTS = 4;

/** Answers to a login that say that this PIN or identity is not the right one, or not any more. */
const REFUSED: ReadonlySet<number> = new Set([
  CKR.CKR_PIN_INCORRECT,
  CKR.CKR_PIN_INVALID,
  CKR.CKR_PIN_LEN_RANGE,
  CKR.CKR_PIN_LOCKED,
  CKR.CKR_USER_PIN_NOT_INITIALIZED,
]);

function isRefused(error: unknown): error is Pkcs11Error {
  return error instanceof Pkcs11Error && REFUSED.has(error.value);
}

/** Does this error of a call say that the TA died? The session is closed where another call has found that out. */
function isLost(session: Session, error: unknown): error is Error {
  return isDead(error) || (session.closed && (error as { code?: unknown } | null)?.code === 'ERR_TEE_CLOSED');
}

/** What an operation does with its PKCS#11 session. */
export class Turn {
  /** The PKCS#11 session's handle. */
  readonly handle: number;
  /** Of which TEE session the handles are. */
  readonly generation: number;
  /** Has something been done that must not be done twice? */
  begun = false;
  /** A command of what was begun, which is no init; undefined if nothing is open. */
  open: Command | undefined;
  readonly #session: Session;
  readonly #losses = new WeakSet<object>();

  constructor(session: Session, handle: number, generation: number, open?: Command) {
    this.#session = session;
    this.handle = handle;
    this.generation = generation;
    this.open = open;
  }

  /** A call that may be repeated if the TA turns out to be dead. */
  async ask(question: Question, accepted?: readonly number[]): Promise<Uint8Array> {
    try {
      return await ask(this.#session, question, accepted);
    } catch (error) {
      if (isLost(this.#session, error)) this.#losses.add(error);
      throw error;
    }
  }

  /** Does this error of the operation come from a call of this turn, and say that the TA died? */
  isLoss(error: unknown): boolean {
    return typeof error === 'object' && error !== null && this.#losses.has(error);
  }

  /**
   * Two calls, sent together: the second waits for nobody but the first. The second is what must not happen twice.
   * @returns what the second brought back
   */
  async pair(first: Question, second: Question): Promise<Uint8Array> {
    const [began, ended] = await Promise.allSettled([this.ask(first), this.ask(second)]);
    if (began.status === 'fulfilled') this.begun = true;
    if (ended.status === 'fulfilled') {
      // It was done, though the first may not have been sent: there was no memory for it.
      this.begun = true;
      return ended.value;
    }
    if (began.status === 'fulfilled') throw ended.reason as Error;
    if (isDead(ended.reason) && !isDead(began.reason)) {
      this.begun = true; // nobody knows
      throw ended.reason;
    }
    throw began.reason as Error;
  }

  /** A call that must not be made twice: it makes or destroys something. Finds out first whether the TA is alive. */
  effect(question: Question): Promise<Uint8Array> {
    const control = u32s(this.handle);
    return this.pair({ command: Command.SESSION_INFO, control, room: 16, asked: question.asked }, question);
  }

  /** An operation in one part: its init and its one-shot, sent together. */
  async oneShot(init: Question, shot: Question): Promise<Uint8Array> {
    this.open = shot.command;
    try {
      const output = await this.pair(init, shot);
      this.open = undefined;
      return output;
    } catch (error) {
      this.#ended(error);
      throw error;
    }
  }

  /**
   * A step of an operation in parts: its init, with data, or the last one.
   * @param final the command that the last one has. The TA knows an operation by it, and not by its init
   */
  async step(question: Question, final: Command): Promise<Uint8Array> {
    this.open = final;
    try {
      const output = await this.ask(question);
      if (question.command === final) this.open = undefined;
      return output;
    } catch (error) {
      this.#ended(error);
      throw error;
    }
  }

  /** Every answer of the TA but one has ended the operation. */
  #ended(error: unknown): void {
    if (error instanceof Pkcs11Error && error.value !== CKR.CKR_BUFFER_TOO_SMALL) this.open = undefined;
  }

  /** Ends what is still open. */
  async release(): Promise<void> {
    if (this.open === undefined) return;
    const control = u32s(this.handle, this.open);
    const question = {
      command: Command.RELEASE_ACTIVE_PROCESSING,
      control,
      asked: 'the end of an operation',
    } as const;
    await this.ask(question, [CKR.CKR_OPERATION_NOT_INITIALIZED]);
    this.open = undefined;
  }
}

export class Application {
  readonly #who: Who;
  readonly #slots: Slot[] = [];
  readonly #waiting = new WaitingList<Waiting>();
  /** Those of them that any PKCS#11 session will do for. */
  readonly #anywhere = new WaitingList<Entry<Waiting>>();
  /** Operations under way that have a PKCS#11 session of their own. */
  #own = 0;
  #session: Session;
  #generation = 0;
  /** The TA died, and nothing has been opened since. */
  #lost = false;
  #recovering: Promise<void> | undefined;
  /** Why it cannot be used any more, though nobody closed it. */
  #failed: Error | undefined;
  #closing: Promise<void> | undefined;
  #idle: (() => void) | undefined;

  private constructor(who: Who, { session, handle }: Connected) {
    this.#who = who;
    this.#session = session;
    this.#slots.push({ home: true, handle, generation: 0, taken: false });
    while (this.#slots.length < SLOTS) {
      this.#slots.push({ home: false, handle: 0, generation: -1, taken: false });
    }
  }

  /**
   * Opens a TEE session and logs in.
   * @throws (rejects with) Pkcs11Error, TeeError, TeeSystemError, AbortError; ERR_PKCS11_TA_DIED
   */
  static async open(who: Who, signal?: AbortSignal): Promise<Application> {
    try {
      return new Application(who, await connect(who, signal));
    } catch (error) {
      who.pin?.fill(0);
      throw error;
    }
  }

  /**
   * One question in a TEE session of its own that has no PKCS#11 session. It is what must not happen twice.
   * @throws (rejects with) Pkcs11Error, TeeError, TeeSystemError, AbortError; ERR_PKCS11_TA_DIED
   */
  static async askAlone(
    { tee, login }: Pick<Who, 'tee' | 'login'>,
    question: Question,
    signal?: AbortSignal,
  ): Promise<void> {
    const session = await tee.openSession(PKCS11_TA, { login, signal });
    try {
      await ask(session, question);
    } catch (error) {
      throw isDead(error) ? died(question.asked, error) : error;
    } finally {
      await session.close();
    }
  }

  get closed(): boolean {
    return this.#closing !== undefined;
  }

  /**
   * Keys are for a user who is logged in. The TA checks that where keys are imported, but not where it makes them (as of
   * OP-TEE 4.10): they would be on the token, and nobody would have been told.
   */
  needUser(asked: string): void {
    if (this.#who.user === undefined) throw new Pkcs11Error({ value: CKR.CKR_USER_NOT_LOGGED_IN, asked });
  }

  /**
   * Runs an operation when it is its turn. Aborted before that, nothing is sent; afterwards `work` itself looks at the
   * signal where it can stop. If the TA has died, all is opened again and `work` called once more, unless it had begun
   * what must not be done twice.
   */
  async operate<T>(work: (turn: Turn) => Promise<T>, running: Running): Promise<T> {
    const { own = false, signal, asked } = running;
    if (signal?.aborted === true) throw new AbortError(signal.reason, asked);
    const slot = own ? this.#ownSlot() : await this.#take(running);
    try {
      for (let again = false; ; again = true) {
        // Closed since it has got its turn: it runs to its end.
        if (again) this.#check();
        if (this.#lost) await this.#recover(this.#generation);
        const generation = this.#generation;
        const session = this.#session;
        let turn: Turn | undefined;
        try {
          if (slot.generation !== generation) {
            slot.handle = await openSession(session, this.#who.slot);
            slot.generation = generation;
            slot.open = undefined;
          }
          turn = new Turn(session, slot.handle, generation, slot.open);
          await turn.release();
          return await work(turn);
        } catch (error) {
          // What a stream of the caller's threw says nothing of this TA.
          if (!(turn === undefined ? isLost(session, error) : turn.isLoss(error))) throw error;
          const known = this.#lost || generation !== this.#generation;
          if (!known && !isDead(error)) throw error; // its context was closed
          if (!known && this.#who.user !== User.SO) this.#lost = true;
          if (turn?.begun === true || again || this.#who.user === User.SO) throw died(asked, error as Error);
          await this.#recover(generation);
        } finally {
          await turn?.release().catch(() => undefined); // else the next operation does it
          slot.open = turn?.open;
        }
      }
    } finally {
      if (own) {
        await this.#discard(slot);
        this.#own--;
        this.#checkIdle();
      } else this.#give(slot);
    }
  }

  #ownSlot(): Slot {
    this.#check();
    this.#own++;
    return { home: false, handle: 0, generation: -1, taken: true };
  }

  #check(): void {
    if (this.closed) throw closedError('the login');
    if (this.#failed !== undefined) throw this.#failed;
  }

  async #take({ home = false, signal, asked }: Running): Promise<Slot> {
    // A signal can run code of the caller's, so all that is asked of it comes before anything changes here.
    const request = { aborted: false, abort: (): void => undefined };
    const stopListening =
      signal &&
      onAbort(signal, () => {
        request.aborted = true;
        request.abort();
      });
    try {
      if (request.aborted || signal?.aborted === true) throw new AbortError(signal?.reason, asked);
      this.#check();
      const free = this.#slots.find((slot) => !slot.taken && (slot.home || !home));
      if (free !== undefined) {
        free.taken = true;
        return free;
      }
      return await new Promise<Slot>((resolve, reject) => {
        const waiting: Waiting = { take: resolve, refuse: reject };
        const entry = this.#waiting.add(waiting);
        if (!home) waiting.anywhere = this.#anywhere.add(entry);
        request.abort = () => {
          if (this.#leave(entry)) reject(new AbortError(signal?.reason, asked));
        };
      });
    } finally {
      stopListening?.();
    }
  }

  /** @returns false if it did not wait any more */
  #leave(entry: Entry<Waiting>): boolean {
    const { anywhere } = entry.value;
    if (anywhere !== undefined) this.#anywhere.remove(anywhere);
    return this.#waiting.remove(entry);
  }

  /** Takes out the one that has waited longest of those that a slot will do for. */
  #next({ home }: Slot): Waiting | undefined {
    if (home) {
      const waiting = this.#waiting.next();
      if (waiting?.anywhere !== undefined) this.#anywhere.remove(waiting.anywhere);
      return waiting;
    }
    const entry = this.#anywhere.next();
    if (entry !== undefined) this.#waiting.remove(entry);
    return entry?.value;
  }

  #give(slot: Slot): void {
    const next = this.#next(slot);
    if (next !== undefined) {
      next.take(slot);
      return;
    }
    slot.taken = false;
    this.#checkIdle();
  }

  #isIdle(): boolean {
    return this.#own === 0 && this.#slots.every(({ taken }) => !taken);
  }

  #checkIdle(): void {
    if (this.#isIdle()) this.#idle?.();
  }

  /** Closes the PKCS#11 session of an operation that had its own. */
  async #discard({ handle, generation }: Slot): Promise<void> {
    if (generation !== this.#generation || this.#session.closed) return;
    const question = {
      command: Command.CLOSE_SESSION,
      control: u32s(handle),
      asked: 'closing a session',
    } as const;
    await ask(this.#session, question).catch(() => undefined);
  }

  /** Opens all again, for all who found the TA dead. */
  async #recover(dead: number): Promise<void> {
    if (this.#generation !== dead) return;
    this.#check(); // closed, its PIN is wiped
    this.#recovering ??= this.#reopen().finally(() => {
      this.#recovering = undefined;
    });
    await this.#recovering;
  }

  async #reopen(): Promise<void> {
    await this.#session.close().catch(() => undefined);
    let connected: Connected;
    try {
      connected = await connect(this.#who, undefined, true);
    } catch (error) {
      // A PIN that is wrong now is never tried again. All else may be over when the next operation comes.
      if (isRefused(error)) {
        this.#who.pin?.fill(0);
        this.#failed = error;
      }
      throw error;
    }
    this.#session = connected.session;
    this.#generation++;
    this.#lost = false;
    const home = this.#slots[0] as Slot;
    home.handle = connected.handle;
    home.generation = this.#generation;
  }

  /**
   * Ends the login: operations that wait are refused, those under way run to their end.
   * @returns the same promise each time
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const { pin } = this.#who;
    for (let one; (one = this.#waiting.next()) !== undefined;) {
      if (one.anywhere !== undefined) this.#anywhere.remove(one.anywhere);
      one.refuse(closedError('the login'));
    }
    if (!this.#isIdle()) await new Promise<void>((resolve) => (this.#idle = resolve));
    await this.#recovering?.catch(() => undefined);
    pin?.fill(0);
    await this.#session.close();
  }
}

/** What a new TEE session is, with its first PKCS#11 session, logged in. */
interface Connected {
  readonly session: Session;
  readonly handle: number;
}

/**
 * @param again a PIN that was right is sent a second time. Somebody can have changed it since, so it is not sent where a
 *   wrong PIN has been counted already: that must not take the last tries
 */
async function connect(who: Who, signal?: AbortSignal, again = false): Promise<Connected> {
  const { tee, slot, login, user, pin = new Uint8Array(0) } = who;
  const asked =
    user === undefined ? `opening the token in slot ${slot}` : `the login to the token in slot ${slot}`;
  const session = await tee.openSession(PKCS11_TA, { login, signal });
  try {
    if (user !== undefined) {
      const { flags } = await tokenInfo(session, slot);
      if ((flags & TokenFlag.TOKEN_INITIALIZED) === 0) throw notInitialized(asked);
      if (
        again &&
        pin.length > 0 &&
        (flags & (TokenFlag.USER_PIN_COUNT_LOW | TokenFlag.USER_PIN_LOCKED)) !== 0
      ) {
        throw new Pkcs11Error({
          value: (flags & TokenFlag.USER_PIN_LOCKED) === 0 ? CKR.CKR_PIN_INCORRECT : CKR.CKR_PIN_LOCKED,
          asked,
          hint:
            'the PKCS#11 TA died, and somebody has given a wrong PIN since. So that no try is lost, the PIN of this ' +
            'login is not sent again by itself: log in again',
        });
      }
    }
    const handle = await openSession(session, slot);
    if (user !== undefined) {
      if (signal?.aborted === true) throw new AbortError(signal.reason, asked);
      const control = pack(handle, user, pin.length, pin);
      try {
        await ask(session, { command: Command.LOGIN, control, asked, secret: true });
      } catch (error) {
        if (!again || !isRefused(error)) throw error;
        const hint =
          'the PKCS#11 TA died, and since then somebody has erased the token or changed its PIN: log in again';
        throw new Pkcs11Error({ value: error.value, asked, hint, cause: error });
      }
    }
    return { session, handle };
  } catch (error) {
    await session.close().catch(() => undefined);
    throw isDead(error) ? died(asked, error) : error;
  }
}

/** An SO login on such a token kills the TA (as of OP-TEE 4.10), for all of its clients. It must never be sent. */
export function notInitialized(asked: string): Pkcs11Error {
  return new Pkcs11Error({
    value: CKR.CKR_USER_PIN_NOT_INITIALIZED,
    asked,
    hint: 'the token was never initialized: token.initialize({ label, soPin }) does it',
  });
}

async function openSession(session: Session, slot: number): Promise<number> {
  const asked = `opening the token in slot ${slot}`;
  const control = u32s(slot, SESSION_FLAGS);
  const answer = await ask(session, { command: Command.OPEN_SESSION, control, room: 4, asked });
  return decodeHandle(answer, asked);
}

/** What the token in a slot says of itself. */
export async function tokenInfo(session: Session, slot: number): Promise<RawTokenInfo> {
  const asked = `information on the token in slot ${slot}`;
  const question = {
    command: Command.TOKEN_INFO,
    control: u32s(slot),
    room: TOKEN_INFO_SIZE,
    asked,
  } as const;
  return decodeTokenInfo(await ask(session, question), asked);
}

function died(asked: string, cause: Error): Error {
  return Object.assign(
    new Error(
      `The PKCS#11 TA died during ${asked}. Whether that was done is not known. Any client can make the TA panic; the ` +
        'next operation opens it again',
      { cause },
    ),
    { code: 'ERR_PKCS11_TA_DIED' },
  );
}
