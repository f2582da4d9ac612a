/**
 * Calls the addon's functions, beneath all checks of lib/, with values of every wrong kind, and with some that are right.
 * None may throw, crash, write outside of what it was given, or mix up a call's numbers.
 */
import fc from 'fast-check';
import { TeeContext } from 'node-optee';
import { loadAddon } from '#lib/client/addon';
import { native, Place, RequestPlace, type Answer } from '#lib/client/native';
import { checkProperty, Echo, runAbuse, trace } from '../../support/abuse.js';
import { TEST_TA } from '../../support/census.js';
import { bytes, checkBorders, sizeOf, Wrong, wrong } from '../../support/wrong-values.js';

const n = native();
const functions = n as unknown as Record<string, (...args: unknown[]) => unknown>;
const NAMES = Object.keys(functions).filter((name) => typeof functions[name] === 'function');
const UUID = new Wrong('the UUID', () => Buffer.from(TEST_TA.replaceAll('-', ''), 'hex'));

/** How many numbers a request has. */
const NUMBERS: number = RequestPlace.length;

/** What is called more often than the others. */
const CALLS = ['invoke', 'invokeSync', 'invoke', 'invokeSync', 'invoke', 'invokeSync', 'openContext'];

/** What was made and may be closed; the last of each kind. */
const handles = { context: [], session: [], memory: [], heap: [], buf: [] } as Record<
  'context' | 'session' | 'memory' | 'heap' | 'buf',
  number[]
>;
type Kind = keyof typeof handles;

/** What each function makes, at once or by a job. */
const MAKES: Record<string, Kind> = {
  openContext: 'context',
  openSession: 'session',
  openSessionSync: 'session',
  allocSharedMemory: 'memory',
  registerSharedMemory: 'memory',
  registerDmaBuf: 'memory',
  openDmaHeap: 'heap',
  allocDmaBuf: 'buf',
  adoptDmaBuf: 'buf',
};

const handle = (kind: Kind, stale = 0): fc.Arbitrary<Wrong> =>
  fc.oneof(fc.constant(0), fc.nat(7)).map((i) => {
    const name = `${kind} ${i}${stale > 0 ? ' of another generation' : ''}`;
    return new Wrong(name, () => {
      // The newest first: what an older one belongs to may be closed.
      const all = handles[kind];
      return (all.at(-1 - (i % Math.max(all.length, 1))) ?? 0) + stale * 2 ** 20;
    });
  });
const KINDS_OF_HANDLES = Object.keys(handles) as Kind[];
const anyHandle = fc.oneof(
  ...KINDS_OF_HANDLES.map((kind) => handle(kind)),
  fc.constantFrom(...KINDS_OF_HANDLES).chain((kind) => handle(kind, 1)),
);
const anything = fc.oneof(wrong, anyHandle);

const exactly = (...values: unknown[]): fc.Arbitrary<Wrong> =>
  fc.constantFrom(...values.map((value) => new Wrong(String(value), () => value)));

const PARAM_KINDS = [0, 0, 1, 2, 3, 5, 6, 7, 0xd, 0xe, 0xf, 0x15, 0x16, 0x17, 0x1e, 0x25, 0x26, 0x27, 0xff];

/** A parameter whose numbers fit its memory, most times. */
const parameter = fc
  .tuple(
    fc.constantFrom(...PARAM_KINDS),
    exactly(0, 1, 100, 4096),
    bytes,
    handle('memory'),
    fc.option(anything, { freq: 8 }),
  )
  .map(([kind, a, own, memory, odd]) => {
    // Asked for first, since the numbers come before the bytes.
    let made: unknown;
    const size = new Wrong(odd?.name ?? 'its size', () => {
      made = own.make();
      return odd === null ? sizeOf(kind >= 0x20 ? memory.make() : made) : odd.make();
    });
    const numbers = [new Wrong(`kind 0x${kind.toString(16)}`, () => kind), a, size, memory];
    return { numbers, bytes: new Wrong(own.name, () => made) };
  });

/** An open's or an invoke's numbers, as many as a request has, and then its arguments. */
const callArguments = (open: boolean): fc.Arbitrary<Wrong[]> =>
  fc
    .record({
      handle: handle(open ? 'context' : 'session'),
      // (What waits, forwards or panics takes longer than it is worth.)
      number: open ? exactly(0) : exactly(0, 1, 2, 3, 4, 5, 6, 7, 8, 13, 14, 15, 16, 17, 18, 19, 99),
      flags: exactly(0, 0, 1, 2),
      params: fc.array(parameter, { maxLength: 4 }),
      wrong: fc.array(fc.tuple(fc.nat(NUMBERS + 5), anything), { maxLength: 2 }),
      isWrong: fc.nat(2),
    })
    .map(({ handle, number, flags, params, wrong, isWrong }) => {
      const count = new Wrong(`${params.length} parameters`, () => params.length);
      const args = [handle, number, flags, count, ...params.flatMap((param) => param.numbers)];
      while (args.length < NUMBERS) args.push(new Wrong('0', () => 0));
      for (let i = 0; i < 4; i++) args.push(params[i]?.bytes ?? new Wrong('no bytes', () => undefined));
      args.push(UUID, new Wrong('nobody', () => new Uint8Array(16)));
      if (isWrong === 0) for (const [at, value] of wrong) args[at] = value;
      return args;
    });

/** Arguments that a function may take. */
const NEARLY: Record<string, fc.Arbitrary<Wrong[]>> = {
  openContext: fc.tuple(
    exactly('/dev/tee0', '/dev/tee0', '/dev/null'),
    exactly(1, 2, 256, 257),
    exactly(0, 8192, 2 ** 20),
    exactly(true, false),
  ),
  openSession: callArguments(true),
  openSessionSync: callArguments(true),
  invoke: callArguments(false),
  invokeSync: callArguments(false),
  closeSession: fc.tuple(handle('session')),
  closeContext: fc.tuple(handle('context')),
  allocSharedMemory: fc.tuple(handle('context'), exactly(1, 100, 5000), exactly(true, false)),
  registerSharedMemory: fc.tuple(handle('context'), bytes, exactly(true, false)),
  registerDmaBuf: fc.tuple(handle('context'), exactly(0, 1, 9999), exactly(true, false)),
  sharedMemoryBuffer: fc.tuple(handle('memory')),
  readSharedMemory: fc.tuple(handle('memory'), exactly(0, 1, 4999), exactly(0, 1, 99, 5000)),
  writeSharedMemory: fc.tuple(handle('memory'), bytes, exactly(0, 1, 4999)),
  openDmaHeap: fc.tuple(exactly('/dev/dma_heap/system')),
  allocDmaBuf: fc.tuple(handle('heap'), exactly(1, 5000), exactly(true, false)),
  mapDmaBuf: fc.tuple(handle('buf')),
  syncDmaBuf: fc.tuple(handle('buf'), exactly(0, 1, 3, 4, 7, 8)),
  close: fc.tuple(fc.oneof(handle('memory'), handle('buf'))),
  hasRegisterDmaBuf: fc.tuple(handle('context')),
  contextStatistics: fc.tuple(handle('context')),
};

const oneCall = fc.constantFrom(...NAMES, ...CALLS).chain((name) => {
  const nearly = NEARLY[name];
  const any = fc.array(anything, { maxLength: 8 });
  return fc.record({
    name: fc.constant(name),
    args: nearly === undefined ? any : fc.oneof({ weight: 3, arbitrary: nearly }, { weight: 1, arbitrary: any }), // prettier-ignore
    self: fc.option(anything, { freq: 3 }),
    how: fc.constantFrom('called', 'called', 'called', 'called', 'constructed'),
  });
});

const done: Record<string, number> = {};
const note = (what: string): void => void (done[what] = (done[what] ?? 0) + 1);

/** What has to have been right at least once, so that all of it got to the TEE. */
const RIGHT = [
  'openContext',
  'openSession',
  'openSessionSync',
  'invoke',
  'invokeSync',
  'allocSharedMemory',
  'registerSharedMemory',
  'openDmaHeap',
  'allocDmaBuf',
];
/** Functions that answer with a ticket. */
const TICKETS = /^(openSession|invoke|alloc|register|close)/;

/** Tickets of our own calls; others must not be aborted. */
const tickets = new Set<number>();

function keep(name: string, answer: Answer): void {
  const status = answer.number(Place.status);
  if (!Number.isInteger(status) || status < -6 || status > 4095)
    throw new Error(`status ${status} of ${name}`);
  const kind = MAKES[name];
  const made = answer.number(Place.made);
  if (kind === undefined || status !== 0 || made === 0) return;
  handles[kind].push(made);
  if (handles[kind].length <= 8) return;
  const old = handles[kind].shift() as number;
  if (kind === 'session') jobOf(n.closeSession(old as never));
  else if (kind === 'context') jobOf(n.closeContext(old as never));
  else n.close(old as never);
}

/** Of a function that has to have been right. */
function noteRight(name: string, answer: Answer): void {
  if (!RIGHT.includes(name) || answer.number(Place.status) !== 0) return;
  if (/^(invoke|openSession)/.test(name) && answer.number(Place.result) !== 0) return;
  if (MAKES[name] === undefined || answer.number(Place.made) !== 0) note(name);
}

let pending = 0;
function jobOf(ticket: number, name = 'close'): void {
  if (ticket === 0) return;
  tickets.add(ticket);
  pending++;
  n.settle.set(ticket, (answer) => {
    pending--;
    tickets.delete(ticket);
    noteRight(name, answer);
    keep(name, answer);
    return () => false;
  });
}

/** Nothing that takes all memory or for ever, and no descriptor that is not ours. */
function tame(name: string, args: unknown[]): boolean {
  if (name.startsWith('close')) return Math.abs(Number(done['cases'])) % 4 === 0;
  if (name.startsWith('alloc') && typeof args[1] === 'number' && args[1] > 1e6) args[1] = 5000;
  if (name === 'adoptDmaBuf') args[1] = false;
  // The test TA waits so many milliseconds.
  if (name.startsWith('openSession') && typeof args[6] === 'number' && args[6] > 20) args[6] = 20;
  return name !== 'abort' || typeof args[0] !== 'number' || !n.settle.has(args[0]) || tickets.has(args[0]);
}

function run({
  name,
  args,
  self,
  how,
}: {
  name: string;
  args: Wrong[];
  self: Wrong | null;
  how: string;
}): void {
  note('cases');
  let values = args.map(({ make }) => make());
  if (!tame(name, values)) return;
  if (/^(invoke|openSession)/.test(name)) {
    values.slice(0, NUMBERS).forEach((value, i) => (n.request[i] = typeof value === 'number' ? value : NaN));
    values = values.slice(NUMBERS);
  }
  const call = functions[name];
  if (call === undefined) return;
  // Of an abort it would not be known what it has removed.
  const isNew = how === 'constructed' && name !== 'abort';
  const result: unknown = isNew
    ? Reflect.construct(call, values)
    : Reflect.apply(call, self === null ? undefined : self.make(), values);
  if (isNew && TICKETS.test(name)) return; // its ticket is lost
  if (typeof result === 'number' && result > 0 && name !== 'abort') jobOf(result, name);
  else if (result === 2 || (name === 'abort' && result === 1)) forget(values[0] as number, result === 1);
  else {
    noteRight(name, n.answer);
    keep(name, n.answer);
  }
}

/** A job that was removed has no answer. */
function forget(ticket: number, removed: boolean): void {
  if (!removed || !tickets.delete(ticket)) return;
  note('removed');
  n.settle.delete(ticket);
  pending--;
}

/** The addon's one export, with wrong arguments: it throws, as it must. */
function checkAttach(args: readonly Wrong[]): void {
  const { attach } = loadAddon() as { attach: (...args: unknown[]) => unknown };
  try {
    attach(...args.map(({ make }) => make()));
  } catch (error) {
    if (error instanceof TypeError && error.message.startsWith('attach(')) return;
    throw error;
  }
  throw new Error('attach took anything');
}

void runAbuse(async () => {
  const tee = TeeContext.open();
  const echo = new Echo(await tee.openSession(TEST_TA));
  const cases = await checkProperty(
    fc.tuple(oneCall, fc.array(wrong, { maxLength: 4 }), fc.nat(200)),
    async ([call, args, chance]) => {
      const at = done['cases'] ?? 0;
      if (at % 40 === 0) await refill();
      echo.ask();
      run(call);
      echo.check();
      if (chance === 0) checkAttach(args);
      if (at % 8 !== 0) return;
      await new Promise(setImmediate);
      await echo.settled();
      checkBorders();
    },
  );
  trace(() => 'the end');
  for (const context of handles.context) jobOf(n.closeContext(context as never));
  while (pending > 0) await new Promise((resolve) => setTimeout(resolve, 10));
  checkBorders();
  await tee.close();
  // A smaller number of cases can miss one by chance.
  const expected = cases >= 3000 ? RIGHT : cases >= 500 ? ['openContext', 'invoke', 'invokeSync'] : [];
  const never = expected.filter((what) => done[what] === undefined);
  if (never.length > 0) throw new Error(`Never right: ${never.join(', ')}`);
  return { cases, done };
});

/** Something that is open, again and again, so that a part of the calls is right. */
async function refill(): Promise<void> {
  n.openContext('/dev/tee0', 2, 2 ** 20, true);
  keep('openContext', n.answer);
  const context = handles.context.at(-1) as never;
  n.request.set([context, 0, 0, 0]);
  const uuid = UUID.make() as Uint8Array;
  n.openSessionSync(undefined, undefined, undefined, undefined, uuid, new Uint8Array(16));
  keep('openSessionSync', n.answer);
  n.allocSharedMemory(context, 5000, true);
  keep('allocSharedMemory', n.answer);
  await new Promise(setImmediate);
}
