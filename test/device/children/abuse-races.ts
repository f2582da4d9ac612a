/**
 * Random programs of all that can happen at the same time, over several contexts and sessions, with up to 16 calls under
 * way, and worker threads that do the same meanwhile and are terminated in the middle of it. What comes back is compared
 * with a model. The model is small: a call runs if its session, context and memory were open when it was made; the calls of
 * a session run in their order, each once.
 */
import { createHash } from 'node:crypto';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import fc from 'fast-check';
import { buffer, TeeContext, value, type Session, type SessionPool, type SharedMemory } from 'node-optee';
import { Pkcs11, type TokenLogin } from 'node-optee/pkcs11';
import { checkProperty, hasCode, options, runAbuse, trace, within } from '../../support/abuse.js';
import { census, collectGarbage, TEST_TA } from '../../support/census.js';
import * as TA from '../../support/test-ta.js';
import { until } from '../../support/until.js';

const MOST_UNDER_WAY = 16;

interface Context {
  readonly tee: TeeContext;
  closed: boolean;
}
/** What belongs to a context, and closes with it. */
interface Owned<T> {
  readonly it: T;
  readonly context: Context;
  closed: boolean;
}
interface Opened extends Owned<Session> {
  /** Commands that count, in the order in which they were made; undefined: it was not executed. */
  readonly counted: ({ tag: number; count: number; last: number } | undefined)[];
  /** Can a call of it end with TEE_ERROR_CANCEL, or TEE_ERROR_TARGET_DEAD? */
  aborted: boolean;
  panicked: boolean;
}

const isClosed = ({ closed, context }: Owned<unknown>): boolean => closed || context.closed;

/** Of the machine, not of the order of things: the TEE has no room. */
const NO_ROOM = /^(TEE_ERROR_(OUT_OF_MEMORY|BUSY|SECURITY)|ENOMEM|CKR_DEVICE_MEMORY|CKR_SESSION_COUNT)$/;

/** One program's state. */
class World {
  readonly #contexts: Context[] = [];
  readonly #sessions: Opened[] = [];
  readonly #memory: Owned<SharedMemory>[] = [];
  readonly #pools: Owned<SessionPool>[] = [];
  readonly #logins: Owned<TokenLogin>[] = [];
  readonly #underWay = new Set<Promise<void>>();
  #failure: Error | undefined;
  #tag = 0;

  /** Whatever there is at that place, wrapped around. */
  #pick<T>(all: readonly T[], at: number): T | undefined {
    return all[at % all.length];
  }

  /** What is over, now and then left in: closed things are used, too. */
  #prune<T extends Owned<unknown>>(all: T[]): void {
    if (all.length > 6) all.splice(0, 1);
  }

  /**
   * Starts something and sees how it ends.
   * @param expected codes with which it may end
   */
  #start<T>(work: () => Promise<T>, check: (found: T) => unknown, expected: () => RegExp[]): void {
    const running = within((async () => work())(), work.toString.bind(work))
      .then(check)
      .then(
        () => undefined,
        (error: unknown) => {
          if (hasCode(error) && [NO_ROOM, ...expected()].some((code) => code.test(error.code))) return;
          this.#failure ??= error as Error;
        },
      )
      .finally(() => this.#underWay.delete(running));
    this.#underWay.add(running);
  }

  async #room(): Promise<void> {
    while (this.#underWay.size >= MOST_UNDER_WAY) await Promise.race(this.#underWay);
  }

  /** A signal for a call: none, aborted at once, or in so many milliseconds. */
  #signal(abort: number): { signal?: AbortSignal } {
    if (abort === 0) return {};
    if (abort === 1) return { signal: AbortSignal.abort() };
    const controller = new AbortController();
    if (abort === 2) setImmediate(() => controller.abort());
    else setTimeout(() => controller.abort(), abort);
    return controller;
  }

  async run({ op, at, other, abort }: Op): Promise<void> {
    await this.#room();
    OPS[op](this, at, other, abort);
    if (other % 4 === 0) await new Promise(setImmediate);
    if (this.#failure !== undefined) throw this.#failure;
  }

  openContext(): void {
    const open = this.#contexts.filter(({ closed }) => !closed).length;
    if (open < 3) this.#contexts.push({ tee: TeeContext.open(), closed: false });
  }

  closeContext(at: number): void {
    const context = this.#pick(this.#contexts, at);
    if (context === undefined) return;
    context.closed = true;
    this.#start(
      () => context.tee.close(),
      () => undefined,
      () => [],
    );
  }

  openSession(at: number, isSync: boolean, abort: number): void {
    const context = this.#pick(this.#contexts, at);
    if (context === undefined || this.#sessions.filter((one) => !isClosed(one)).length >= 6) return;
    const { closed: wasClosed } = context;
    const add = (it: Session): void => {
      if (wasClosed) throw new Error('A closed context has opened a session');
      this.#sessions.push({ it, context, closed: false, counted: [], aborted: false, panicked: false });
      this.#prune(this.#sessions);
    };
    this.#start(
      async () => (isSync ? context.tee.openSessionSync(TEST_TA) : context.tee.openSession(TEST_TA, this.#signal(abort))), // prettier-ignore
      add,
      () => [...(context.closed ? [/^ERR_TEE_CLOSED$/] : []), ...(abort > 0 ? [/^ABORT_ERR$/] : [])],
    );
  }

  /** The codes with which a call of a session may end: not as it is when it ends, but as it was when it was made. */
  #codes(session: Opened, abort: number): () => RegExp[] {
    const wasClosed = isClosed(session);
    if (abort > 0) session.aborted = true;
    return () => [
      ...(wasClosed ? [/^ERR_TEE_CLOSED$/] : []),
      ...(abort > 0 ? [/^ABORT_ERR$/] : []),
      ...(session.aborted ? [/^TEE_ERROR_CANCEL$/] : []),
      ...(session.panicked ? [/^TEE_ERROR_TARGET_DEAD$/] : []),
    ];
  }

  #mustBeOpen(wasClosed: boolean): void {
    if (wasClosed) throw new Error('What was closed has run a call');
  }

  count(at: number, isSync: boolean, abort: number): void {
    const session = this.#pick(this.#sessions, at);
    if (session === undefined) return;
    const wasClosed = isClosed(session);
    const [tag, index] = [++this.#tag, session.counted.push(undefined) - 1];
    const params = [value.inout(tag)] as const;
    const expected = this.#codes(session, isSync ? 0 : abort);
    this.#start(
      async () => (isSync ? session.it.invokeSync(TA.TEST_TA_COUNT, params) : session.it.invoke(TA.TEST_TA_COUNT, params, this.#signal(abort))), // prettier-ignore
      ([{ a, b }]) => {
        this.#mustBeOpen(wasClosed);
        session.counted[index] = { tag, count: a, last: b };
      },
      expected,
    );
  }

  wait(at: number, other: number, abort: number): void {
    const session = this.#pick(this.#sessions, at);
    if (session === undefined) return;
    const wasClosed = isClosed(session);
    const command = other % 2 === 0 ? TA.TEST_TA_WAIT : TA.TEST_TA_WAIT_MASKED;
    const expected = this.#codes(session, abort);
    this.#start(
      () => session.it.invoke(command, [value.in(other % 30)], this.#signal(abort)),
      () => this.#mustBeOpen(wasClosed),
      expected,
    );
  }

  panic(at: number, other: number): void {
    const session = this.#pick(this.#sessions, at);
    if (session === undefined || other % 4 !== 0) return;
    session.panicked = true;
    const expected = this.#codes(session, 0);
    this.#start(
      () => session.it.invoke(TA.TEST_TA_PANIC),
      () => this.#never(),
      expected,
    );
  }

  #never(): void {
    throw new Error('A panic has brought something back');
  }

  closeSession(at: number): void {
    const session = this.#pick(this.#sessions, at);
    if (session === undefined) return;
    session.closed = true;
    this.#start(
      () => session.it.close(),
      () => undefined,
      () => [],
    );
  }

  memory(at: number, other: number): void {
    const context = this.#pick(this.#contexts, at);
    if (context === undefined) return;
    const size = 1 + ((other * 997) % 9000);
    const wasClosed = context.closed;
    this.#start(
      () =>
        other % 2 === 0
          ? context.tee.allocSharedMemory(size)
          : context.tee.registerSharedMemory(new Uint8Array(new SharedArrayBuffer(size + 100), 100)),
      (it) => {
        this.#mustBeOpen(wasClosed);
        // Its content never changes, so it is known whenever a TA reads it.
        if (!it.closed) it.write(new Uint8Array(it.size).fill(it.size & 0xff));
        this.#memory.push({ it, context, closed: false });
        this.#prune(this.#memory);
      },
      () => (context.closed ? [/^ERR_TEE_CLOSED$/] : []),
    );
  }

  closeMemory(at: number): void {
    const memory = this.#pick(this.#memory, at);
    if (memory === undefined) return;
    memory.closed = true;
    memory.it.close();
  }

  /** A TA reads shared memory, whoever closes what meanwhile. */
  read(at: number, other: number, abort: number): void {
    const [session, memory] = [this.#pick(this.#sessions, at), this.#pick(this.#memory, other)];
    if (session === undefined || memory === undefined) return;
    const { size } = memory.it;
    const wasClosed = isClosed(session) || isClosed(memory);
    const isOther = session.context !== memory.context;
    const expected = this.#codes(session, abort);
    this.#start(
      () => session.it.invoke(TA.TEST_TA_COPY, [memory.it.in(), buffer.out(size)], this.#signal(abort)),
      ([, found]) => {
        this.#mustBeOpen(wasClosed || isOther);
        if (found.length !== size || found.some((byte) => byte !== (size & 0xff))) {
          throw new Error(
            `Memory of ${size} bytes came back as ${Buffer.from(found).toString('hex', 0, 20)}`,
          );
        }
      },
      () => [
        ...expected(),
        ...(wasClosed ? [/^ERR_TEE_CLOSED$/] : []),
        ...(isOther ? [/^ERR_TEE_WRONG_CONTEXT$/] : []),
      ],
    );
  }

  pool(at: number): void {
    const context = this.#pick(this.#contexts, at);
    if (context === undefined || context.closed) return;
    const it: SessionPool = context.tee.pool<never[]>(TEST_TA, { max: 2, idle: 20 });
    this.#pools.push({ it, context, closed: false });
    if (this.#pools.length <= 2) return;
    this.closePool(0);
    this.#pools.splice(0, 1);
  }

  poolInvoke(at: number, other: number, abort: number): void {
    const pool = this.#pick(this.#pools, at);
    if (pool === undefined) return;
    const params = [value.inout(other)] as const;
    this.#start(
      () => pool.it.invoke(TA.TEST_TA_VALUES, params, this.#signal(abort)),
      ([{ a, b }]) => {
        if (a !== other + 1 || b !== 2) throw new Error(`${other} came back from a pool as ${a}, ${b}`);
      },
      () => [...(isClosed(pool) ? [/^ERR_TEE_CLOSED$/] : []), ...(abort > 0 ? [/^ABORT_ERR$/] : [])],
    );
  }

  closePool(at: number): void {
    const pool = this.#pick(this.#pools, at);
    if (pool === undefined) return;
    pool.closed = true;
    this.#start(
      () => pool.it.close(),
      () => undefined,
      () => [],
    );
  }

  logIn(at: number): void {
    const context = this.#pick(this.#contexts, at);
    if (context === undefined || this.#logins.filter((one) => !isClosed(one)).length >= 2) return;
    this.#start(
      async () => (await (await Pkcs11.open({ context: context.tee })).token({ slot: 2 })).open(),
      (it) => {
        this.#logins.push({ it, context, closed: false });
        this.#prune(this.#logins);
      },
      () => (context.closed ? [/^ERR_TEE_CLOSED$/] : []),
    );
  }

  digest(at: number, other: number, abort: number): void {
    const login = this.#pick(this.#logins, at);
    if (login === undefined) return;
    const data = Buffer.alloc(other * 700, other);
    this.#start(
      () => login.it.digest('sha256', data, this.#signal(abort)),
      (found) => {
        if (!createHash('sha256').update(data).digest().equals(found)) throw new Error('A wrong digest');
      },
      () => [...(isClosed(login) ? [/^ERR_TEE_CLOSED$/] : []), ...(abort > 0 ? [/^ABORT_ERR$/] : [])],
    );
  }

  logOut(at: number): void {
    const login = this.#pick(this.#logins, at);
    if (login === undefined) return;
    login.closed = true;
    this.#start(
      () => login.it.close(),
      () => undefined,
      () => [],
    );
  }

  /** All that was made runs to its end; then the calls of each session are looked at together. */
  async end(): Promise<void> {
    const sessions = [...this.#sessions];
    for (const context of this.#contexts) {
      context.closed = true;
      this.#start(
        () => context.tee.close(),
        () => undefined,
        () => [],
      );
    }
    while (this.#underWay.size > 0) await Promise.all(this.#underWay);
    if (this.#failure !== undefined) throw this.#failure;
    for (const { counted } of sessions) {
      let [count, last] = [0, 0];
      for (const one of counted) {
        if (one === undefined) continue;
        if (one.count !== ++count || one.last !== last) {
          throw new Error(`Call ${count} after ${last} was ${JSON.stringify(one)}`);
        }
        last = one.tag;
      }
    }
  }
}

/** What a program is made of, each with how often it comes. */
const OPS = {
  openContext: (w: World) => w.openContext(),
  closeContext: (w: World, at: number) => w.closeContext(at),
  openSession: (w: World, at: number, other: number, abort: number) =>
    w.openSession(at, other % 3 === 0, abort),
  count: (w: World, at: number, other: number, abort: number) => w.count(at, other % 5 === 0, abort),
  wait: (w: World, at: number, other: number, abort: number) => w.wait(at, other, abort),
  panic: (w: World, at: number, other: number) => w.panic(at, other),
  closeSession: (w: World, at: number) => w.closeSession(at),
  memory: (w: World, at: number, other: number) => w.memory(at, other),
  read: (w: World, at: number, other: number, abort: number) => w.read(at, other, abort),
  closeMemory: (w: World, at: number) => w.closeMemory(at),
  pool: (w: World, at: number) => w.pool(at),
  poolInvoke: (w: World, at: number, other: number, abort: number) => w.poolInvoke(at, other, abort),
  closePool: (w: World, at: number) => w.closePool(at),
  logIn: (w: World, at: number) => w.logIn(at),
  digest: (w: World, at: number, other: number, abort: number) => w.digest(at, other, abort),
  logOut: (w: World, at: number) => w.logOut(at),
} as const;
const OFTEN: (keyof typeof OPS)[] = ['openContext', 'openSession', 'openSession', 'count', 'count', 'count', 'wait', 'read', 'read', 'memory', 'poolInvoke']; // prettier-ignore

interface Op {
  readonly op: keyof typeof OPS;
  readonly at: number;
  readonly other: number;
  /** 0: none; 1: before; 2: at once; else after so many milliseconds. */
  readonly abort: number;
}

const program: fc.Arbitrary<Op[]> = fc.array(
  fc.record({
    op: fc.constantFrom(...(Object.keys(OPS) as (keyof typeof OPS)[]), ...OFTEN),
    at: fc.nat(11),
    other: fc.nat(100),
    abort: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.integer({ min: 1, max: 15 }) }), // prettier-ignore
  }),
  { minLength: 20, maxLength: 80, size: 'max' },
);

let operations = 0;

async function runProgram(ops: readonly Op[]): Promise<void> {
  const world = new World();
  try {
    world.openContext();
    for (const op of ops) {
      operations++;
      await world.run(op);
    }
  } finally {
    await world.end();
  }
}

/** What a worker thread does, until it is terminated. */
async function worker(): Promise<void> {
  const { seed } = workerData as { seed: number };
  for (const ops of fc.sample(program, { seed, numRuns: 1000 })) {
    await runProgram(ops);
    parentPort?.postMessage({ operations });
  }
}

/** Worker threads beside the programs. */
class Workers {
  readonly #running = new Set<Worker>();
  #started = 0;
  #operations = 0;
  #failure: Error | undefined;

  get counts(): { workers: number; inWorkers: number } {
    return { workers: this.#started, inWorkers: this.#operations };
  }

  keep(count: number): void {
    if (this.#failure !== undefined) throw this.#failure;
    while (this.#running.size < count) {
      const seed = options.seed * 7919 + this.#started++;
      trace(() => `a worker thread with seed ${seed}`);
      const started = new Worker(__filename, { workerData: { seed }, argv: process.argv.slice(2) });
      started.on('error', (error) => (this.#failure ??= error));
      let had = 0;
      started.on('message', (message: { operations: number }) => {
        this.#operations += message.operations - had;
        had = message.operations;
      });
      started.on('exit', () => this.#running.delete(started));
      this.#running.add(started);
    }
  }

  async terminate(count: number): Promise<void> {
    const some = [...this.#running].slice(0, count);
    await within(Promise.all(some.map((one) => one.terminate())), () => 'the end of a worker thread');
    if (this.#failure !== undefined) throw this.#failure;
  }
}

async function main(): Promise<Record<string, unknown>> {
  const before = census();
  const workers = new Workers();
  const programs = await checkProperty(fc.tuple(program, fc.nat(7)), async ([ops, chance]) => {
    workers.keep(2);
    const ended = chance === 0 ? workers.terminate(1) : undefined;
    await runProgram(ops);
    await ended;
  });
  await workers.terminate(Infinity);
  await until(async () => {
    await collectGarbage();
    return JSON.stringify(census()) === JSON.stringify(before);
  });
  return { cases: programs, operations, ...workers.counts };
}

if (isMainThread) void runAbuse(main);
else {
  worker().catch((error: unknown) => {
    throw new Error(`In a worker thread with seed ${JSON.stringify(workerData)}`, { cause: error });
  });
}
