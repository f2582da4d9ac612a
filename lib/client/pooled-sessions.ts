/**
 * The sessions of a pool, and the requests that wait for one: which session goes to whom, when one is opened and when
 * one is closed. It opens nothing itself and knows nothing of the TEE.
 *
 * A session is idle, or busy (somebody has it), or is being opened or closed; all of these count against `max`. Somebody
 * waits only while no session is idle.
 */
import { debuglog } from 'node:util';
import { onAbort } from './abort.js';
import { rejected, restacked } from './call.js';
import { WaitingList } from './waiting-list.js';

const debug = debuglog('node-optee');

/** What a session of a pool can do. */
export interface Closable {
  readonly closed: boolean;
  close(): Promise<void>;
}

/** What a pool is told about its sessions. */
export interface PoolRules<S extends Closable> {
  /** How many sessions at most. */
  readonly max: number;
  /** Milliseconds after which an idle session is closed; Infinity: never. */
  readonly idle: number;
  /** Opens a session. Rejects where it cannot, and never throws. */
  open(): Promise<S>;
  /** Must this session be replaced? */
  isSpent(session: S): boolean;
  /** Does this error of `open` say that there is no room for one session more? */
  isFull(error: unknown): boolean;
  /** The error of requests that come, or still wait, when the pool is closed. */
  closedError(): Error;
}

/** How a pool is doing. */
export interface SessionPoolStatistics {
  /** Sessions that are open: idle and busy ones. */
  open: number;
  /** Sessions that nobody uses. */
  idle: number;
  /** Sessions that a call or a function of `use` has. */
  busy: number;
  /** Sessions that are being opened. */
  opening: number;
  /** Sessions that are being closed. Until they are, they count against `max`. */
  closing: number;
  /** Requests that wait for a session. */
  waiting: number;
  /** Sessions that were opened since the pool was made. */
  opened: number;
  /** Sessions that were closed: `opened` is the sum of `open`, `closing` and `closed`. */
  closed: number;
  /** Sessions that were taken out to be replaced: their TA had panicked, or a cancel could hit their next call. */
  replaced: number;
  /** Openings that failed, those included for which a request waited on. */
  failed: number;
}

interface Waiter<S> {
  /** Gives it a session, or a promise that is rejected. */
  readonly settle: (outcome: S | Promise<never>) => void;
  readonly stopListening: (() => void) | undefined;
}

/** After an opening for which there was no room, requests that can wait do not try another for so many milliseconds. */
const RETRY = 1000;

export class PooledSessions<S extends Closable> {
  readonly #rules: PoolRules<S>;
  /** All that are open. */
  readonly #sessions = new Set<S>();
  /** The idle ones and when they became it: the one that was used last is the last. */
  readonly #idle: { readonly session: S; readonly since: number }[] = [];
  readonly #waiting = new WaitingList<Waiter<S>>();
  #timer: NodeJS.Timeout | undefined;
  #opening = 0;
  #closing = 0;
  #opened = 0;
  #closed = 0;
  #replaced = 0;
  #failed = 0;
  /** Until then (performance.now()) there is no room for one session more. */
  #fullUntil = 0;
  #ending: { readonly promise: Promise<Error | undefined>; readonly resolve: () => void } | undefined;
  #failure: Error | undefined;

  constructor(rules: PoolRules<S>) {
    this.#rules = rules;
  }

  statistics(): SessionPoolStatistics {
    const idle = this.#idle.length;
    const open = this.#sessions.size;
    return {
      open,
      idle,
      busy: open - idle,
      opening: this.#opening,
      closing: this.#closing,
      waiting: this.#waiting.length,
      opened: this.#opened,
      closed: this.#closed,
      replaced: this.#replaced,
      failed: this.#failed,
    };
  }

  /** Takes the idle session that was used last; undefined if there is none. Whoever has it gives it back. */
  take(): S | undefined {
    for (let last = this.#idle.pop(); last !== undefined; last = this.#idle.pop()) {
      const { session } = last;
      if (this.#isUsable(session)) return session;
      this.#end(session);
    }
    return undefined;
  }

  /**
   * Waits for a session, behind all who wait already. Whoever gets it gives it back.
   * @param abortError the error of an abort
   * @throws (or rejects with) that; the error of an opening; `closedError` of the rules; what a signal of the caller's own
   *   making throws
   */
  wait(signal: AbortSignal | undefined, abortError: () => Error): Promise<S> {
    // A signal can run code of the caller's, so all that is asked of it comes before anything changes here.
    const request = { aborted: false, abort: (): void => undefined };
    const stopListening =
      signal &&
      onAbort(signal, () => {
        request.aborted = true;
        request.abort();
      });
    try {
      if (request.aborted || signal?.aborted === true) throw abortError();
      if (this.#ending !== undefined) throw this.#rules.closedError();
      const session = this.#waiting.length === 0 ? this.take() : undefined;
      if (session !== undefined) {
        stopListening?.();
        return Promise.resolve(session);
      }
    } catch (error) {
      stopListening?.();
      throw error;
    }
    return new Promise((settle) => {
      const entry = this.#waiting.add({ settle, stopListening });
      request.abort = () => {
        if (this.#waiting.remove(entry)) settle(rejected(abortError));
      };
      this.#openMore();
    });
  }

  /** Gives a session back, in whatever state it is. */
  giveBack(session: S): void {
    if (!this.#isUsable(session) || this.#ending !== undefined) {
      this.#end(session);
      return;
    }
    const waiter = this.#waiting.next();
    if (waiter !== undefined) {
      this.#openMore();
      waiter.settle(session);
      waiter.stopListening?.(); // last, since it can run code of a user's
    } else if (this.#rules.idle === 0) {
      this.#end(session);
    } else {
      this.#idle.push({ session, since: performance.now() });
      this.#startTimer(this.#rules.idle);
    }
  }

  /**
   * Closes all sessions: idle ones now, those that somebody has when they are given back, and those that are being opened
   * when they arrive. Whoever waits gets the rules' `closedError`.
   * @returns when all that is done: the first error of a close, if there was one. The same promise each time
   */
  close(): Promise<Error | undefined> {
    if (this.#ending !== undefined) return this.#ending.promise;
    let resolve = (): void => undefined;
    const promise = new Promise<Error | undefined>((done) => (resolve = () => done(this.#failure)));
    this.#ending = { promise, resolve };
    clearTimeout(this.#timer);
    for (const { session } of this.#idle.splice(0)) this.#end(session);
    for (let waiter = this.#waiting.next(); waiter !== undefined; waiter = this.#waiting.next()) {
      waiter.settle(rejected(() => this.#rules.closedError()));
      waiter.stopListening?.();
    }
    this.#finish();
    return promise;
  }

  #isUsable(session: S): boolean {
    return !session.closed && !this.#rules.isSpent(session);
  }

  /** How many sessions there are, those included that are not there yet and those that are not gone yet. */
  get #size(): number {
    return this.#sessions.size + this.#opening + this.#closing;
  }

  /** Opens sessions for those who wait, as far as there is room. */
  #openMore(): void {
    while (this.#waiting.length > this.#opening && this.#size < this.#rules.max) {
      // Where the TEE has none, one that has no session yet asks again, so that it gets an answer.
      if (this.#size > 0 && performance.now() < this.#fullUntil) return;
      this.#open();
    }
  }

  #open(): void {
    const closedBefore = this.#closed;
    this.#opening++;
    this.#rules.open().then(
      (session) => {
        this.#opening--;
        this.#opened++;
        this.#sessions.add(session);
        this.giveBack(session);
      },
      (error: unknown) => {
        this.#opening--;
        this.#failed++;
        this.#refused(error, closedBefore);
      },
    );
  }

  /**
   * An opening has failed.
   * @param closedBefore how many sessions had been closed when it began
   */
  #refused(error: unknown, closedBefore: number): void {
    if (this.#ending !== undefined) {
      this.#finish();
      return;
    }
    if (this.#rules.isFull(error)) {
      if (this.#size > 0) {
        // One of these will be free, or gone.
        this.#fullUntil = performance.now() + RETRY;
        return;
      }
      if (this.#closed > closedBefore) {
        // The last of the pool's own was still in the way.
        this.#openMore();
        return;
      }
    }
    // Each opening is somebody's; who aborted has left one that nobody waits for.
    const waiter = this.#waiting.length > this.#opening ? this.#waiting.next() : undefined;
    this.#openMore();
    if (waiter === undefined) {
      debug('opening a session of a pool: %s', error);
    } else {
      waiter.settle(rejected(() => (error instanceof Error ? restacked(error) : (error as Error))));
      waiter.stopListening?.();
    }
  }

  /** Closes a session that nobody has. */
  #end(session: S): void {
    this.#sessions.delete(session);
    if (this.#ending === undefined && this.#rules.isSpent(session)) this.#replaced++;
    this.#closing++;
    const ended = (): void => {
      this.#closing--;
      this.#closed++;
      this.#fullUntil = 0;
      this.#openMore();
      this.#finish();
    };
    session.close().then(ended, (error: unknown) => {
      debug('closing a session of a pool: %s', error);
      if (this.#ending !== undefined) this.#failure ??= error as Error;
      ended();
    });
  }

  #finish(): void {
    if (this.#size === 0) this.#ending?.resolve();
  }

  /** One timer for all: it is for the session that is idle longest, and no call sets or stops it. */
  #startTimer(milliseconds: number): void {
    if (this.#timer !== undefined || milliseconds === Infinity) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#endIdle();
    }, milliseconds);
    this.#timer.unref();
  }

  #endIdle(): void {
    const now = performance.now();
    const left = (since: number): number => since + this.#rules.idle - now;
    // A timer can be a little early.
    const young = this.#idle.findIndex(({ since }) => left(since) > 1);
    const old = this.#idle.splice(0, young === -1 ? this.#idle.length : young);
    for (const { session } of old) this.#end(session);
    const [oldest] = this.#idle;
    if (oldest !== undefined) this.#startTimer(Math.ceil(left(oldest.since)));
  }
}
