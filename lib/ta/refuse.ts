import { invalidArgValue, show } from '../client/errors.js';

/**
 * What is wrong in a description, with its place.
 * @param place 'notary.commands.hash.slots[1]'
 * @param problem a whole sentence without its stop
 */
export function refused(place: string, problem: string): TypeError & { code: string } {
  return invalidArgValue(`${place}:`, undefined, problem);
}

/** Throws where there is a problem. */
export function refuse(place: string, problem: string | undefined): void {
  if (problem !== undefined) throw refused(place, problem);
}

/**
 * A place is checked once, by its position in a list; returns undefined where a value is in there for the first time.
 * @param what 'id', 'name'
 */
export class Seen {
  readonly #places = new Map<unknown, string>();

  /** @throws where another place has the same */
  add(value: unknown, place: string, what: string): void {
    const other = this.#places.get(value);
    if (other !== undefined) throw refused(place, `its ${what} is that of ${other}, too`);
    this.#places.set(value, place);
  }
}

/** An object, as a caller wrote it: a record of anything. */
export function checkRecord(value: unknown, place: string, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw refused(place, `must be an object with ${what}`);
  }
  return value as Record<string, unknown>;
}

/** The names in a record must be among these. */
export function checkNames(value: object, place: string, names: readonly string[]): void {
  const unknown = Object.keys(value).find((key) => !names.includes(key));
  if (unknown !== undefined)
    throw refused(place, `there is no '${unknown}' here; there are ${names.join(', ')}`);
}

/** A whole number from `min` to `max`. */
export function checkNumber(value: unknown, place: string, what: string, min: number, max: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
    const given = typeof value === 'number' ? value : show(value);
    throw refused(place, `${what} must be a whole number from ${min} to ${max}, not ${given}`);
  }
  return value;
}
