/** Calls of a described TA's commands on a session. */
import type { CallOptions } from '../client/call.js';
import { TeeError } from '../client/errors.js';
import { ParamKind } from '../client/native.js';
import { buffer, Parameter } from '../client/parameters.js';
import { TEE_RESULTS } from '../client/results.js';
import type { Session } from '../client/session.js';
import { checkKnown } from '../client/validate.js';
import { argsOf, parametersOf, prepare, resultsOf, type Call } from './command.js';
import type { CommandDescription } from './description.js';
import type { Results } from './encoding.js';

/** A command made ready. */
export interface Command {
  readonly id: number;
  readonly call: Call;
  /** The results of its outputs. */
  readonly finish: (outputs: readonly unknown[]) => Results | undefined;
  /** Of a repeatable one, how much room each output may get: in bytes, 0 of what has no room that could grow. */
  readonly growth: readonly number[] | undefined;
}

/** @param ta the TA's name */
export function commandOf({ name, id, slots, repeatable }: CommandDescription, ta: string): Command {
  const call = prepare(name, ta, slots);
  const growth = slots.map((slot) => (slot.kind === 'bytes' && slot.direction === 'out' ? slot.max : 0));
  return {
    id,
    call,
    finish: (outputs) => resultsOf(call, outputs),
    growth: repeatable ? growth : undefined,
  };
}

/** A call, all of it read from its caller. */
export interface ReadCall {
  readonly params: readonly Parameter<unknown>[];
  readonly options: CallOptions | undefined;
}

/**
 * Reads a call of a command, which can run code of the caller's.
 * @throws as the arguments of a call do
 */
export function readCall(
  { call, growth }: Command,
  args: unknown,
  options: unknown,
  names: readonly string[],
): ReadCall {
  const params = parametersOf(call, argsOf(call, args), growth !== undefined);
  return { params, options: options === undefined ? undefined : readOptions(options, names) };
}

/** The options of a call, read once. */
function readOptions(options: unknown, names: readonly string[]): CallOptions {
  checkKnown(options, 'options', names);
  const { signal, wipe } = options as CallOptions;
  return { signal, wipe };
}

const ASYNC = ['signal', 'wipe'];
const SYNC = ['wipe'];

/** Invokes a command. Rejects with all that is wrong. */
export function invoke(
  session: Session,
  command: Command,
  args: unknown,
  options: unknown,
): Promise<unknown> {
  try {
    return send(session, command, readCall(command, args, options, ASYNC));
  } catch (error) {
    return Promise.reject(error);
  }
}

/** The same of a call that was read. */
export function send(session: Session, command: Command, { params, options }: ReadCall): Promise<unknown> {
  const { id, finish, growth } = command;
  const outputs = session.invoke(id, params, options);
  if (growth === undefined) return outputs.then(finish);
  return outputs.then(finish, (error: unknown) => {
    const more = withMoreRoom(growth, params, error);
    if (more === undefined) throw error;
    return session.invoke(id, more, options).then(finish);
  });
}

/** The same, blocking. */
export function invokeSync(session: Session, command: Command, args: unknown, given: unknown): unknown {
  const { id, finish, growth } = command;
  const { params, options } = readCall(command, args, given, SYNC);
  try {
    return finish(session.invokeSync(id, params, options));
  } catch (error) {
    const more = growth && withMoreRoom(growth, params, error);
    if (more === undefined) throw error;
    return finish(session.invokeSync(id, more, options));
  }
}

/**
 * The parameters for a second call, where the TA has asked for more room and may get it.
 * @param growth in bytes, of each parameter
 */
function withMoreRoom(
  growth: readonly number[],
  params: readonly Parameter<unknown>[],
  error: unknown,
): readonly Parameter<unknown>[] | undefined {
  if (!(error instanceof TeeError) || error.result !== TEE_RESULTS.TEE_ERROR_SHORT_BUFFER) return undefined;
  let grown = false;
  const more: Parameter<unknown>[] = [];
  for (const [i, param] of params.entries()) {
    const output = error.outputs[i];
    const needs = output !== undefined && 'size' in output ? output.size : 0;
    const spec = Parameter.specOf(param);
    if (spec === undefined || needs <= spec.b) {
      more.push(param);
      continue;
    }
    // What the caller gave to be written into has no more room.
    if (spec.kind !== ParamKind.temporaryOut || needs > (growth[i] as number)) return undefined;
    more.push(buffer.out(needs));
    grown = true;
  }
  return grown ? more : undefined;
}
