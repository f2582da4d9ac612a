/**
 * Values of every wrong kind, for functions that must refuse them. Each is made by a function with a name, so that a
 * case can be printed and repeated.
 */
import { isUint8Array } from 'node:util/types';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';

/** A value that is made when it is needed. */
export class Wrong {
  readonly name: string;
  readonly make: () => unknown;
  constructor(name: string, make: () => unknown) {
    this.name = name;
    this.make = make;
  }
  [fc.toStringMethod](): string {
    return this.name;
  }
}

/** What getters and proxies of the caller's throw: it may come out again. */
export class Touched extends Error {}
const touch = (): never => {
  throw new Touched('touched');
};

/** Bytes with a border on either side that nobody may write to. */
const BORDER = 64;
const BORDER_BYTE = 0xc5;
const UNTOUCHED = Buffer.alloc(BORDER, BORDER_BYTE);
const bordered: { memory: ArrayBufferLike; to: number }[] = [];

function border(memory: ArrayBufferLike, length: number): Uint8Array {
  new Uint8Array(memory).fill(BORDER_BYTE);
  bordered.push({ memory, to: BORDER + length });
  return new Uint8Array(memory, BORDER, length);
}

/**
 * Looks at the borders of all arrays that were made, and forgets the older ones.
 * @throws Error if something was written there
 */
export function checkBorders(): void {
  for (const { memory, to } of bordered) {
    for (const at of [0, to]) {
      const border = Buffer.from(memory as ArrayBuffer, at, BORDER);
      if (!border.equals(UNTOUCHED)) {
        throw new Error(`The border at ${at} of bytes from ${BORDER} to ${to} is ${border.toString('hex')}`);
      }
    }
  }
  bordered.splice(0, bordered.length - 64);
}

/** Bytes with borders. */
export const withBorders = (length: number): Uint8Array =>
  border(new ArrayBuffer(length + 2 * BORDER), length);

const byteLength = Reflect.getOwnPropertyDescriptor(
  Object.getPrototypeOf(Uint8Array.prototype) as object,
  'byteLength',
)?.get as () => number;
/** The size of bytes, whatever they say themselves; 16 of all else. */
export const sizeOf = (value: unknown): number =>
  isUint8Array(value) ? Reflect.apply(byteLength, value, []) : 16;

function detached(): Uint8Array {
  const bytes = new Uint8Array(16);
  structuredClone(bytes, { transfer: [bytes.buffer] });
  return bytes;
}

type Resizable = ArrayBuffer & { resize(length: number): void };
const ResizableBuffer = ArrayBuffer as unknown as new (
  length: number,
  options: { maxByteLength: number },
) => Resizable;
const GrowableBuffer = SharedArrayBuffer as unknown as new (
  length: number,
  options: { maxByteLength: number },
) => SharedArrayBuffer;

function outOfBounds(): Uint8Array {
  const memory = new ResizableBuffer(64, { maxByteLength: 128 });
  const bytes = new Uint8Array(memory, 32, 16);
  memory.resize(8);
  return bytes;
}

/** Bytes that shrink a moment after they were passed. */
function shrinking(): Uint8Array {
  const memory = new ResizableBuffer(8192, { maxByteLength: 8192 });
  setImmediate(() => memory.resize(1));
  return new Uint8Array(memory);
}

/** Bytes that are moved a moment after they were passed. */
function moving(): Uint8Array {
  const bytes = new Uint8Array(5000);
  setImmediate(() => structuredClone(bytes, { transfer: [bytes.buffer] }));
  return bytes;
}

class Odd extends Uint8Array {
  override get byteLength(): number {
    return 3;
  }
  override get length(): number {
    return touch();
  }
  override get buffer(): ArrayBuffer {
    return new ArrayBuffer(1);
  }
}

const sizes = fc.constantFrom(0, 1, 16, 100, 4095, 4096, 5000);

/** Byte arrays of all kinds that a function may be right to take. */
export const bytes: fc.Arbitrary<Wrong> = fc.oneof(
  sizes.map((n) => new Wrong(`bytes of ${n}`, () => withBorders(n))),
  sizes.map((n) => new Wrong(`shared bytes of ${n}`, () => border(new SharedArrayBuffer(n + 2 * BORDER), n))),
  fc.constantFrom(
    new Wrong('a Buffer', () => Buffer.alloc(32)),
    new Wrong('detached bytes', detached),
    new Wrong('bytes out of bounds', outOfBounds),
    new Wrong('shrinking bytes', shrinking),
    new Wrong('moving bytes', moving),
    new Wrong('resizable bytes', () => new Uint8Array(new ResizableBuffer(16, { maxByteLength: 32 }))),
    new Wrong('growable bytes', () => new Uint8Array(new GrowableBuffer(16, { maxByteLength: 32 }))),
    new Wrong('bytes of another realm', () => runInNewContext('new Uint8Array(16)')),
    new Wrong('bytes with getters', () => new Odd(16)),
    new Wrong('bytes without a prototype', () => Object.setPrototypeOf(new Uint8Array(16), null) as unknown),
    new Wrong('frozen empty bytes', () => Object.freeze(new Uint8Array(0))),
  ),
);

export const numbers: fc.Arbitrary<Wrong> = fc
  .constantFrom(
    ...[0, 1, 2, 5, 16, 4095, 4096, 100_000, -1, -0, 0.5, NaN, Infinity, -Infinity],
    ...[2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53, 2 ** 63, 2 ** 64, 1e308],
  )
  .map((n) => new Wrong(Object.is(n, -0) ? '-0' : String(n), () => n));

const texts = fc
  .constantFrom(
    '',
    'x',
    '/dev/null',
    '/dev/tee9',
    '/dev/dma_heap/nothing',
    'a\0b',
    '\ud800',
    'x'.repeat(5000),
  )
  .map((text) => new Wrong(JSON.stringify(text.slice(0, 20)), () => text));

const others = fc.constantFrom(
  new Wrong('undefined', () => undefined),
  new Wrong('null', () => null),
  new Wrong('true', () => true),
  new Wrong('false', () => false),
  new Wrong('1n', () => 1n),
  new Wrong('a symbol', () => Symbol('s')),
  new Wrong('a function', () => () => 1),
  new Wrong('a function that throws', () => touch),
  new Wrong('a class', () => class {}),
  new Wrong('{}', () => ({})),
  new Wrong('[]', () => []),
  new Wrong('[undefined × 5]', () => new Array<undefined>(5)),
  new Wrong('a date', () => new Date(0)),
  new Wrong('an error', () => new Error('x')),
  new Wrong('a promise', () => Promise.resolve(1)),
  new Wrong('a number object', () => Object(5) as unknown),
  new Wrong('an object without a prototype', () => Object.create(null) as unknown),
  new Wrong('an object of another realm', () => runInNewContext('({})')),
  new Wrong('an array of another realm', () => runInNewContext('[]')),
  new Wrong('a Uint16Array', () => new Uint16Array(8)),
  new Wrong('a DataView', () => new DataView(new ArrayBuffer(8))),
  new Wrong('a BigUint64Array', () => new BigUint64Array(2)),
  new Wrong('an ArrayBuffer', () => new ArrayBuffer(16)),
  new Wrong('a SharedArrayBuffer', () => new SharedArrayBuffer(16)),
  new Wrong('a proxy that throws', () => new Proxy({}, { get: touch, has: touch, getPrototypeOf: touch, ownKeys: touch })), // prettier-ignore
  new Wrong('a proxy of a function that throws', () => new Proxy(() => 1, { apply: touch, get: touch })),
  new Wrong('a proxy of bytes', () => new Proxy(new Uint8Array(16), {})),
  new Wrong('a proxy of an array', () => new Proxy([1, 2], {})),
  new Wrong('getters that throw', () => Object.defineProperties({}, Object.fromEntries(NAMES.map((name) => [name, { get: touch, enumerable: true }])))), // prettier-ignore
  new Wrong('a value that throws where it becomes a number', () => ({ valueOf: touch, toString: touch })),
  new Wrong('a thenable', () => ({ then: (resolve: (value: unknown) => void) => resolve(1) })),
  new Wrong('an aborted signal', () => AbortSignal.abort()),
  new Wrong('a signal', () => new AbortController().signal),
  new Wrong('a signal that throws', () => ({ get aborted() { return touch(); }, addEventListener: touch, removeEventListener: touch })), // prettier-ignore
);

/** Names of what options, ranges and queries have. */
const NAMES = ['signal', 'wipe', 'login', 'params', 'offset', 'size', 'max', 'idle', 'path', 'id', 'label'];

export const wrong: fc.Arbitrary<Wrong> = fc.oneof(
  { weight: 2, arbitrary: numbers },
  { weight: 2, arbitrary: bytes },
  { weight: 1, arbitrary: texts },
  { weight: 4, arbitrary: others },
);
