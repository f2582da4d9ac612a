import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/**
 * Files as they were when a part was planned. The part's key and its build both use these: a file that is edited while
 * something is built does not get into a part that has the old one's key.
 */
export class Snapshot {
  readonly #files: ReadonlyMap<string, Buffer>;

  /** @param names paths below `folder`; without them every file below it */
  constructor(folder: string, names: readonly string[] = filesBelow(folder)) {
    this.#files = new Map(names.map((name) => [name, readFileSync(join(folder, name))]));
  }

  get names(): string[] {
    return [...this.#files.keys()];
  }

  /** A digest of all names and contents. */
  get digest(): string {
    const hash = createHash('sha256');
    for (const [name, bytes] of this.#files) hash.update(`${name}\0${bytes.length}\0`).update(bytes);
    return hash.digest('hex');
  }

  bytes(name: string): Buffer {
    return this.#files.get(name) ?? Buffer.alloc(0);
  }

  text(name: string): string {
    return this.bytes(name).toString();
  }

  /** Writes all files below a folder, for this user's eyes only: an .npmrc can have a token in it. */
  write(folder: string): void {
    for (const [name, bytes] of this.#files) {
      const path = join(folder, name);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, bytes, { mode: 0o600 });
    }
  }
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();
}
