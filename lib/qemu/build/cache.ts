import { createHash, randomBytes } from 'node:crypto';
import { spawn } from 'node:child_process';
import {
  closeSync,
  createReadStream,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  writeSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { readdir, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, relative } from 'node:path';
import { BuildError } from './command.js';

/** What a part was made from, and what came out; `part.json` in its folder. */
export interface PartRecord {
  readonly name: string;
  readonly key: string;
  /** All that the part depends on: versions, checksums, options, tools. */
  readonly inputs: unknown;
  readonly builtAt: string;
  readonly seconds: number;
  /** SHA-256 of the files that matter, by name. */
  readonly files: Readonly<Record<string, string>>;
}

const RECORD = 'part.json';

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

/** A digest of every file below a folder, names and executable bits included. */
export function treeDigest(folder: string): string {
  const hash = createHash('sha256');
  const visit = (path: string): void => {
    const entries = readdirSync(path, { withFileTypes: true });
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const child = join(path, entry.name);
      if (entry.isDirectory()) visit(child);
      else {
        const executable = (statSync(child).mode & 0o100) !== 0;
        hash
          .update(`${relative(folder, child)}\0${executable}\0`)
          .update(readFileSync(child))
          .update('\0');
      }
    }
  };
  visit(folder);
  return hash.digest('hex');
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
      return Object.keys(record.files).every((file) => existsSync(join(folder, file))) ? record : undefined;
    } catch {
      return undefined;
    }
  }

  /** A folder for unfinished work. What lies there is never taken for good. */
  workFolder(name: string): string {
    const path = join(this.#folder('work'), `${name}-${process.pid}-${randomBytes(4).toString('hex')}`);
    mkdirSync(path);
    return path;
  }

  /** Makes a part: `build` fills a folder aside, which is then renamed into place. Needs the lock. */
  async make(name: string, inputs: unknown, build: (folder: string) => Promise<void>): Promise<PartRecord> {
    const key = partKey(inputs);
    const folder = this.workFolder(`${name}-part`);
    const start = Date.now();
    try {
      await build(folder);
      const files: Record<string, string> = {};
      for (const entry of await readdir(folder, { withFileTypes: true })) {
        if (entry.isFile()) files[entry.name] = await sha256(join(folder, entry.name));
      }
      const seconds = Math.round((Date.now() - start) / 100) / 10;
      const record: PartRecord = { name, key, inputs, builtAt: new Date().toISOString(), seconds, files };
      await writeFile(join(folder, RECORD), JSON.stringify(record, null, 2) + '\n');
      const target = this.partFolder(name, key);
      this.#folder('parts');
      await rm(target, { recursive: true, force: true });
      await rename(folder, target);
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
      writeFileWhole(aside, text);
      renameSync(aside, path);
    } finally {
      rmSync(aside, { force: true });
    }
  }

  /** Removes what interrupted builds left. Only for the holder of the lock. */
  async sweep(): Promise<void> {
    await rm(join(this.path, 'work'), { recursive: true, force: true });
  }

  /** Empties the cache, but for the lock that the caller holds. */
  async clean(): Promise<void> {
    if (!existsSync(this.path)) return;
    for (const entry of await readdir(this.path)) {
      if (entry !== LOCK) await rm(join(this.path, entry), { recursive: true, force: true });
    }
  }

  /**
   * Holds the cache's lock while `work` runs. The lock is held by a child that ends with this process, so that
   * even a killed build leaves none behind.
   */
  async locked<T>(work: () => Promise<T>, onWait?: () => void, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    const child = spawn('flock', ['--no-fork', this.file(LOCK), 'sh', '-c', 'echo locked; exec cat'], {
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
        child.once('close', () => {
          reject(new BuildError(`the lock of ${this.path} could not be taken: ${errors.trim()}`));
        });
        child.stdout.on('data', (text: Buffer) => text.includes('locked\n') && resolve());
      });
      clearTimeout(timer);
      return await work();
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
    mkdirSync(path, { recursive: true });
  } catch (cause) {
    const { message } = cause as Error;
    throw new BuildError(`The cache cannot be made (${message}); XDG_CACHE_HOME says where it lies`, {
      cause,
    });
  }
}

const LOCK = 'lock';

/** `$XDG_CACHE_HOME/node-optee`, or `~/.cache/node-optee`. */
function defaultFolder(): string {
  const base = process.env['XDG_CACHE_HOME'];
  // The XDG specification: a path that is not absolute is to be ignored.
  return join(base?.startsWith('/') ? base : join(homedir(), '.cache'), 'node-optee');
}

function writeFileWhole(path: string, text: string): void {
  const descriptor = openSync(path, 'w');
  try {
    writeSync(descriptor, text);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
