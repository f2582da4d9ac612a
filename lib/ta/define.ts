import { TeeContext, type OpenSessionOptions } from '../client/context.js';
import { NAMES, type TaNames } from '../client/described.js';
import { invalidArgType } from '../client/errors.js';
import type { Login } from '../client/login.js';
import type { Session } from '../client/session.js';
import { checkDefinition } from './check.js';
import { clientOf, type Client, type MakeClient } from './client.js';
import { argsOf, parametersOf, prepare, type Call } from './command.js';
import type { SessionPoolOptions } from '../client/pool.js';
import { describe, namesOf, type Described, type Description, type SlotDescription } from './description.js';
import { commandOf } from './invocation.js';
import { OPEN_OPTIONS, POOL_OPTIONS } from './names.js';
import { poolOf, type Pool } from './pool.js';
import type { Check, OpenArguments, TaDefinition } from './types.js';

/** How a client is opened, besides the arguments of the opening. */
export interface OpenOptions {
  /** Who the client is to the TA; `Login.public` unless told otherwise. */
  login?: Login | undefined;
  /** Zero the memory of the opening's temporary buffers at once; see `CallOptions`. */
  wipe?: boolean | undefined;
  /** Aborts the opening. */
  signal?: AbortSignal | undefined;
}

/** How a pool is made, besides the arguments of the opening of its sessions. */
export type PoolOptions = Omit<SessionPoolOptions, 'params'>;

/** An opening's options and arguments; they may be left out if nothing in them has to be there. */
export type Opening<D extends TaDefinition, O> =
  Record<never, never> extends OpenArguments<D>
    ? [options?: O & OpenArguments<D>]
    : [options: O & OpenArguments<D>];

/** A described TA, made by `defineTrustedApplication`. */
export interface TrustedApplication<D extends TaDefinition> extends Described {
  readonly name: D['name'];
  /** Lower case. */
  readonly uuid: string;
  /**
   * Opens a session.
   * @param options `{ login, signal, wipe }` and the arguments of the opening
   * @returns a client with a method per command
   * @throws (rejects with) as `TeeContext.openSession`; ERR_TEE_BAD_OUTPUT where the TA brought back what its description
   *   does not allow
   */
  open(tee: TeeContext, ...options: Opening<D, OpenOptions>): Promise<Client<D>>;
  /**
   * The same, blocking.
   * @throws as `open` rejects
   */
  openSync(tee: TeeContext, ...options: Opening<D, Omit<OpenOptions, 'signal'>>): Client<D>;
  /**
   * Makes a pool of sessions, as `TeeContext.pool` does. Nothing is opened before the first call.
   * @param options those of `TeeContext.pool` (but `params`), and the arguments of each opening, which are copied
   * @returns a pool with a method per command
   * @throws as `TeeContext.pool`
   */
  pool(tee: TeeContext, ...options: Opening<D, PoolOptions>): Pool<D>;
}

/** The definition of a described TA: `DefinitionOf<typeof Notary>`. */
export type DefinitionOf<T> = T extends TrustedApplication<infer D> ? D : never;
/** The client of a described TA: `ClientOf<typeof Notary>`. */
export type ClientOf<T> = Client<DefinitionOf<T>>;

/**
 * Describes a TA: its UUID, its commands and what they take and bring back. Clients are made of it, and the C of the TA.
 *
 * Names are unique where they stand, in C too (`signHash` is `sign_hash` there), and are no words of C. Ids and results are
 * unique; results are none of GlobalPlatform's.
 *
 * @throws TypeError ERR_INVALID_ARG_VALUE with the place in the description: 'notary.commands.hash.slots[1]: …'
 */
export function defineTrustedApplication<const D extends TaDefinition>(
  definition: D & Check<D>,
): TrustedApplication<D>;
export function defineTrustedApplication(definition: unknown): Described {
  const description = checkDefinition(definition);
  const { name, uuid } = description;
  const opening = prepare('open', name, description.open, false);
  const commands = new Map(description.commands.map((command) => [command.name, commandOf(command, name)]));
  const client = clientOf(commands, opening);
  const pool = poolOf(commands, client);
  const names = taNames(description);
  const ta = {
    name,
    uuid,
    async open(tee: TeeContext, options?: unknown): Promise<unknown> {
      return made(client, await tee.openSession(uuid, readOpening(opening, names, tee, options)));
    },
    openSync(tee: TeeContext, options?: unknown): unknown {
      return made(client, tee.openSessionSync(uuid, readOpening(opening, names, tee, options)));
    },
    pool(tee: TeeContext, options?: unknown): unknown {
      return pool(tee.pool(uuid, readPool(opening, names, tee, options)));
    },
  };
  return Object.freeze(describe(ta, description));
}

/** Reads how a session is opened, which can run code of the caller's. */
function readOpening(opening: Call, names: TaNames, tee: unknown, options: unknown): OpenSessionOptions {
  if (!(tee instanceof TeeContext)) throw invalidArgType('tee', 'a TeeContext', tee);
  const given = argsOf(opening, options);
  const params = parametersOf(opening, given, OPEN_OPTIONS);
  const { login, signal, wipe } = given as OpenOptions;
  return { login, signal, wipe, params, [NAMES]: names };
}

/** Reads how a pool is made, which can run code of the caller's. */
function readPool(opening: Call, names: TaNames, tee: unknown, options: unknown): SessionPoolOptions {
  if (!(tee instanceof TeeContext)) throw invalidArgType('tee', 'a TeeContext', tee);
  const given = argsOf(opening, options);
  const params = parametersOf(opening, given, POOL_OPTIONS);
  const { idle, login, max, replaceAfterCancel, wipe } = given as PoolOptions;
  return { idle, login, max, replaceAfterCancel, wipe, params, [NAMES]: names };
}

/** A client of a session that has been opened. What is wrong with its outputs closes it. */
function made(client: MakeClient, session: Session): unknown {
  try {
    return client(session);
  } catch (error) {
    session[Symbol.dispose]();
    throw error;
  }
}

function taNames({ name, results, open, commands }: Description): TaNames {
  const params = (call: string, slots: readonly SlotDescription[]): string[] =>
    slots.map((slot) => `${call}.${namesOf(slot).join(' and ')}`);
  return {
    name,
    results: new Map(results.map((result) => [result.value, result.name])),
    commands: new Map(
      commands.map((command) => [
        command.id,
        { name: command.name, params: params(command.name, command.slots) },
      ]),
    ),
    open: { name: undefined, params: params('open', open) },
  };
}
