/** From arguments to parameters, and from what these bring back to results. */
import type { Parameter } from '../client/parameters.js';

/** What a caller gave, by name. */
export type Args = Readonly<Record<string, unknown>>;
/** What a caller gets, by name. */
export type Results = Record<string, unknown>;

/**
 * Makes a slot's parameter of its arguments. This can run code of the caller's, so all slots are done before anything is
 * sent.
 * @param given the values of all arguments of the call; a slot knows which are its own
 */
export type Encode = (given: readonly unknown[]) => Parameter<unknown>;

/**
 * Puts what a parameter brought back into the results.
 * @throws Error ERR_TEE_BAD_OUTPUT
 */
export type Decode = (output: unknown, results: Results) => void;
