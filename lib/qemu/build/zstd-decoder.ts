/**
 * A decoder of Zstandard (RFC 8878): Node.js before 22.15 has none, and an import is to need no other program.
 * Dictionaries are not supported. The content checksum is passed over: whoever uses this has better ones.
 */

const MAGIC = 0xfd2fb528;
/** The last four bits are anything. */
const SKIPPABLE = 0x184d2a50;
const MAX_BLOCK = 1 << 17;
/** The largest window that `zstd` decodes without being asked: 128 MiB. */
const MAX_WINDOW = 1 << 27;
/** Room for bits that are read beyond the ends of a stream, and mean nothing. */
const PADDING = 8;

/** Bytes that are no Zstandard, or not all of it. */
export class ZstdError extends Error {}

function damaged(): never {
  throw new ZstdError('the compressed data is damaged');
}

/** Counts of bits beside a code's first value. Literal lengths, 3.1.1.3.2.1.1. */
const LITERAL_LENGTH = codes(
  0,
  16,
  [1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
  [16, 18, 20, 22, 24, 28, 32, 40, 48, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536],
);
const MATCH_LENGTH = codes(
  3,
  32,
  [1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
  [35, 37, 39, 41, 43, 47, 51, 59, 67, 83, 99, 131, 259, 515, 1027, 2051, 4099, 8195, 16387, 32771, 65539],
);

interface Codes {
  readonly first: Uint32Array;
  readonly bits: Uint8Array;
}

/** The first `plain` codes are one value each, beginning with `least`. */
function codes(least: number, plain: number, bits: number[], first: number[]): Codes {
  const single = Array.from({ length: plain }, (_, index) => index);
  return {
    first: Uint32Array.from([...single.map((code) => code + least), ...first]),
    bits: Uint8Array.from([...single.map(() => 0), ...bits]),
  };
}

/** A table of finite state entropy: in each state a symbol, and where the next state is. */
interface Fse {
  readonly log: number;
  readonly symbol: Uint8Array;
  readonly bits: Uint8Array;
  readonly base: Uint16Array;
}

/** Tables that hold unless a block brings its own, 3.1.1.3.2.2. -1 is "less than one". */
const DEFAULT_LITERAL_LENGTH = fseTable(
  6,
  [
    4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1,
    -1, -1,
  ],
);
const DEFAULT_MATCH_LENGTH = fseTable(
  6,
  [
    1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
  ],
);
const DEFAULT_OFFSET = fseTable(
  5,
  [1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1],
);

function highestBit(value: number): number {
  return 31 - Math.clz32(value);
}

function fseTable(log: number, counts: readonly number[]): Fse {
  const size = 1 << log;
  const table: Fse = {
    log,
    symbol: new Uint8Array(size),
    bits: new Uint8Array(size),
    base: new Uint16Array(size),
  };
  const next = new Uint16Array(counts.length);
  let high = size;
  counts.forEach((count, symbol) => {
    next[symbol] = Math.abs(count);
    if (count === -1) table.symbol[--high] = symbol;
  });
  const step = (size >> 1) + (size >> 3) + 3;
  let at = 0;
  counts.forEach((count, symbol) => {
    for (let i = 0; i < count; i++) {
      table.symbol[at] = symbol;
      do at = (at + step) & (size - 1);
      while (at >= high);
    }
  });
  for (let state = 0; state < size; state++) {
    const symbol = table.symbol[state] as number;
    const value = next[symbol] as number;
    next[symbol] = value + 1;
    const bits = log - highestBit(value);
    table.bits[state] = bits;
    table.base[state] = (value << bits) - size;
  }
  return table;
}

/** A table of one symbol, which takes no bits. */
function fseSingle(symbol: number): Fse {
  return { log: 0, symbol: Uint8Array.of(symbol), bits: Uint8Array.of(0), base: Uint16Array.of(0) };
}

interface Huffman {
  readonly log: number;
  readonly symbol: Uint8Array;
  readonly bits: Uint8Array;
}

/** Bits from the front, as in the description of a table. */
class Forward {
  #at: number;

  constructor(
    private readonly bytes: Uint8Array,
    from: number,
  ) {
    this.#at = from * 8;
  }

  read(count: number): number {
    let value = 0;
    for (let i = 0; i < count; i++, this.#at++)
      value |= (((this.bytes[this.#at >> 3] ?? 0) >> (this.#at & 7)) & 1) << i;
    return value;
  }

  back(): void {
    this.#at--;
  }

  /** The first byte that nothing was read of. */
  get end(): number {
    return (this.#at + 7) >> 3;
  }
}

/** Bits from the end, where a one marks the first of them. */
class Backward {
  /** How many bits are left, from the beginning of `bytes`. */
  at: number;
  readonly #start: number;

  constructor(
    private readonly bytes: Uint8Array,
    from: number,
    to: number,
  ) {
    const last = to > from ? (bytes[to - 1] as number) : 0;
    if (last === 0) damaged();
    this.#start = from * 8;
    this.at = (to - 1) * 8 + highestBit(last);
  }

  /** At most 24. */
  read(count: number): number {
    this.at -= count;
    if (this.at < this.#start - 64) damaged();
    const { bytes, at } = this;
    const byte = at >> 3;
    const word =
      (bytes[byte] as number) |
      ((bytes[byte + 1] as number) << 8) |
      ((bytes[byte + 2] as number) << 16) |
      ((bytes[byte + 3] as number) << 24);
    return (word >>> (at & 7)) & ((1 << count) - 1);
  }

  /** At most 31. */
  readLong(count: number): number {
    if (count <= 24) return this.read(count);
    const high = this.read(count - 16);
    return high * 65536 + this.read(16);
  }

  get isOver(): boolean {
    return this.at < this.#start;
  }

  get isAtEnd(): boolean {
    return this.at === this.#start;
  }
}

/** Reads an FSE table, 4.1.1. Returns it, and where it ends. */
function readFse(bytes: Uint8Array, from: number, maxLog: number, maxSymbol: number): [Fse, number] {
  const bits = new Forward(bytes, from);
  const log = bits.read(4) + 5;
  if (log > maxLog) damaged();
  let left = 1 << log;
  const counts: number[] = [];
  while (left > 0) {
    const width = highestBit(left + 1) + 1;
    const mask = (1 << (width - 1)) - 1;
    const threshold = (1 << width) - 2 - left;
    let value = bits.read(width);
    if ((value & mask) < threshold) {
      bits.back();
      value &= mask;
    } else if (value > mask) value -= threshold;
    const count = value - 1;
    left -= Math.abs(count);
    counts.push(count);
    if (count === 0) {
      let zeros;
      do {
        zeros = bits.read(2);
        for (let i = 0; i < zeros; i++) counts.push(0);
      } while (zeros === 3);
    }
    if (counts.length > maxSymbol + 1) damaged();
  }
  if (left < 0) damaged();
  return [fseTable(log, counts), bits.end];
}

/** Reads a Huffman tree, 4.2.1. Returns its table, and where it ends. */
function readHuffman(bytes: Uint8Array, from: number, to: number): [Huffman, number] {
  const header = bytes[from] as number;
  const weights: number[] = [];
  let end = from + 1;
  if (header >= 128) {
    for (let i = 0; i < header - 127; i++) {
      const byte = bytes[end + (i >> 1)] as number;
      weights.push(i % 2 === 0 ? byte >> 4 : byte & 15);
    }
    end += (header - 126) >> 1;
  } else {
    end += header;
    if (end > to) damaged();
    const [table, start] = readFse(bytes, from + 1, 6, 255);
    const bits = new Backward(bytes, start, end);
    const states = [bits.read(table.log), bits.read(table.log)] as [number, number];
    for (let turn = 0; ; turn ^= 1) {
      const state = states[turn as 0 | 1];
      weights.push(table.symbol[state] as number);
      states[turn as 0 | 1] = (table.base[state] as number) + bits.read(table.bits[state] as number);
      if (weights.length > 254) damaged();
      if (!bits.isOver) continue;
      weights.push(table.symbol[states[(turn ^ 1) as 0 | 1]] as number);
      break;
    }
  }
  if (end > to) damaged();
  return [huffmanTable(weights), end];
}

function huffmanTable(weights: number[]): Huffman {
  const sum = weights.reduce((all, weight) => all + (weight > 0 ? 2 ** (weight - 1) : 0), 0);
  if (sum === 0) damaged();
  const log = highestBit(sum) + 1;
  const left = (1 << log) - sum;
  if (log > 11 || (left & (left - 1)) !== 0) damaged();
  weights.push(highestBit(left) + 1);
  const table = { log, symbol: new Uint8Array(1 << log), bits: new Uint8Array(1 << log) };
  let at = 0;
  for (let weight = 1; weight <= log; weight++) {
    weights.forEach((of, symbol) => {
      if (of !== weight) return;
      const next = at + (1 << (weight - 1));
      table.symbol.fill(symbol, at, next);
      table.bits.fill(log + 1 - weight, at, next);
      at = next;
    });
  }
  return table;
}

/** Decodes one stream of literals. */
function readStream(
  { log, symbol, bits }: Huffman,
  bytes: Uint8Array,
  from: number,
  to: number,
  out: Uint8Array,
  start: number,
  end: number,
): void {
  let { at } = new Backward(bytes, from, to);
  const mask = (1 << log) - 1;
  const least = from * 8;
  for (let i = start; i < end; i++) {
    const low = at - log;
    // Below the stream's beginning these are other bits; the code is one of those before them.
    const byte = low >> 3;
    const word =
      (bytes[byte] as number) | ((bytes[byte + 1] as number) << 8) | ((bytes[byte + 2] as number) << 16);
    const index = (word >> (low & 7)) & mask;
    out[i] = symbol[index] as number;
    at -= bits[index] as number;
    if (at < least) damaged();
  }
  if (at !== least) damaged();
}

/** What a block takes over from the one before, in one frame. */
class Frame {
  readonly #window: number;
  #buffer: Buffer;
  /** Where the next byte goes, and where what was not given out begins. */
  #at = 0;
  #taken = 0;
  #huffman: Huffman | undefined;
  #literalLength: Fse | undefined;
  #offset: Fse | undefined;
  #matchLength: Fse | undefined;
  readonly #repeated: [number, number, number] = [1, 4, 8];
  readonly #block = new Uint8Array(MAX_BLOCK + 2 * PADDING);
  readonly #literals = new Uint8Array(MAX_BLOCK);

  constructor(window: number) {
    this.#window = window;
    // The more room, the less often the window moves.
    this.#buffer = Buffer.allocUnsafe(window + Math.max(16 * MAX_BLOCK, Math.min(window, MAX_WINDOW / 4)));
  }

  /** What came since the last time; it is overwritten by later blocks. */
  take(): Buffer {
    const taken = this.#buffer.subarray(this.#taken, this.#at);
    this.#taken = this.#at;
    return taken;
  }

  get isNearlyFull(): boolean {
    return this.#at + MAX_BLOCK > this.#buffer.length;
  }

  /** Makes room for another block. All must have been taken. */
  makeRoom(): void {
    if (!this.isNearlyFull) return;
    this.#buffer.copyWithin(0, this.#at - this.#window, this.#at);
    this.#at = this.#window;
    this.#taken = this.#at;
  }

  raw(bytes: Buffer): void {
    if (bytes.length > MAX_BLOCK) damaged();
    bytes.copy(this.#buffer, this.#at);
    this.#at += bytes.length;
  }

  single(byte: number, count: number): void {
    if (count > MAX_BLOCK) damaged();
    this.#buffer.fill(byte, this.#at, this.#at + count);
    this.#at += count;
  }

  compressed(block: Buffer): void {
    if (block.length > MAX_BLOCK || block.length < 2) damaged();
    const bytes = this.#block;
    bytes.set(block, PADDING);
    bytes.fill(0, PADDING + block.length, PADDING + block.length + PADDING);
    const end = PADDING + block.length;
    const [literals, at] = this.#readLiterals(bytes, PADDING, end);
    this.#readSequences(bytes, at, end, literals);
  }

  /** Fills the literals; returns how many there are, and where their section ends. */
  #readLiterals(bytes: Uint8Array, from: number, to: number): [number, number] {
    const head = bytes[from] as number;
    const type = head & 3;
    const format = (head >> 2) & 3;
    const byte = (index: number): number => bytes[from + index] as number;
    if (type < 2) {
      const size =
        format === 1
          ? (head >> 4) | (byte(1) << 4)
          : format === 3
            ? (head >> 4) | (byte(1) << 4) | (byte(2) << 12)
            : head >> 3;
      const start = from + (format === 1 ? 2 : format === 3 ? 3 : 1);
      const end = start + (type === 0 ? size : 1);
      if (size > MAX_BLOCK || end > to) damaged();
      if (type === 0) this.#literals.set(bytes.subarray(start, end));
      else this.#literals.fill(bytes[start] as number, 0, size);
      return [size, end];
    }
    const width = [10, 10, 14, 18][format] as number;
    let start = from + ([3, 3, 4, 5][format] as number);
    const sizes = new Forward(bytes, from);
    sizes.read(4);
    const size = sizes.read(width);
    const end = start + sizes.read(width);
    if (size > MAX_BLOCK || end > to) damaged();
    if (type === 2) [this.#huffman, start] = readHuffman(bytes, start, end);
    const table = this.#huffman ?? damaged();
    if (format === 0) {
      readStream(table, bytes, start, end, this.#literals, 0, size);
      return [size, end];
    }
    const word = (index: number): number =>
      (bytes[start + index] as number) | ((bytes[start + index + 1] as number) << 8);
    const part = (size + 3) >> 2;
    if (end - start < 6 || 3 * part > size) damaged();
    let at = start + 6;
    for (let stream = 0; stream < 4; stream++) {
      const next = stream === 3 ? end : at + word(2 * stream);
      if (next > end) damaged();
      const last = stream === 3 ? size : (stream + 1) * part;
      readStream(table, bytes, at, next, this.#literals, stream * part, last);
      at = next;
    }
    return [size, end];
  }

  #readSequences(bytes: Uint8Array, from: number, to: number, literals: number): void {
    if (from >= to) damaged();
    const head = bytes[from] as number;
    let at = from + 1;
    let count = head;
    if (head === 255) {
      count = (bytes[at] as number) + ((bytes[at + 1] as number) << 8) + 0x7f00;
      at += 2;
    } else if (head >= 128) count = ((head - 128) << 8) + (bytes[at++] as number);
    if (count === 0) {
      if (at !== to) damaged();
      this.#copyLiterals(0, literals);
      return;
    }
    const modes = bytes[at++] as number;
    if ((modes & 3) !== 0) damaged();
    const table = (mode: number, before: Fse | undefined, usual: Fse, log: number, most: number): Fse => {
      if (mode === 0) return usual;
      if (mode === 3) return before ?? damaged();
      if (mode === 1) {
        const symbol = bytes[at++] as number;
        if (symbol > most) damaged();
        return fseSingle(symbol);
      }
      const [read, end] = readFse(bytes, at, log, most);
      at = end;
      return read;
    };
    this.#literalLength = table(modes >> 6, this.#literalLength, DEFAULT_LITERAL_LENGTH, 9, 35);
    this.#offset = table((modes >> 4) & 3, this.#offset, DEFAULT_OFFSET, 8, 31);
    this.#matchLength = table((modes >> 2) & 3, this.#matchLength, DEFAULT_MATCH_LENGTH, 9, 52);
    this.#run(new Backward(bytes, at, to), count, literals);
  }

  #run(bits: Backward, count: number, literals: number): void {
    const [lengths, offsets, matches] = [this.#literalLength, this.#offset, this.#matchLength];
    if (!lengths || !offsets || !matches) damaged();
    let length = bits.read(lengths.log);
    let offset = bits.read(offsets.log);
    let match = bits.read(matches.log);
    const limit = this.#at + MAX_BLOCK;
    let literal = 0;
    for (let left = count; left > 0; left--) {
      const offsetCode = offsets.symbol[offset] as number;
      const value = 2 ** offsetCode + bits.readLong(offsetCode);
      const matchCode = matches.symbol[match] as number;
      const matchLength =
        (MATCH_LENGTH.first[matchCode] as number) + bits.read(MATCH_LENGTH.bits[matchCode] as number);
      const lengthCode = lengths.symbol[length] as number;
      const literalLength =
        (LITERAL_LENGTH.first[lengthCode] as number) + bits.read(LITERAL_LENGTH.bits[lengthCode] as number);
      if (left > 1) {
        length = (lengths.base[length] as number) + bits.read(lengths.bits[length] as number);
        match = (matches.base[match] as number) + bits.read(matches.bits[match] as number);
        offset = (offsets.base[offset] as number) + bits.read(offsets.bits[offset] as number);
      }
      if (literal + literalLength > literals || this.#at + literalLength + matchLength > limit) damaged();
      this.#copyLiterals(literal, literal + literalLength);
      literal += literalLength;
      this.#copyMatch(this.#distance(value, literalLength), matchLength);
    }
    if (!bits.isAtEnd || this.#at + literals - literal > limit) damaged();
    this.#copyLiterals(literal, literals);
  }

  /** How far back a match is; the last three are remembered, 3.1.1.5. */
  #distance(value: number, literalLength: number): number {
    const repeated = this.#repeated;
    if (value > 3) {
      repeated[2] = repeated[1];
      repeated[1] = repeated[0];
      return (repeated[0] = value - 3);
    }
    const index = literalLength === 0 ? value : value - 1;
    if (index === 0) return repeated[0];
    const distance = index === 3 ? repeated[0] - 1 : repeated[index as 1 | 2];
    if (index !== 1) repeated[2] = repeated[1];
    repeated[1] = repeated[0];
    return (repeated[0] = distance);
  }

  #copyLiterals(from: number, to: number): void {
    const buffer = this.#buffer;
    const literals = this.#literals;
    let at = this.#at;
    // A call costs more than a few bytes.
    if (to - from > 48) buffer.set(literals.subarray(from, to), at);
    else for (let i = from; i < to; i++) buffer[at++] = literals[i] as number;
    this.#at += to - from;
  }

  #copyMatch(distance: number, length: number): void {
    const buffer = this.#buffer;
    let at = this.#at;
    const from = at - distance;
    if (distance === 0 || from < 0 || distance > this.#window) damaged();
    const end = at + length;
    if (length <= 48) for (let i = from; at < end;) buffer[at++] = buffer[i++] as number;
    else if (distance === 1) buffer.fill(buffer[from] as number, at, end);
    else
      // What repeats itself gets twice as long with each turn.
      for (let known = distance; at < end; known *= 2) {
        const part = Math.min(known, end - at);
        buffer.copyWithin(at, from, from + part);
        at += part;
      }
    this.#at = end;
  }
}

/**
 * Decodes whole frames.
 * @yields what they hold, in pieces that are overwritten when the next is asked for
 * @throws ZstdError if `bytes` is no Zstandard, is cut, or has a window of more than 128 MiB
 */
export function* decodeZstd(bytes: Buffer): Generator<Buffer, void> {
  const need = (end: number): number => {
    if (end > bytes.length) throw new ZstdError('the compressed data is cut');
    return end;
  };
  let at = 0;
  do {
    need(at + 4);
    const magic = bytes.readUInt32LE(at);
    if ((magic & 0xfffffff0) >>> 0 === SKIPPABLE) {
      need(at + 8);
      at = need(at + 8 + bytes.readUInt32LE(at + 4));
      continue;
    }
    if (magic !== MAGIC) throw new ZstdError('this is no Zstandard');
    const header = readHeader(bytes, at + 4, need);
    at = header.end;
    const frame = new Frame(header.window);
    for (let isLast = false; !isLast;) {
      need(at + 3);
      const word = bytes.readUIntLE(at, 3);
      isLast = (word & 1) === 1;
      const size = word >> 3;
      const type = (word >> 1) & 3;
      at += 3;
      const end = need(at + (type === 1 ? 1 : size));
      if (frame.isNearlyFull) {
        yield frame.take();
        frame.makeRoom();
      }
      if (type === 0) frame.raw(bytes.subarray(at, end));
      else if (type === 1) frame.single(bytes[at] as number, size);
      else if (type === 2) frame.compressed(bytes.subarray(at, end));
      else damaged();
      at = end;
    }
    yield frame.take();
    if (header.hasChecksum) at = need(at + 4);
  } while (at < bytes.length);
}

function readHeader(
  bytes: Buffer,
  from: number,
  need: (end: number) => number,
): { window: number; hasChecksum: boolean; end: number } {
  need(from + 1);
  const descriptor = bytes[from] as number;
  const isSingle = (descriptor & 0x20) !== 0;
  if ((descriptor & 0x08) !== 0) damaged();
  if ((descriptor & 3) !== 0) throw new ZstdError('the compressed data needs a dictionary');
  const sizeBytes = [isSingle ? 1 : 0, 2, 4, 8][descriptor >> 6] as number;
  const sizeAt = from + (isSingle ? 1 : 2);
  const end = need(sizeAt + sizeBytes);
  let window;
  if (isSingle) {
    window =
      sizeBytes === 8
        ? Number(bytes.readBigUInt64LE(sizeAt))
        : bytes.readUIntLE(sizeAt, sizeBytes) + (sizeBytes === 2 ? 256 : 0);
  } else {
    const byte = bytes[from + 1] as number;
    const base = 2 ** (10 + (byte >> 3));
    window = base + (base / 8) * (byte & 7);
  }
  if (window > MAX_WINDOW) throw new ZstdError('the compressed data has too large a window');
  return { window: Math.max(window, 1), hasChecksum: (descriptor & 4) !== 0, end };
}
