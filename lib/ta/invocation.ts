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
  const call = prepare(name, ta, slots, repeatable);
  const growth = slots.map((slot) => (slot.kind === 'bytes' && slot.direction === 'out' ? slot.max : 0));
  return {
    id,
    call,
    finish: (outputs) => resultsOf(call, outputs),
    growth: repeatable ? growth : undefined,
  };
}

/**
 * Reads the arguments of a call, which can run code of the caller's.
 * @throws as the arguments of a call do
 */
export function readArgs({ call }: Command, args: unknown): readonly Parameter<unknown>[] {
  return parametersOf(call, argsOf(call, args));
}

const OPTIONS = ['signal', 'wipe'];

/** Reads the options of a call, once, which can run code of the caller's. A blocking call refuses a signal itself. */
export function readOptions(options: unknown): CallOptions | undefined {
  if (options === undefined) return undefined;
  checkKnown(options, 'options', OPTIONS);
  const { signal, wipe } = options as CallOptions;
  return { signal, wipe };
}

/** Invokes a command. Rejects with all that is wrong. */
export function invoke(
  session: Session,
  command: Command,
  args: unknown,
  options: unknown,
): Promise<unknown> {
  try {
    return send(session, command, readArgs(command, args), readOptions(options));
  } catch (error) {
    return Promise.reject(error);
  }
}

/** The same of a call that was read. */
export function send(
  session: Session,
  { id, finish, growth }: Command,
  params: readonly Parameter<unknown>[],
  options: CallOptions | undefined,
): Promise<unknown> {
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
  const params = readArgs(command, args);
  const options = readOptions(given);
  if (growth === undefined) return finish(session.invokeSync(id, params, options));
  let outputs: readonly unknown[];
  try {
    outputs = session.invokeSync(id, params, options);
  } catch (error) {
    const more = withMoreRoom(growth, params, error);
    if (more === undefined) throw error;
    outputs = session.invokeSync(id, more, options);
  }
  return finish(outputs);
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
