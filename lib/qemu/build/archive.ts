/** Parts in one file, for other hosts: a tar archive in Zstandard, whose first file says what the others must be. */
import { createHash } from 'node:crypto';
import {
  closeSync,
  createReadStream,
  fsyncSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  symlinkSync,
  writeSync,
} from 'node:fs';
import { readFile, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { canonical, partKey, sha256, type PartRecord } from './cache.js';
import { BuildError } from './command.js';
import type { Resolved } from './sources.js';
import { MAX_SIZE, TAR_END, TarError, readTar, tarHeader, tarPadding, type TarEntry } from './tar.js';
import { compressZstd } from './zstd.js';
import { ZstdError, decodeZstd } from './zstd-decoder.js';

/** Of the archive itself. What is in it is told apart by recipes. */
const FORMAT = 1;

/** The first file. */
const CONTENTS = 'contents.json';
const MAX_CONTENTS = 16 << 20;

/** A part, and where it is from. */
export interface KnownPart {
  readonly name: string;
  readonly key: string;
  /** A digest of what the package alone says of the part, whatever host and sources it was built with. */
  readonly recipe: string;
  /** Every source package with its version and checksums. */
  readonly sources: Readonly<Record<string, Resolved>>;
  /** Those that Debian applied. */
  readonly debianPatches?: readonly string[];
}

interface PackedFile {
  readonly size: number;
  readonly sha256: string;
  readonly executable?: true;
}

export interface PackedPart extends KnownPart {
  /** By their paths in the part's folder. */
  readonly files: Readonly<Record<string, PackedFile>>;
  /** Symbolic links, and where they lead. */
  readonly links: Readonly<Record<string, string>>;
}

export interface Contents {
  /** Version of the package that wrote the archive. */
  readonly writtenBy: string;
  readonly machines: readonly string[];
  readonly nodes: readonly number[];
  /** By their folders. */
  readonly parts: Readonly<Record<string, PackedPart>>;
}

export function folderOf({ name, key }: Pick<KnownPart, 'name' | 'key'>): string {
  return `${name}-${key}`;
}

/** What is to be packed of a part's folder. Folders themselves are not: an empty one would be lost. */
export async function packedPart(part: KnownPart, folder: string): Promise<PackedPart> {
  const files: Record<string, PackedFile> = {};
  const links: Record<string, string> = {};
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const name = path.slice(folder.length + 1);
    const { size, mode } = lstatSync(path);
    if (entry.isSymbolicLink()) links[name] = readlinkSync(path);
    else if (entry.isFile())
      files[name] = { size, sha256: await sha256(path), ...((mode & 0o100) !== 0 && { executable: true }) };
    else if (!entry.isDirectory()) throw new BuildError(`${path} is neither a file nor a folder`);
  }
  const sorted = <T>(all: Record<string, T>): Record<string, T> =>
    Object.fromEntries(Object.entries(all).sort(([a], [b]) => (a < b ? -1 : 1)));
  return { ...part, files: sorted(files), links: sorted(links) };
}

/**
 * Writes an archive, whole or not at all.
 * @param folders where the parts are, by the names of their folders in the archive
 */
export async function writeArchive(
  file: string,
  contents: Contents,
  folders: (folder: string) => string,
  signal?: AbortSignal,
): Promise<void> {
  const aside = `${file}.${process.pid}`;
  try {
    await rm(aside, { force: true });
    await compressZstd(pack(contents, folders), aside, signal);
    const descriptor = openSync(aside, 'r');
    fsyncSync(descriptor);
    closeSync(descriptor);
    await rename(aside, file);
  } catch (cause) {
    signal?.throwIfAborted();
    throw new BuildError(`${file} cannot be written: ${(cause as Error).message}`, { cause });
  } finally {
    await rm(aside, { force: true });
  }
}

async function* pack(contents: Contents, folders: (folder: string) => string): AsyncGenerator<Buffer, void> {
  const parts = Object.fromEntries(Object.entries(contents.parts).sort(([a], [b]) => (a < b ? -1 : 1)));
  const bytes = Buffer.from(contentsText({ ...contents, parts }));
  yield* packFile(CONTENTS, bytes.length, false, [bytes]);
  for (const [folder, { files, links }] of Object.entries(parts)) {
    for (const [name, { size, executable = false }] of Object.entries(files)) {
      const stream = createReadStream(join(folders(folder), name), { highWaterMark: 1 << 20 });
      yield* packFile(`${folder}/${name}`, size, executable, stream as AsyncIterable<Buffer>);
    }
    for (const [name, target] of Object.entries(links))
      yield tarHeader({ name: `${folder}/${name}`, type: 'link', size: 0, target, executable: false });
  }
  yield TAR_END;
}

function contentsText(contents: Contents): string {
  return JSON.stringify({ format: FORMAT, digest: partKey(contents), ...contents }, null, 2) + '\n';
}

async function* packFile(
  name: string,
  size: number,
  executable: boolean,
  bytes: AsyncIterable<Buffer> | Iterable<Buffer>,
): AsyncGenerator<Buffer, void> {
  yield tarHeader({ name, type: 'file', size, target: '', executable });
  let written = 0;
  for await (const piece of bytes) {
    written += piece.length;
    yield piece;
  }
  if (written !== size) throw new BuildError(`${name} was changed meanwhile`);
  yield tarPadding(size);
}

/** An archive that is to be read. All that is wrong with it is a BuildError that names it. */
export class Archive {
  readonly contents: Contents;
  readonly #file: string;
  readonly #bytes: Buffer;

  private constructor(file: string, bytes: Buffer) {
    this.#file = file;
    this.#bytes = bytes;
    this.contents = this.#orFail(() => readContents(bytes));
  }

  /** Reads the file, and from it what should be in it. */
  static async open(file: string): Promise<Archive> {
    let bytes;
    try {
      bytes = await readFile(file);
    } catch (cause) {
      throw new BuildError(`${file} cannot be read: ${(cause as Error).message}`, { cause });
    }
    return new Archive(file, bytes);
  }

  /** A digest of the whole file. */
  get sha256(): string {
    return createHash('sha256').update(this.#bytes).digest('hex');
  }

  /** Refuses the archive. */
  refuse(reason: string, cause?: unknown): never {
    throw new BuildError(`${this.#file} is not imported: ${reason}`, { cause });
  }

  /** Unpacks all parts below an empty folder, and looks at every byte. What is there afterwards is whole. */
  async unpack(into: string, signal?: AbortSignal): Promise<void> {
    const { parts } = this.contents;
    const missing = new Set(Object.values(parts).flatMap((part) => namesOf(part)));
    const unpack = this.#entries();
    for (;;) {
      // A second or so of work each: whoever wants to end us is heard.
      await setImmediate();
      signal?.throwIfAborted();
      const name = this.#orFail(() => {
        const { value, done } = unpack.next();
        if (done) return undefined;
        const [entry, bytes] = value;
        const [folder = '', ...path] = entry.name.split('/');
        const part = Object.hasOwn(parts, folder) ? parts[folder] : undefined;
        if (!part || !missing.has(entry.name))
          throw new TarError(`it has a ${JSON.stringify(entry.name)} that its list of contents has not`);
        checkEntry(entry, part, path.join('/'));
        if (entry.type === 'file')
          writeFile(join(into, entry.name), entry, bytes, part.files[path.join('/')]?.sha256);
        return entry.name;
      });
      if (name === undefined) break;
      missing.delete(name);
    }
    for (const name of missing) this.refuse(`it lacks ${name}`);
    for (const [folder, part] of Object.entries(parts)) {
      // After all files: none is written through a link.
      for (const [name, target] of Object.entries(part.links)) {
        const path = join(into, folder, name);
        mkdirSync(dirname(path), { recursive: true });
        this.#orFail(() => symlinkSync(target, path));
      }
      this.#orFail(() => checkRecord(part, join(into, folder)));
    }
  }

  *#entries(): Generator<[TarEntry, Iterable<Buffer>], void> {
    const entries = readTar(decodeZstd(this.#bytes));
    entries.next();
    yield* entries;
  }

  #orFail<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      this.refuse((error as Error).message, error);
    }
  }
}

function namesOf(part: PackedPart): string[] {
  return [...Object.keys(part.files), ...Object.keys(part.links)].map((name) => `${folderOf(part)}/${name}`);
}

function readContents(archive: Buffer): Contents {
  let first;
  try {
    first = readTar(decodeZstd(archive)).next().value;
  } catch (cause) {
    if (!(cause instanceof ZstdError || cause instanceof TarError)) throw cause;
    throw new TarError(`it is no archive of node-optee's: ${cause.message}`, { cause });
  }
  if (first?.[0].name !== CONTENTS || first[0].size > MAX_CONTENTS)
    throw new TarError("it is no archive of node-optee's: it has no list of contents");
  const text = Buffer.concat([...first[1]].map((bytes) => Buffer.from(bytes))).toString();
  const {
    format,
    digest: _,
    ...contents
  } = JSON.parse(text) as Contents & { format: number; digest: string };
  if (format !== FORMAT) {
    throw new TarError(
      `its format is ${JSON.stringify(format)}, and this version of node-optee reads ${FORMAT} only`,
    );
  }
  if (text !== contentsText(contents)) throw new TarError('its list of contents was altered');
  checkContents(contents);
  return contents;
}

/** Whoever made the list, it must not lead out of the folder where it is unpacked. */
function checkContents(contents: Contents): void {
  const bad = (what: string, value: unknown): never => {
    throw new TarError(`its list of contents has a wrong ${what}: ${JSON.stringify(value)}`);
  };
  if (!/^[\w.+-]+$/.test(contents.writtenBy)) bad('version', contents.writtenBy);
  for (const [folder, part] of Object.entries(contents.parts)) {
    const { name, key, recipe, files, links } = part;
    const isBelow = (path: string): boolean =>
      path.split('/').some((_, at, names) => {
        const above = names.slice(0, at).join('/');
        return Object.hasOwn(files, above) || Object.hasOwn(links, above);
      });
    if (!/^[a-z0-9]+(-[a-z0-9]+)*$/.test(name) || !/^[0-9a-f]{20}$/.test(key) || folder !== folderOf(part))
      bad('part', folder);
    if (!/^[0-9a-f]{20}$/.test(recipe)) bad('recipe', recipe);
    for (const [path, { size, sha256 }] of Object.entries(files)) {
      if (!isInside(path) || isBelow(path)) bad('path', path);
      if (!Number.isSafeInteger(size) || size < 0 || size > MAX_SIZE) bad('size', size);
      if (!/^[0-9a-f]{64}$/.test(sha256)) bad('checksum', sha256);
    }
    for (const [path, target] of Object.entries(links)) {
      if (!isInside(path) || isBelow(path) || Object.hasOwn(files, path)) bad('path', path);
      // Up first and then down: after another link, up would be anywhere.
      const [up = '', down = ''] = /^((?:\.\.\/)*)(.*)$/.exec(target)?.slice(1) ?? [];
      if (!isInside(down) || up.length / 3 >= path.split('/').length) bad('link', target);
    }
  }
}

/** Whether a path leads to something below the folder that it begins in. */
function isInside(path: string): boolean {
  const names = path.split('/');
  return !path.includes('\0') && names.every((name) => name !== '' && name !== '.' && name !== '..');
}

function checkEntry(entry: TarEntry, part: PackedPart, path: string): void {
  const file = Object.hasOwn(part.files, path) ? part.files[path] : undefined;
  const target = Object.hasOwn(part.links, path) ? part.links[path] : undefined;
  const isRight = file
    ? entry.type === 'file' && entry.size === file.size && entry.executable === (file.executable ?? false)
    : entry.type === 'link' && entry.target === target && entry.size === 0;
  if (!isRight) throw new TarError(`${entry.name} is not what its list of contents says`);
}

const PAGE = 4096;
const ZEROS = Buffer.alloc(1 << 16);

/** Writes a file; pages of zeros become holes, which most of a file system's image is. */
function writeFile(
  path: string,
  entry: TarEntry,
  pieces: Iterable<Buffer>,
  sha256: string | undefined,
): void {
  mkdirSync(dirname(path), { recursive: true });
  const descriptor = openSync(path, 'wx', entry.executable ? 0o755 : 0o644);
  try {
    const hash = createHash('sha256');
    let at = 0;
    for (const piece of pieces) {
      hash.update(piece);
      for (let from = 0; from < piece.length;) {
        // To the end of a run of pages of the file, so that a hole begins and ends where a page does.
        const room = ZEROS.length - ((at + from) % PAGE);
        const bytes = piece.subarray(from, from + room);
        if (!ZEROS.subarray(0, bytes.length).equals(bytes)) writeAll(descriptor, bytes, at + from);
        from += bytes.length;
      }
      at += piece.length;
    }
    if (hash.digest('hex') !== sha256) throw new TarError(`${entry.name} was altered`);
    ftruncateSync(descriptor, entry.size);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

function writeAll(descriptor: number, bytes: Buffer, position: number): void {
  for (let done = 0; done < bytes.length;)
    done += writeSync(descriptor, bytes, done, bytes.length - done, position + done);
}

/** The part's own record must be of this part. */
function checkRecord({ name, key, files }: PackedPart, folder: string): void {
  const record = JSON.parse(readFileSync(join(folder, 'part.json'), 'utf8')) as PartRecord;
  const isRight =
    record.name === name &&
    record.key === key &&
    partKey(record.inputs) === key &&
    canonical(record.files) ===
      canonical(
        Object.fromEntries(
          Object.keys(record.files).map((file) => [
            file,
            Object.hasOwn(files, file) ? files[file]?.sha256 : '',
          ]),
        ),
      );
  if (!isRight) throw new TarError(`the record of ${name} is not that of its files`);
}
