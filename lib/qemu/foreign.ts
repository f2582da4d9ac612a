/** Names native code of the share that is for another processor than the guest's: a program's own words seldom do. */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { resolve } from 'node:path';

/** ELF's numbers (e_machine) for processors of hosts. */
const PROCESSORS: Readonly<Record<number, string>> = {
  3: 'x86',
  40: '32-bit ARM',
  62: 'x86-64',
  243: 'RISC-V',
};
const ARM64 = 183;

/** Mach-O, of 64 bits and universal. */
const MACOS = [0xcffaedfe, 0xcafebabe];

/** Paths of addons and libraries, which can have blanks, and any word with a slash. */
const PATHS = [
  /(?:^|[\s'"(])(\.{0,2}\/[^\n:'"]*?\.(?:node|so(?:\.\d+)*))(?=[:'")\s]|$)/gm,
  /[^\s'"():]*\/[^\s'"():]+/g,
];

/** Packages with a native part in a package of its own, of which npm installs the one for the host. */
const MISSING =
  /Cannot find (?:module|package) '([^'\n]*(?:arm64|aarch64)[^'\n]*)'|Cannot find (native binding)/;

/**
 * What is wrong for the guest in what a program that failed has said.
 * @param text its last words
 * @param folder where relative paths begin
 * @returns a sentence for people, or undefined
 */
export function foreignPart(text: string, folder: string): string | undefined {
  const paths = PATHS.flatMap((pattern) => [...text.matchAll(pattern)].map((match) => match[1] ?? match[0]));
  for (const path of new Set(paths)) {
    const file = resolve(folder, path);
    const other = processorOf(file);
    if (other === undefined) continue;
    const remedy = file.includes('/node_modules/')
      ? '--node-modules installs the dependencies for arm64'
      : 'build it for arm64';
    return `${file} is for ${other}, and the guest is arm64: ${remedy}`;
  }
  const missing = MISSING.exec(text);
  if (!missing) return undefined;
  return `${missing[1] ?? missing[2]} is not installed for the guest, which is arm64: --node-modules installs the dependencies for it`;
}

/** What a file's native code is for; undefined where it is none, or is for the guest. */
export function processorOf(path: string): string | undefined {
  const head = Buffer.alloc(20);
  try {
    // Opening a FIFO would wait.
    if (!statSync(path).isFile()) return undefined;
    const descriptor = openSync(path, 'r');
    try {
      if (readSync(descriptor, head, 0, head.length, 0) < head.length) return undefined;
    } finally {
      closeSync(descriptor);
    }
  } catch {
    return undefined;
  }
  if (MACOS.includes(head.readUInt32BE(0))) return 'macOS';
  if (head.toString('latin1', 0, 4) !== '\x7fELF') return undefined;
  const number = head.readUInt16LE(18);
  return number === ARM64 ? undefined : (PROCESSORS[number] ?? `processor ${number} of ELF`);
}
