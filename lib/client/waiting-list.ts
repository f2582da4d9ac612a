/** A place in a {@link WaitingList}. */
export interface Entry<T> {
  readonly value: T;
  /** The list that it is in; undefined when it has left. */
  list: WaitingList<T> | undefined;
  before: Entry<T> | undefined;
  behind: Entry<T> | undefined;
}

/**
 * First in, first out. To join, to be the next one and to leave from the middle each take the same time, however many
 * wait. (An array takes longer to leave from its middle; a Set that loses its first ones takes longer to find the next.)
 */
export class WaitingList<T> {
  #first: Entry<T> | undefined;
  #last: Entry<T> | undefined;
  #length = 0;

  /** How many wait. */
  get length(): number {
    return this.#length;
  }

  /** Puts it behind all others. */
  add(value: T): Entry<T> {
    const entry: Entry<T> = { value, list: this, before: this.#last, behind: undefined };
    if (this.#last === undefined) this.#first = entry;
    else this.#last.behind = entry;
    this.#last = entry;
    this.#length++;
    return entry;
  }

  /** Takes out the one that has waited longest. */
  next(): T | undefined {
    const entry = this.#first;
    if (entry !== undefined) this.remove(entry);
    return entry?.value;
  }

  /** @returns false if it was not in this list, or is not any more */
  remove(entry: Entry<T>): boolean {
    if (entry.list !== this) return false;
    const { before, behind } = entry;
    if (before === undefined) this.#first = behind;
    else before.behind = behind;
    if (behind === undefined) this.#last = before;
    else behind.before = before;
    entry.list = entry.before = entry.behind = undefined;
    this.#length--;
    return true;
  }
}
