import { existsSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';

/**
 * Makes a folder and those above it.
 * @throws the system's error. Node's own recursive mkdir says ENOENT of a file system that is read-only
 */
export function makeFolders(path: string): void {
  if (existsSync(path)) return;
  const parent = dirname(path);
  if (parent !== path) makeFolders(parent);
  try {
    mkdirSync(path);
  } catch (error) {
    // Somebody else was faster.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

/** Data of the guest in the package: `qemu/`. */
export function dataFile(...names: string[]): string {
  return join(__dirname, '..', '..', '..', 'qemu', ...names);
}
