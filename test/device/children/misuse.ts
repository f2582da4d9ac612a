/**
 * Calls the addon's functions with anything at all, wrong in most ways and right in some. It must
 * neither crash nor throw, and afterwards be as good as before. Arguments: seed, number of calls; more of them where
 * nothing of a kind was right yet.
 */
import { native, Packet } from '#lib/client/native';
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

/** A packet that may be a good one. */
function fillPacket(handle: number): void {
  const odd = random() < 0.3;
  n.packet.fill(0);
  n.packet[1] = handle;
  n.packet[2] = pick([0, 0, 1, 2, 3, 7, 14, 15]);
  n.packet[3] = pick([0, 0, 1]);
  const used = Math.floor(random() * 5);
  n.packet[Packet.count] = used;
  for (let i = 0; i < used; i++) {
    n.packet[Packet.params + i * 4] = pick(KINDS);
    n.packet[Packet.params + 1 + i * 4] = pick([0, 1, 100, 4096]);
    n.packet[Packet.params + 2 + i * 4] = pick([0, 1, 100, 5000]);
    n.packet[Packet.params + 3 + i * 4] = pick(handles.memory) ?? 0;
  }
  if (odd)
    for (let i = 0; i < 4; i++)
      n.packet[Math.floor(random() * Packet.length)] = pick([...NUMBERS, anyHandle()]);
}

/** Nothing that holds the machine's memory, and nothing that closes too much. */
function tame(name: string, args: unknown[]): boolean {
  if (name === 'close' || name.startsWith('close')) return random() < 0.2;
  if (name === 'allocSharedMemory' && typeof args[1] === 'number' && args[1] > 1e6) args[1] = 5000;
  if (name === 'allocDmaBuf' && typeof args[1] === 'number' && args[1] > 1e6) args[1] = 5000;
  if (name === 'adoptDmaBuf') args[1] = false;
  return true;
}

const done: Record<string, number> = {};
const note = (what: string): void => void (done[what] = (done[what] ?? 0) + 1);

function keep(result: unknown): void {
  if (typeof result !== 'object' || result === null) return;
  for (const [what, list] of Object.entries(handles)) {
    const handle = (result as Record<string, unknown>)[what];
    if (typeof handle !== 'number' || handle === 0) continue;
    list.push(handle);
    if (list.length > 8) list.shift();
    note(what);
  }
}

const MAKES_MEMORY = new Set(['allocSharedMemory', 'registerSharedMemory', 'registerDmaBuf']);

function once(): void {
  const name = pick(NAMES);
  const session = name.startsWith('invoke');
  const open = name.startsWith('openSession');
  const good = random() < 0.7;
  fillPacket(good ? (pick(session ? handles.session : handles.context) ?? 0) : anyHandle());
  const args = Array.from({ length: Math.floor(random() * 8) }, () => pick(VALUES)());
  if (open && good) {
    args[0] = UUID;
    args[1] = new Uint8Array(16);
    n.packet[2] = 0;
    if (random() < 0.5) n.packet.fill(0, Packet.count);
  } else if (good && random() < 0.5) {
    if (/Memory|Dma|Context|cancel/.test(name)) args[0] = anyHandle();
    if (name === 'openDmaHeap') args[0] = '/dev/dma_heap/system';
    if (name === 'openContext') args.splice(0, 4, '/dev/tee0', 2, pick([0, 8192, 1 << 20]), random() < 0.7);
  }
  if (!tame(name, args)) return;
  const result = functions[name]?.(...args);
  keep(result);
  if (MAKES_MEMORY.has(name)) keep({ memory: result });
  if (name === 'openSessionSync' && n.packet[4] === 0 && (n.packet[1] ?? 0) > 0)
    keep({ session: n.packet[1] });
  if ((name === 'openSession' || name === 'invoke') && typeof result === 'number' && result > 0) {
    note(name);
    n.settle.set(result, (at) => {
      if (name === 'openSession' && (n.records[at + 1] ?? 0) > 0) keep({ session: n.records[at + 1] });
      n.takeOutput(pick(NUMBERS), pick(NUMBERS), pick(VALUES)() as Uint8Array);
      n.takeOutput(at / Packet.length, pick([0, 1, 2, 3]), new Uint8Array(5000));
    });
  }
  if (name === 'invokeSync' && n.packet[4] === 0) note(name);
}

/** What has to have been right at least once, so that all of it got to the TEE. */
const RIGHT = ['context', 'session', 'memory', 'buf', 'invoke', 'openSession', 'invokeSync'];

async function main(): Promise<void> {
  const least = Number(countText);
  const isEnough = (calls: number): boolean =>
    calls >= least && (calls >= 10 * least || RIGHT.every((what) => done[what] !== undefined));
  const first = n.openContext('/dev/tee0', 2, 1 << 20, true);
  keep(first);
  for (let i = 0; !isEnough(i); i++) {
    once();
    if (i % 20 === 0) await new Promise((resolve) => setImmediate(resolve));
    if (i % 500 === 0) keep(n.openContext('/dev/tee0', 2, 1 << 20, random() < 0.7));
  }
  console.log(JSON.stringify({ done, never: RIGHT.filter((what) => done[what] === undefined) }));
}

void main();
