/** Pools of described TAs: a method per command, on any free session. */
import type { CallOptions } from '../client/call.js';
import { invalidArgType } from '../client/errors.js';
import type { SessionPool, SessionPoolStatistics } from '../client/pool.js';
import { addMethods, type Client, type MakeClient } from './client.js';
import { readArgs, readOptions, send, type Command } from './invocation.js';
import type { Methods, TaDefinition } from './types.js';

/** What a pool has besides a method per command. */
export interface PoolBase<D extends TaDefinition> extends AsyncDisposable, Disposable {
  /** Was it, or its context, closed? */
  readonly closed: boolean;
  /**
   * Runs a function with a client that nobody else uses meanwhile, for several calls that belong together; see
   * `SessionPool.use`.
   */
  use<T>(work: (client: Client<D>) => T | PromiseLike<T>, options?: Pick<CallOptions, 'signal'>): Promise<T>;
  /** How the pool is doing, at this moment and since it was made. */
  statistics(): SessionPoolStatistics;
  /** Closes the pool and its sessions; see `SessionPool.close`. */
  close(): Promise<void>;
}

/** Sessions with a described TA for whoever needs one. A command is called as that of a client. */
export type Pool<D extends TaDefinition> = Methods<D> & PoolBase<D>;

/** Makes a pool's methods of a pool of sessions. */
export type MakePool = (sessions: SessionPool) => PoolBase<TaDefinition>;

/** Makes the class of a TA's pools. */
export function poolOf(commands: ReadonlyMap<string, Command>, client: MakeClient): MakePool {
  class TaPool implements PoolBase<TaDefinition> {
    readonly #sessions: SessionPool;

    constructor(sessions: SessionPool) {
      this.#sessions = sessions;
    }

    /** Calls a command on any free session; of a repeatable one, both calls are on the same. */
    static async invoke(pool: TaPool, command: Command, args: unknown, given: unknown): Promise<unknown> {
      const params = readArgs(command, args);
      const options = readOptions(given);
      const sessions = pool.#sessions;
      if (command.growth === undefined) {
        return command.finish(await sessions.invoke(command.id, params, options));
      }
      return sessions.use((session) => send(session, command, params, options), { signal: options?.signal });
    }

    get closed(): boolean {
      return this.#sessions.closed;
    }

    async use<T>(
      work: (client: Client<TaDefinition>) => T | PromiseLike<T>,
      options?: Pick<CallOptions, 'signal'>,
    ): Promise<T> {
      if (typeof work !== 'function') throw invalidArgType('work', 'a function', work);
      return this.#sessions.use((session) => work(client(session) as Client<TaDefinition>), options);
    }

    statistics(): SessionPoolStatistics {
      return this.#sessions.statistics();
    }

    close(): Promise<void> {
      return this.#sessions.close();
    }

    [Symbol.dispose](): void {
      this.#sessions[Symbol.dispose]();
    }

    [Symbol.asyncDispose](): Promise<void> {
      return this.close();
    }
  }
  addMethods(TaPool, commands, (command) => {
    return function (this: TaPool, args?: unknown, options?: unknown): Promise<unknown> {
      return TaPool.invoke(this, command, args, options);
    };
  });
  return (sessions) => new TaPool(sessions);
}
