/**
 * Calls the addon's functions with anything at all, wrong in most ways and right in some. It must
 * neither crash nor throw, and afterwards be as good as before. Arguments: seed, number of calls; more of them where
 * nothing of a kind was right yet.
 */
import { native, Place, RequestPlace, type Answer, type Settle } from '#lib/client/native';
import { TEST_TA } from '../../support/census.js';

const [seedText = '1', countText = '1000'] = process.argv.slice(2);

// Mulberry32: the same numbers each time.
let state = Number(seedText);
function random(): number {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}
const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)];

const n = native();
const functions = n as unknown as Record<string, (...args: unknown[]) => unknown>;
const NAMES = Object.keys(functions).filter((name) => typeof functions[name] === 'function');
const UUID = Buffer.from(TEST_TA.replaceAll('-', ''), 'hex');
const shared = new SharedArrayBuffer(10_000);
const handles: Record<'context' | 'session' | 'memory' | 'heap' | 'buf', number[]> = {
  context: [],
  session: [],
  memory: [],
  heap: [],
  buf: [],
};
const anyHandle = (): number => pick(pick(Object.values(handles))) ?? 0;

function detached(): Uint8Array {
  const bytes = new Uint8Array(16);
  structuredClone(bytes, { transfer: [bytes.buffer] });
  return bytes;
}

const NUMBERS = [
  0,
  1,
  2,
  5,
  16,
  4095,
  4096,
  100_000,
  -1,
  0.5,
  NaN,
  Infinity,
  2 ** 32,
  2 ** 53,
  2 ** 63,
  2 ** 64,
];
const VALUES: (() => unknown)[] = [
  () => undefined,
  () => null,
  () => pick(NUMBERS),
  () => pick(NUMBERS),
  anyHandle,
  anyHandle,
  () => anyHandle() + 2 ** 20,
  () => pick(['', 'x', '/dev/null', '/dev/tee0', '/dev/dma_heap/system', 'a\0b']),
  () => pick([true, false]),
  () => pick([{}, [], 1n, Symbol('s'), () => 1, new Date()]),
  () => new Proxy({}, { get: () => { throw new Error('touched'); } }), // prettier-ignore
  () => pick([new Uint8Array(0), new Uint8Array(16), new Uint8Array(5000), UUID]),
  () => pick([new Uint8Array(shared), new Uint8Array(shared, 5, 100), shared, new ArrayBuffer(8)]),
  () => pick([new Uint16Array(8), new DataView(new ArrayBuffer(8)), new BigUint64Array(2)]),
  detached,
];

const KINDS = [0, 0, 0, 1, 2, 3, 5, 6, 7, 0xd, 0xe, 0xf, 0x15, 0x16, 0x17, 0x1e, 0x25, 0x26, 0x27];

/** Arguments of a call that may be good ones, and the numbers that go with them. */
function callArguments(handle: number, open: boolean): unknown[] {
  const kinds = Array.from({ length: 4 }, (_, i) => (random() < 0.5 - i / 8 ? pick(KINDS) : 0));
  const bytes = kinds.map(() => pick([new Uint8Array(100), Buffer.alloc(5000)]));
  const number = open ? 0 : pick([0, 0, 1, 2, 3, 7, 14, 15]);
  const numbers = [handle, number, pick([0, 0, 1]), pick([0, 1, 2, 3, 4])];
  kinds.forEach((kind, i) => {
    const size = kind >= 0x20 ? pick([0, 1, 100, 5000]) : (bytes[i]?.length ?? 0);
    numbers.push(kind, pick([0, 1, 100, 4096]), size, pick(handles.memory) ?? 0);
  });
  const args: unknown[] = [...bytes, UUID, new Uint8Array(16)];
  const wrong = random() < 0.3 ? 4 : 0;
  for (let i = 0; i < wrong; i++) {
    if (random() < 0.5) args[Math.floor(random() * args.length)] = pick(VALUES)();
    else numbers[Math.floor(random() * numbers.length)] = pick(NUMBERS);
  }
  n.request.set(numbers);
  return args;
}

/** Nothing that holds the machine's memory, and nothing that closes too much. */
function tame(name: string, args: unknown[]): boolean {
  if (name === 'close' || name.startsWith('close')) return random() < 0.2;
  if (name.startsWith('alloc') && typeof args[1] === 'number' && args[1] > 1e6) args[1] = 5000;
  if (name === 'adoptDmaBuf') args[1] = false;
  return true;
}

const done: Record<string, number> = {};
const note = (what: string): void => void (done[what] = (done[what] ?? 0) + 1);

/** What each function makes, at once or by a job. */
const MAKES: Record<string, keyof typeof handles> = {
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

function keep(name: string, answer: Answer): void {
  const what = MAKES[name];
  const handle = answer.number(Place.made);
  if (what === undefined || answer.failure !== undefined || handle === 0) return;
  handles[what].push(handle);
  if (handles[what].length > 8) handles[what].shift();
  note(what);
}

/** What a job's end brings. */
const settle =
  (name: string): Settle =>
  (answer) => {
    keep(name, answer);
    return () => false;
  };

function once(): void {
  const name = pick(NAMES);
  const session = name.startsWith('invoke');
  const open = name.startsWith('openSession');
  const good = random() < 0.7;
  let args = Array.from({ length: Math.floor(random() * 8) }, () => pick(VALUES)());
  n.request[Math.floor(random() * RequestPlace.length)] = pick([...NUMBERS, anyHandle()]);
  if (good && (open || session)) {
    args = callArguments(pick(session ? handles.session : handles.context) ?? 0, open);
  } else if (good && random() < 0.7) {
    if (/Memory|Dma|Context|abort/.test(name)) args[0] = anyHandle();
    if (/^alloc|^register/.test(name))
      args[0] = pick(name.includes('allocDma') ? handles.heap : handles.context);
    if (name.startsWith('alloc')) args.splice(1, 2, pick([1, 100, 5000]), random() < 0.5);
    if (name === 'openDmaHeap') args[0] = '/dev/dma_heap/system';
    if (name === 'openContext') args.splice(0, 4, '/dev/tee0', 2, pick([0, 8192, 1 << 20]), random() < 0.7);
  }
  if (!tame(name, args)) return;
  const result = functions[name]?.(...args);
  if (/^(openSession|invoke|alloc|register)/.test(name) && typeof result === 'number' && result > 0) {
    note(name);
    n.settle.set(result, settle(name));
  } else {
    keep(name, n.answer);
  }
  if (name === 'invokeSync' && n.answer.failure === undefined) note(name);
}

/** What has to have been right at least once, so that all of it got to the TEE. */
const RIGHT = [
  'context',
  'session',
  'memory',
  'buf',
  'invoke',
  'openSession',
  'invokeSync',
  'allocSharedMemory',
  'allocDmaBuf',
];

async function main(): Promise<void> {
  const least = Number(countText);
  const isEnough = (calls: number): boolean =>
    calls >= least && (calls >= 10 * least || RIGHT.every((what) => done[what] !== undefined));
  const open = (registration: boolean): void => {
    n.openContext('/dev/tee0', 2, 1 << 20, registration);
    keep('openContext', n.answer);
  };
  open(true);
  for (let i = 0; !isEnough(i); i++) {
    once();
    if (i % 20 === 0) await new Promise((resolve) => setImmediate(resolve));
    if (i % 500 === 0) open(random() < 0.7);
  }
  console.log(JSON.stringify({ done, never: RIGHT.filter((what) => done[what] === undefined) }));
}

void main();
