/** Archives of the form ustar (POSIX.1-1988), as far as files and links need it. What is read was written here. */

const BLOCK = 512;
/** A file that is longer than this has no room for its size: 8 GiB. */
export const MAX_SIZE = 0o77777777777;

export interface TarEntry {
  readonly name: string;
  /** Whatever else there is in an archive is not ours. */
  readonly type: 'file' | 'link' | 'other';
  /** Bytes of a file. */
  readonly size: number;
  /** Where a symbolic link leads. */
  readonly target: string;
  readonly executable: boolean;
}

/** Bytes that are no archive, or not all of it. */
export class TarError extends Error {}

/** The header of a file or a link. Owner and times say nothing, so that equal contents are equal archives. */
export function tarHeader({ name, type, size, target, executable }: TarEntry): Buffer {
  const [prefix, short] = split(name);
  if (size > MAX_SIZE || Buffer.byteLength(target) > 100)
    throw new TarError(`${name} has no room in an archive`);
  const block = Buffer.alloc(BLOCK);
  const octal = (value: number, at: number, digits: number): void =>
    void block.write(`${value.toString(8).padStart(digits, '0')}\0`, at, 'latin1');
  block.write(short, 0);
  octal(executable || type === 'link' ? 0o755 : 0o644, 100, 7);
  octal(0, 108, 7);
  octal(0, 116, 7);
  octal(size, 124, 11);
  octal(0, 136, 11);
  block.write(type === 'link' ? '2' : '0', 156);
  block.write(target, 157);
  block.write('ustar\x0000root', 257, 'latin1');
  block.write('root', 297);
  block.write(prefix, 345);
  block.write(`${checksum(block).toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

/** What comes after a file's bytes. */
export function tarPadding(size: number): Buffer {
  return Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK);
}

/** What comes after the last file. */
export const TAR_END = Buffer.alloc(2 * BLOCK);

/** A long name is in two fields, cut at a slash. */
function split(name: string): [prefix: string, short: string] {
  const bytes = Buffer.from(name);
  if (bytes.length <= 100) return ['', name];
  for (let at = bytes.length - 101; at <= 155; at++)
    if (bytes[at] === 0x2f) return [bytes.toString('utf8', 0, at), bytes.toString('utf8', at + 1)];
  throw new TarError(`${name} is too long for an archive`);
}

function checksum(block: Buffer): number {
  let sum = 0;
  for (let at = 0; at < BLOCK; at++) sum += at >= 148 && at < 156 ? 0x20 : (block[at] as number);
  return sum;
}

/**
 * Reads an archive.
 * @param pieces its bytes; each piece is used up before the next is asked for
 * @yields each entry with its bytes in pieces, which have to be read before the next entry
 * @throws TarError if it is no archive, or ends before its end
 */
export function* readTar(
  pieces: Iterator<Buffer, unknown>,
): Generator<[entry: TarEntry, bytes: Iterable<Buffer>], void> {
  let rest: Buffer = Buffer.alloc(0);
  /** At most so many bytes, at least one. */
  const some = (most: number): Buffer => {
    while (rest.length === 0) {
      const next = pieces.next();
      if (next.done) throw new TarError('the archive is cut');
      rest = next.value;
    }
    const bytes = rest.subarray(0, most);
    rest = rest.subarray(bytes.length);
    return bytes;
  };
  function* read(size: number): Generator<Buffer, void> {
    for (let left = size; left > 0;) {
      const bytes = some(left);
      left -= bytes.length;
      yield bytes;
    }
  }
  const block = (): Buffer => Buffer.concat([...read(BLOCK)].map((bytes) => Buffer.from(bytes)));
  for (;;) {
    const header = block();
    if (header.every((byte) => byte === 0)) {
      // To the last of them: the compressed bytes can be cut or damaged there, too.
      mustBeZeros(rest);
      for (let next = pieces.next(); !next.done; next = pieces.next()) mustBeZeros(next.value);
      return;
    }
    const entry = parseHeader(header);
    const body = read(entry.size);
    yield [entry, body];
    for (const _ of body);
    for (const bytes of read(tarPadding(entry.size).length)) mustBeZeros(bytes);
  }
}

function mustBeZeros(bytes: Buffer): void {
  if (!bytes.every((byte) => byte === 0)) throw new TarError('the archive is damaged');
}

function parseHeader(block: Buffer): TarEntry {
  const text = (at: number, length: number): string => {
    const bytes = block.subarray(at, at + length);
    const end = bytes.indexOf(0);
    return bytes.toString('utf8', 0, end < 0 ? length : end);
  };
  const octal = (at: number, length: number): number => {
    const digits = text(at, length).trim();
    if (!/^[0-7]+$/.test(digits)) throw new TarError('this is no tar archive');
    return parseInt(digits, 8);
  };
  if (text(257, 5) !== 'ustar' || octal(148, 8) !== checksum(block))
    throw new TarError('this is no tar archive, or a damaged one');
  const [prefix, short, type] = [text(345, 155), text(0, 100), text(156, 1)];
  const entry: TarEntry = {
    name: prefix === '' ? short : `${prefix}/${short}`,
    type: type === '0' || type === '' ? 'file' : type === '2' ? 'link' : 'other',
    size: octal(124, 12),
    target: text(157, 100),
    executable: type !== '2' && (octal(100, 8) & 0o100) !== 0,
  };
  // The sum does not see everything. What is not as we write it was not written by us.
  if (entry.type !== 'other' && !tarHeader(entry).equals(block)) throw new TarError('the archive is damaged');
  return entry;
}
