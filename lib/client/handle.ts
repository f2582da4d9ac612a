/**
 * What is open in the addon: closed once, unusable at once, and closed when the garbage collector took its owner before,
 * which is reported once for each kind. FinalizationRegistry calls back from the event loop, not from inside the
 * collector; the ends of the process and of worker threads are the addon's own business.
 *
 * @internal
 */
import { closedError } from './errors.js';

export class Handle<H extends number = number, R = unknown> {
  /** In messages, behind an article: 'session with TA …'. */
  readonly what: string;
  #number: H | 0;
  readonly #close: (number: H) => R;
  readonly #parent: Handle | undefined;

  /**
   * @param owner the object that a user has
   * @param close closes it in the addon. It must not hold the owner, or that would live for ever
   * @param parent what it closes with, which itself has none
   */
  constructor(owner: object, what: string, number: H, close: (number: H) => R, parent?: Handle) {
    this.what = what;
    this.#number = number;
    this.#close = close;
    this.#parent = parent;
    registry.register(owner, this as unknown as Handle);
  }

  /** Was it, or what it closes with, closed? */
  get closed(): boolean {
    return this.#number === 0 || (this.#parent !== undefined && this.#parent.#number === 0);
  }

  /** The addon's number of it; 0 when it was closed. */
  get number(): H | 0 {
    return this.#number;
  }

  /**
   * The addon's number of it.
   * @throws ERR_TEE_CLOSED
   */
  use(): H {
    if (this.closed) throw closedError(`the ${this.what}`);
    return this.#number as H;
  }

  /** Closes it. Returns what the addon says; undefined if it was closed before. */
  close(): R | undefined {
    const number = this.#number;
    if (number === 0) return undefined;
    this.#number = 0;
    return this.#close(number);
  }
}

/** Kinds of which a lost handle was reported: a leak in a loop is one warning, not one for each round. */
const reported = new Set<string>();

const registry = new FinalizationRegistry<Handle>((handle) => {
  const closed = handle.closed;
  handle.close();
  const [kind = ''] = handle.what.split(' ');
  if (closed || reported.has(kind)) return;
  reported.add(kind);
  process.emitWarning(
    `A ${handle.what} was closed by the garbage collector; close it when it is no longer needed ` +
      `(said once for all of kind ${kind})`,
    { type: 'ResourceWarning', code: 'TEE_HANDLE_NOT_CLOSED' },
  );
});

const owners = new WeakMap<ArrayBuffer, object>();

/** Keeps an owner as long as somebody uses the memory that closing it would take away. */
export function keepWhile(buffer: ArrayBuffer, owner: object): void {
  owners.set(buffer, owner);
}
