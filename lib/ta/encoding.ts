/** From arguments to parameters, and from what these bring back to results. */
import type { Parameter } from '../client/parameters.js';

/** The arguments of a call, in the order of the description; undefined where there is none. */
export type Args = readonly unknown[];
/** What a caller gets, by name. */
export type Results = Record<string, unknown>;

/** Makes a slot's parameter of its arguments. This can run code of the caller's, so all are made before anything is sent. */
export type Encode = (args: Args) => Parameter<unknown>;

/**
 * Puts what a parameter brought back into the results.
 * @throws Error ERR_TEE_BAD_OUTPUT
 */
export type Decode = (output: unknown, results: Results) => void;
