import { spawnSync } from 'node:child_process';
import { accessSync, constants, readFileSync, realpathSync, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { Cache } from './cache.js';

/** The host's tools whose version goes into the keys of what they make. */
export interface Toolchain {
  /** Compiler, assembler and linker. */
  readonly compiler: string;
  readonly qemu: string;
  readonly dtc: string;
  readonly mke2fs: string;
}

/** A tool as it was when it was asked for its version. */
interface Tool {
  /** Its file, with size and time of change: while these are the same, it need not be asked. */
  readonly stamp: string;
  readonly version: string;
}

const FILE = 'toolchain.json';

const QEMU = 'qemu-system-aarch64';

/** Each with the argument that it says its version for. */
const TOOLS = {
  'aarch64-linux-gnu-gcc': '--version',
  'aarch64-linux-gnu-as': '--version',
  'aarch64-linux-gnu-ld': '--version',
  [QEMU]: '--version',
  dtc: '--version',
  mke2fs: '-V',
} as const;

/**
 * The versions of the host's tools. A host that has only a finished cache and no compiler (a CI's, say) takes what
 * the cache was built with.
 */
export function readToolchain(cache: Cache): Toolchain {
  const known = readKnown(cache);
  const version = (name: keyof typeof TOOLS): string =>
    look(name, known[name])?.version ?? known[name]?.version ?? '';
  const compiler = ['aarch64-linux-gnu-gcc', 'aarch64-linux-gnu-as', 'aarch64-linux-gnu-ld'] as const;
  return {
    compiler: compiler.map(version).join('; '),
    qemu: version(QEMU),
    dtc: version('dtc'),
    mke2fs: version('mke2fs'),
  };
}

/** Keeps in the cache what it is built with. */
export function writeToolchain(cache: Cache): void {
  const known = readKnown(cache);
  const names = Object.keys(TOOLS) as (keyof typeof TOOLS)[];
  const tools = Object.fromEntries(names.map((name) => [name, look(name, known[name]) ?? known[name]]));
  cache.writeFile(FILE, JSON.stringify(tools, null, 2) + '\n');
}

function readKnown(cache: Cache): Readonly<Record<string, Tool | undefined>> {
  try {
    return JSON.parse(readFileSync(join(cache.path, FILE), 'utf8')) as Record<string, Tool>;
  } catch {
    return {};
  }
}

/** Is there a QEMU to run the guest? A cache alone does not boot. */
export function hasQemu(): boolean {
  return find(QEMU) !== undefined;
}

/** A tool of this host's, or undefined where it has none. */
function look(name: keyof typeof TOOLS, known: Tool | undefined): Tool | undefined {
  const path = find(name);
  if (path === undefined) return undefined;
  const { size, mtimeMs } = statSync(path);
  const stamp = `${path} ${size} ${mtimeMs}`;
  if (known?.stamp === stamp) return known;
  const { status, stdout, stderr } = spawnSync(path, [TOOLS[name]], { encoding: 'utf8' });
  const line = `${stdout}${stderr}`.split('\n', 1)[0];
  return status === 0 && line ? { stamp, version: line } : undefined;
}

/** The file that PATH leads to, links resolved. */
function find(name: string): string | undefined {
  // mke2fs is where an ordinary user's PATH need not lead.
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  for (const folder of folders) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return realpathSync(path);
    } catch {
      // In another folder, perhaps.
    }
  }
  return undefined;
}
