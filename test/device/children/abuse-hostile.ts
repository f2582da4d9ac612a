/** A TA that means no good: results and sizes of every kind, panics in the middle, no answer, and memory that changes. */
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import {
  buffer,
  reportedSize,
  TEE_RESULTS,
  TeeContext,
  TeeError,
  value,
  type Parameter,
  type Session,
  type SharedMemory,
} from 'node-optee';
import { checkProperty, Echo, hasCode, runAbuse, step, within } from '../../support/abuse.js';
import { TEST_TA } from '../../support/census.js';
import { TestTa } from '../../support/described-ta.js';
import * as TA from '../../support/test-ta.js';
import { until } from '../../support/until.js';
import { checkBorders, withBorders } from '../../support/wrong-values.js';

let tee: TeeContext;
let session: Session;
let shared: SharedMemory;

const u32 = fc.oneof(
  fc.constantFrom(0, 1, 8, 9, 64, 4096, 0x7fffffff, 0x80000000, 0xffffffff),
  fc.integer({ min: 0, max: 0xffffffff }),
);
const result = fc.oneof(fc.constantFrom(...Object.values(TEE_RESULTS)), fc.constant(0), u32);
const room = fc.constantFrom(0, 1, 8, 64, 4096, 5000);

/** A memory that the TA answers a size for, and how many bytes it has. */
const MEMORY: Record<string, (room: number) => Parameter<unknown>> = {
  out: (size) => buffer.out(size),
  inout: (size) => buffer.inout(new Uint8Array(size)),
  into: (size) => buffer.into(withBorders(size)),
  inPlace: (size) => buffer.inPlace(withBorders(size)),
  shared: (size) => shared.out({ size }),
  null: () => buffer.null('out'),
};

function fail(what: string, found: unknown): never {
  throw new Error(`${what}: ${JSON.stringify(found)}`);
}

/** Any result, with a size that need not make sense. */
const answers = step(
  'answer',
  fc.record({ result, size: u32, room, kind: fc.constantFrom(...Object.keys(MEMORY)), isSync: fc.boolean() }),
  async (one) => {
    const { result, size, kind, isSync } = one;
    const room = kind === 'null' ? 0 : one.room;
    const memory = MEMORY[kind]?.(one.room);
    const params = [value.in(result, size), memory, value.out()] as const;
    const call = async (): Promise<readonly unknown[]> =>
      isSync
        ? session.invokeSync(TA.TEST_TA_RESULT, params)
        : session.invoke(TA.TEST_TA_RESULT, params, { wipe: size % 2 === 0 });
    const [error, outputs] = await call().then(
      (found) => [undefined, found] as const,
      (reason: unknown) => [reason, undefined] as const,
    );
    if (outputs !== undefined) {
      const [, found, { a, b }] = outputs as [undefined, Uint8Array | number, { a: number; b: number }];
      if (result !== 0 || a !== 0xffffffff || b !== size) fail('numbers', [one, a, b]);
      const told = typeof found === 'number' ? found : reportedSize(found);
      if (told !== size) fail('the size', [one, told]);
      if (typeof found !== 'number' && found.length !== Math.min(size, room))
        fail('bytes', [one, found.length]);
      return;
    }
    if (!(error instanceof TeeError) || error.result !== result) throw error;
    const [, found, numbers] = error.outputs as [
      undefined,
      { size: number; data?: Uint8Array },
      { a: number },
    ];
    if (found.size !== size || numbers.a !== ~result >>> 0) fail('outputs of an error', [one, error.outputs]);
    if ((found.data?.length ?? 0) > room) fail('data of an error', [one, found.data?.length]);
  },
);

/** An opening that is answered with any result, late. */
const openings = step('opening', fc.record({ result, milliseconds: fc.nat(30) }), async (one) => {
  const { result, milliseconds } = one;
  try {
    const opened = await tee.openSession(TEST_TA, { params: [value.in(result, milliseconds)] });
    await opened.close();
    if (result !== 0) fail('an opening', one);
  } catch (error) {
    if (!(error instanceof TeeError) || error.result !== result) throw error;
  }
});

/** A panic when half is written, with calls behind it. */
const panics = step(
  'panic',
  fc.record({ kind: fc.constantFrom('out', 'into', 'inPlace', 'shared'), room: fc.constantFrom(8, 5000) }),
  async (one) => {
    const own = await tee.openSession(TEST_TA);
    try {
      const memory = MEMORY[one.kind]?.(one.room);
      const ended = await Promise.allSettled([
        own.invoke(TA.TEST_TA_HALF, [memory, value.in(0xbad)]),
        own.invoke(TA.TEST_TA_VALUES, [value.inout(1)]),
      ]);
      for (const each of ended) {
        if (each.status === 'fulfilled') fail('it came back', one);
        const { code } = each.reason as TeeError;
        if (code !== 'TEE_ERROR_TARGET_DEAD') throw each.reason;
      }
    } finally {
      await own.close();
    }
  },
);

/** Answers for a described TA that do not fit its description. */
const described = step('described', fc.record({ result, size: u32 }), async ({ result, size }) => {
  const client = await TestTa.open(tee, { one: 1, two: 2, kept: 'kept' });
  try {
    for (const call of [() => client.answer({ result, size }), () => client.write({ size })]) {
      await call().catch((error: unknown) => {
        if (!hasCode(error)) throw error;
      });
    }
  } finally {
    await client.close();
  }
});

/** The ways in which a client can have enough of a TA that never answers. */
const GIVE_UP: Record<
  string,
  (own: TeeContext, calling: Session, data: SharedMemory, stop: () => void) => Promise<void>
> = {
  // prettier-ignore
  'waits, and reads what changes': async (_, __, data, stop) => {
    for (let i = 0; i < 50; i++) {
      if (data.read().length !== data.size) fail('a copy', i);
      if (data.buffer !== undefined) Buffer.from(data.buffer).toString('hex');
      await new Promise(setImmediate);
    }
    stop();
  },
  'closes the memory': async (_, __, data, stop) => {
    data.close();
    await new Promise((resolve) => setTimeout(resolve, 20));
    stop();
  },
  'closes the session': async (_, calling, __, stop) => {
    const closing = calling.close();
    setTimeout(stop, 20);
    await closing;
  },
  'closes the context': async (own, _, __, stop) => {
    const closing = own.close();
    setTimeout(stop, 20);
    await closing;
  },
};
const silences = step('silence', fc.constantFrom(...Object.keys(GIVE_UP)), async (how) => {
  const own = TeeContext.open();
  try {
    const calling = await own.openSession(TEST_TA);
    const [data, stopping] = [await own.allocSharedMemory(8192), new Uint8Array(new SharedArrayBuffer(1))];
    const ending = await own.registerSharedMemory(stopping);
    const controller = new AbortController();
    const call = calling.invoke(TA.TEST_TA_SCRIBBLE, [data.out(), ending.inout()], controller);
    const behind = calling.invoke(TA.TEST_TA_NOTHING, [], controller);
    const ended = Promise.allSettled([call, behind]);
    await until(() => data.read(1, 1)[0] !== 0); // the TA is at it
    controller.abort();
    await GIVE_UP[how]?.(own, calling, data, () => Atomics.store(stopping, 0, 1));
    const [first, second] = await within(ended, () => how);
    // The TA does not look at the flag. What waited was never sent.
    if (first.status !== 'fulfilled') throw first.reason;
    if (second.status === 'fulfilled' || !hasCode(second.reason)) fail('it ran', second);
  } finally {
    await own.close();
  }
});

/** A worker thread ends while its TA does not answer: the answer comes late, for nobody. */
async function lateForWorker(): Promise<void> {
  const stopping = new Uint8Array(new SharedArrayBuffer(1));
  const worker = new Worker(
    `const { workerData: stopping, parentPort } = require('node:worker_threads');
     const { TeeContext } = require('node-optee');
     const tee = TeeContext.open();
     const session = tee.openSessionSync('${TEST_TA}');
     const [data, stop] = [tee.allocSharedMemorySync(8192), tee.registerSharedMemorySync(stopping)];
     session.invoke(${TA.TEST_TA_SCRIBBLE}, [data.out(), stop.inout()]);
     parentPort.postMessage('it is there');`,
    { eval: true, workerData: stopping },
  );
  await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
  const ended = worker.terminate();
  setTimeout(() => Atomics.store(stopping, 0, 1), 50);
  await within(ended, () => 'the end of a worker thread');
}

void runAbuse(async () => {
  tee = TeeContext.open();
  session = await tee.openSession(TEST_TA);
  shared = await tee.allocSharedMemory(8192);
  const echo = new Echo(await tee.openSession(TEST_TA));
  const cases = await checkProperty(
    fc.oneof(
      { weight: 80, arbitrary: answers },
      { weight: 4, arbitrary: openings },
      { weight: 2, arbitrary: panics },
      { weight: 2, arbitrary: described },
      { weight: 2, arbitrary: silences },
    ),
    async (run) => {
      echo.ask();
      await within(run(), () => 'a case');
      echo.check();
      await echo.settled();
      checkBorders();
    },
  );
  await lateForWorker();
  echo.check();
  await tee.close();
  return { cases };
});
