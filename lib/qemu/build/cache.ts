import { createHash, randomBytes } from 'node:crypto';
import { spawn } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  createReadStream,
  existsSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { readdir, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { BuildError } from './command.js';
import { makeFolders } from './folder.js';

/** What a part was made from, and what came out; `part.json` in its folder. */
export interface PartRecord {
  readonly name: string;
  readonly key: string;
  /** All that the part depends on: versions, checksums, options, tools. */
  readonly inputs: unknown;
  readonly builtAt: string;
  readonly seconds: number;
  /** SHA-256 of each file, by name. */
  readonly files: Readonly<Record<string, string>>;
  /** Bytes of each file and folder; not in the records of older versions. */
  readonly sizes?: Readonly<Record<string, number>>;
}

const RECORD = 'part.json';

/** Whoever was not to wait for the lock would have to. */
export class LockTakenError extends BuildError {}

/** The status of flock then. */
const TAKEN = 75;

/** JSON with sorted keys, so that equal inputs give equal keys. */
export function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) =>
    item !== null && typeof item === 'object' && !Array.isArray(item)
      ? Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)))
      : item,
  );
}

/** The key of a part: a digest of everything that it is built from. */
export function partKey(inputs: unknown): string {
  return createHash('sha256').update(canonical(inputs)).digest('hex').slice(0, 20);
}

export async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** Bytes of a file, or of all files below a folder. Throws where there is none. */
function sizeOf(path: string): number {
  const found = lstatSync(path);
  if (!found.isDirectory()) return found.size;
  return readdirSync(path).reduce((sum, name) => sum + sizeOf(join(path, name)), 0);
}

/** Puts a file, or a folder with all that is in it, on the disk: a rename can get there before the contents. */
function flush(path: string): void {
  const found = lstatSync(path);
  if (found.isSymbolicLink()) return;
  if (found.isDirectory()) for (const name of readdirSync(path)) flush(join(path, name));
  const descriptor = openSync(path, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** The folder of everything that is built once, in the user's cache folder. */
export class Cache {
  readonly path: string;

  constructor(path: string = defaultFolder()) {
    this.path = path;
  }

  get downloads(): string {
    return this.#folder('downloads');
  }

  get logs(): string {
    return this.#folder('logs');
  }

  /** A file in the cache's own folder. */
  file(name: string): string {
    makeFolder(this.path);
    return join(this.path, name);
  }

  partFolder(name: string, key: string): string {
    return join(this.path, 'parts', `${name}-${key}`);
  }

  /** The record of a finished part, or undefined where there is none. */
  record(name: string, key: string): PartRecord | undefined {
    const folder = this.partFolder(name, key);
    try {
      const record = JSON.parse(readFileSync(join(folder, RECORD), 'utf8')) as PartRecord;
      const { files, sizes = {} } = record;
      const isWhole =
        Object.keys(files).every((name) => existsSync(join(folder, name))) &&
        Object.entries(sizes).every(([name, size]) => sizeOf(join(folder, name)) === size);
      return isWhole ? record : undefined;
    } catch {
      return undefined;
    }
  }

  /** Notes that a part is used now; `lastUses` tells. A cache that cannot be written to keeps all that it has. */
  touch(name: string, key: string): void {
    const now = new Date();
    try {
      utimesSync(join(this.partFolder(name, key), RECORD), now, now);
    } catch {
      // It is not there, or not ours.
    }
  }

  /** Every finished part's folder, with the time of its last use in milliseconds. */
  lastUses(): Map<string, number> {
    const folder = join(this.path, 'parts');
    const uses = new Map<string, number>();
    for (const name of existsSync(folder) ? readdirSync(folder) : []) {
      const path = join(folder, name);
      const found = statSync(join(path, RECORD), { throwIfNoEntry: false });
      if (found) uses.set(path, found.mtimeMs);
    }
    return uses;
  }

  /** Puts a folder that is filled, with its record in it, in the place of a part. Needs the lock. */
  async place(folder: string, name: string, key: string): Promise<void> {
    const target = this.partFolder(name, key);
    this.#folder('parts');
    if (existsSync(target)) await this.setAside([target]);
    await rename(folder, target);
  }

  /** A folder for unfinished work. What lies there is never taken for good. */
  workFolder(name: string): string {
    const path = join(this.#folder(WORK), `${name}-${process.pid}-${randomBytes(4).toString('hex')}`);
    // Settings with secrets can be copied here.
    mkdirSync(path, { mode: 0o700 });
    return path;
  }

  /**
   * Makes a part: `build` fills a folder aside, which is then renamed into place. `publish` is called just before that.
   * Needs the lock.
   */
  async make(
    name: string,
    inputs: unknown,
    build: (folder: string) => Promise<void>,
    publish: (record: PartRecord, folder: string) => void = () => {},
  ): Promise<PartRecord> {
    const key = partKey(inputs);
    const folder = this.workFolder(`${name}-part`);
    const start = Date.now();
    try {
      await build(folder);
      const files: Record<string, string> = {};
      const sizes: Record<string, number> = {};
      for (const entry of await readdir(folder, { withFileTypes: true })) {
        const path = join(folder, entry.name);
        sizes[entry.name] = sizeOf(path);
        if (entry.isFile()) files[entry.name] = await sha256(path);
      }
      const seconds = Math.round((Date.now() - start) / 100) / 10;
      const builtAt = new Date().toISOString();
      const record: PartRecord = { name, key, inputs, builtAt, seconds, files, sizes };
      await writeFile(join(folder, RECORD), JSON.stringify(record, null, 2) + '\n');
      chmodSync(folder, 0o755);
      flush(folder);
      publish(record, folder);
      await this.place(folder, name, key);
      return record;
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  /** Writes a file of the cache whole or not at all. */
  writeFile(name: string, text: string): void {
    const path = this.file(name);
    const aside = `${path}.${process.pid}`;
    try {
      // Same folder, so that the rename is atomic.
      writeFileSync(aside, text, { flush: true });
      renameSync(aside, path);
    } catch (cause) {
      throw new BuildError(`${path} cannot be written: ${(cause as Error).message}`, { cause });
    } finally {
      rmSync(aside, { force: true });
    }
  }

  /** Removes what interrupted builds left. Only for the holder of the lock. */
  async sweep(): Promise<void> {
    const folder = join(this.path, WORK);
    try {
      // The programs of a killed build can write for a moment more.
      await rm(folder, { recursive: true, force: true, maxRetries: 10 });
    } catch (cause) {
      const { message } = cause as Error;
      throw new BuildError(`What an earlier build left in ${folder} cannot be removed: ${message}`, {
        cause,
      });
    }
  }

  /** Empties the cache, but for the lock that the caller holds. What is in `successor` takes the place. */
  async clean(successor?: Cache): Promise<void> {
    if (!existsSync(this.path)) return;
    const kept = [LOCK, WORK];
    const old = (await readdir(this.path)).filter((name) => !kept.includes(name));
    await this.setAside(old.map((name) => join(this.path, name)));
    for (const name of successor ? await readdir(successor.path) : []) {
      if (!kept.includes(name)) await rename(join(successor?.path ?? '', name), join(this.path, name));
    }
    await this.sweep();
  }

  /** Moves what is to be removed to where half of it is never taken for the whole; a sweep does the rest. */
  async setAside(paths: readonly string[]): Promise<void> {
    const folder = this.workFolder('old');
    for (const path of paths) await rename(path, join(folder, basename(path)));
  }

  /**
   * Holds the cache's lock while `work` runs. The lock is held by a child that ends with this process, so that
   * even a killed build leaves none behind.
   * @param work gets a signal that also aborts where that child is ended: somebody else may have the lock then
   * @param waits otherwise it throws a LockTakenError where somebody else has the lock
   */
  async locked<T>(
    work: (signal: AbortSignal) => Promise<T>,
    onWait?: () => void,
    signal?: AbortSignal,
    waits = true,
  ): Promise<T> {
    signal?.throwIfAborted();
    const how = ['--no-fork', ...(waits ? [] : ['--nonblock', '-E', String(TAKEN)])];
    const child = spawn('flock', [...how, this.file(LOCK), 'sh', '-c', 'echo locked; exec cat'], {
      stdio: ['pipe', 'pipe', 'pipe'],
      // Not in our process group: Ctrl-C must not free the lock before the work has ended.
      detached: true,
    });
    const timer = setTimeout(() => onWait?.(), 300);
    try {
      await new Promise<void>((resolve, reject) => {
        signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
        child.once('error', (cause) =>
          reject(new BuildError('flock (package util-linux) is needed', { cause })),
        );
        let errors = '';
        child.stderr.on('data', (text: Buffer) => (errors += text.toString()));
        child.once('close', (status) => {
          if (status === TAKEN) reject(new LockTakenError(`Somebody else has the lock of ${this.path}`));
          reject(new BuildError(`the lock of ${this.path} could not be taken: ${errors.trim()}`));
        });
        child.stdout.on('data', (text: Buffer) => text.includes('locked\n') && resolve());
      });
      clearTimeout(timer);
      const lost = new AbortController();
      child.once('close', () => {
        lost.abort(new BuildError(`the lock of ${this.path} was lost: flock, which held it, was ended`));
      });
      return await work(AbortSignal.any(signal ? [signal, lost.signal] : [lost.signal]));
    } finally {
      clearTimeout(timer);
      child.removeAllListeners('close');
      child.kill('SIGKILL');
      child.stdin.destroy();
      child.stdout.destroy();
      child.stderr.destroy();
      child.unref();
    }
  }

  #folder(name: string): string {
    const path = join(this.path, name);
    makeFolder(path);
    return path;
  }
}

function makeFolder(path: string): void {
  try {
    makeFolders(path);
  } catch (cause) {
    const { message } = cause as Error;
    throw new BuildError(`The cache cannot be made (${message}); XDG_CACHE_HOME says where it lies`, {
      cause,
    });
  }
}

const LOCK = 'lock';
const WORK = 'work';

/** `$XDG_CACHE_HOME/node-optee`, or `~/.cache/node-optee`. */
function defaultFolder(): string {
  const base = process.env['XDG_CACHE_HOME'];
  // The XDG specification: a path that is not absolute is to be ignored.
  return join(base?.startsWith('/') ? base : join(home(), '.cache'), 'node-optee');
}

function home(): string {
  try {
    return homedir();
  } catch (cause) {
    const text =
      'This user has no home folder, where the cache would lie: set XDG_CACHE_HOME to a folder for it';
    throw new BuildError(text, { cause });
  }
}
