/** Clients of described TAs: a session with a method per command. */
import type { Session } from '../client/session.js';
import { resultsOf, type Call } from './command.js';
import { invoke, invokeSync, type Command } from './invocation.js';
import type { Methods, OpenResults, SyncMethods, TaDefinition } from './types.js';

/** What a client has besides a method per command. */
export interface ClientBase<D extends TaDefinition> extends AsyncDisposable, Disposable {
  /** The session itself. It closes with this client, and this client with it. */
  readonly session: Session;
  /** The same commands, each blocking this thread until the TA has answered. */
  readonly sync: SyncMethods<D>;
  /** What the opening brought back, by name; undefined where that is nothing. */
  readonly outputs: OpenResults<D>;
  /** Was it, or its context, closed? */
  readonly closed: boolean;
  /** Closes the session, as `Session.close` does. */
  close(): Promise<void>;
}

/**
 * A client of a described TA. Each command is a method: it takes an object of the arguments, and `{ signal, wipe }`; it
 * resolves to an object of the results (undefined where there are none). Calls run one after the other, as those of a
 * `Session` do.
 */
export type Client<D extends TaDefinition> = Methods<D> & ClientBase<D>;

/** Makes a client of a session. */
export type MakeClient = (session: Session) => ClientBase<TaDefinition>;

/** Gives a class a method per command. */
export function addMethods(
  type: { prototype: object },
  commands: ReadonlyMap<string, Command>,
  make: (command: Command) => (...args: never) => unknown,
): void {
  for (const [name, command] of commands) {
    const method = Object.defineProperty(make(command), 'name', { value: name });
    Object.defineProperty(type.prototype, name, { value: method, writable: true, configurable: true });
  }
}

/**
 * Makes the class of a TA's clients.
 * @param opening the opening, made ready
 */
export function clientOf(commands: ReadonlyMap<string, Command>, opening: Call): MakeClient {
  class SyncClient {
    readonly #session: Session;

    constructor(session: Session) {
      this.#session = session;
    }

    static sessionOf(client: SyncClient): Session {
      return client.#session;
    }
  }
  addMethods(SyncClient, commands, (command) => {
    return function (this: SyncClient, args?: unknown, options?: unknown): unknown {
      return invokeSync(SyncClient.sessionOf(this), command, args, options);
    };
  });

  class TaClient implements ClientBase<TaDefinition> {
    readonly session: Session;
    readonly sync: SyncMethods<TaDefinition>;
    readonly outputs: OpenResults<TaDefinition>;

    constructor(session: Session) {
      this.session = session;
      this.sync = new SyncClient(session) as unknown as SyncMethods<TaDefinition>;
      this.outputs = resultsOf(opening, session.outputs) as OpenResults<TaDefinition>;
    }

    get closed(): boolean {
      return this.session.closed;
    }

    close(): Promise<void> {
      return this.session.close();
    }

    [Symbol.dispose](): void {
      this.session[Symbol.dispose]();
    }

    [Symbol.asyncDispose](): Promise<void> {
      return this.close();
    }
  }
  addMethods(TaClient, commands, (command) => {
    return function (this: TaClient, args?: unknown, options?: unknown): Promise<unknown> {
      return invoke(this.session, command, args, options);
    };
  });
  return (session) => new TaClient(session);
}
