/**
 * Where the time of a call goes: QEMU is stopped now and then while a case runs in the guest, and each processor says
 * what it was doing. Sees both worlds and all of user space. The guest's clocks stop too, but the emulator is slower for
 * a while after each look. What another process does counts as this one's.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { Guest, type Machine } from 'node-optee/qemu';
import { prepareBench, ROOT } from './prepare';
import { Qmp } from './qmp';
import type { Subject } from './results';
import { Symbols } from './symbols';

/** Of a process: /proc/PID/maps. */
export interface Begin {
  readonly maps: string;
}

/** Nanoseconds of one call. */
export interface End {
  readonly ns: number;
}

/** Addresses and names of compiled JavaScript (`perf-PID.map`) and of the kernel's functions (/proc/kallsyms). */
export interface Names {
  readonly compiled: string;
  readonly kernel: string;
}

/** A processor at one moment. */
interface Moment {
  readonly pc: bigint;
  readonly secure: boolean;
  /** Exception level: 0 programs, 1 Linux and OP-TEE, 3 TF-A. */
  readonly level: number;
}

export const PLACES = [
  'TF-A',
  'OP-TEE',
  'the TA',
  'Linux',
  'compiled JavaScript',
  "V8's builtins",
  'Node.js and V8, C++',
  'the addon',
  'libc and other libraries',
  'the C program',
  'other programs',
  'idle',
] as const;
export type Place = (typeof PLACES)[number];

/** What one subject did with the time of its calls. */
export interface Profile {
  readonly subject: Subject;
  /** Nanoseconds of one call. */
  readonly ns: number;
  /** How often the processors were looked at. */
  readonly looks: number;
  /** Nanoseconds of one call on all processors together: they add up to `ns` times the processors. */
  readonly places: Readonly<Partial<Record<Place, number>>>;
  readonly functions: readonly { readonly place: Place; readonly name: string; readonly ns: number }[];
}

export function parseRegisters(text: string): Moment[] {
  const moments: Moment[] = [];
  for (const cpu of text.split(/^CPU#\d+$/m).slice(1)) {
    const pc = /\bPC=([0-9a-f]+)/.exec(cpu)?.[1];
    const [, world, level] = /PSTATE=\S+ \S+ (?:(NS|S) +)?EL(\d)/.exec(cpu) ?? [];
    if (pc === undefined || level === undefined)
      throw new Error(`QEMU's registers are not as expected: ${cpu}`);
    moments.push({ pc: BigInt(`0x${pc}`), secure: world === 'S', level: Number(level) });
  }
  return moments;
}

interface Mapping {
  readonly from: bigint;
  readonly to: bigint;
  readonly path: string;
}

function parseMaps(text: string): Mapping[] {
  const line = /^([0-9a-f]+)-([0-9a-f]+) ..x. \S+ \S+ \d+ *(.*)$/gm;
  return [...text.matchAll(line)].map(([, from, to, path]) => ({
    from: BigInt(`0x${from}`),
    to: BigInt(`0x${to}`),
    path,
  }));
}

/** Does its code lie at the addresses that the file names? */
function isFixed(elf: string): boolean {
  const header = Buffer.alloc(18);
  const file = openSync(elf, 'r');
  readSync(file, header);
  closeSync(file);
  return header.readUInt16LE(16) === 2; // ET_EXEC
}

/** Says where a processor was. */
class Places {
  readonly #maps: Mapping[];
  readonly #kernel: Symbols;
  readonly #compiled: Symbols;
  readonly #node: Symbols;

  constructor(begin: Begin, names: Names, node: Symbols) {
    this.#maps = parseMaps(begin.maps);
    this.#kernel = new Symbols(names.kernel);
    this.#compiled = Symbols.ofPerfMap(names.compiled);
    this.#node = node;
  }

  at({ pc, secure, level }: Moment): { place: Place; name: string } {
    if (level === 3) return { place: 'TF-A', name: '' };
    if (secure) return { place: level === 0 ? 'the TA' : 'OP-TEE', name: '' };
    if (level > 0) {
      const name = this.#kernel.at(pc) ?? '';
      return { place: /idle/.test(name) ? 'idle' : 'Linux', name };
    }
    const mapping = this.#maps.find(({ from, to }) => pc >= from && pc < to);
    const path = mapping?.path ?? '';
    if (path === '[vdso]') return { place: 'libc and other libraries', name: path };
    if (!path.startsWith('/')) {
      // V8 maps memory for code as it needs it.
      const name = this.#compiled.at(pc);
      return { place: name === undefined ? 'other programs' : 'compiled JavaScript', name: name ?? '' };
    }
    const file = path.slice(path.lastIndexOf('/') + 1);
    if (file === 'node') {
      const name = this.#node.at(pc) ?? '';
      return { place: name.startsWith('Builtins_') ? "V8's builtins" : 'Node.js and V8, C++', name };
    }
    if (file.endsWith('.node')) return { place: 'the addon', name: '' };
    return { place: file === 'bench' ? 'the C program' : 'libc and other libraries', name: file };
  }
}

async function look(qmp: Qmp): Promise<Moment[]> {
  await qmp.execute('stop');
  const text = await qmp.execute('human-monitor-command', { 'command-line': 'info registers -a' });
  await qmp.execute('cont');
  return parseRegisters(String(text));
}

async function profileOne(
  guest: Guest,
  qmp: Qmp,
  words: readonly string[],
  subject: Subject,
  node: Symbols,
): Promise<Profile> {
  const argv = ['node', '--perf-basic-prof', join(ROOT, 'build/bench/profile-target.js'), ...words];
  // V8 leaves a log where it starts.
  const target = guest.spawn(argv, { stdin: false, cwd: '/tmp' });
  target.stderr.pipe(process.stderr, { end: false });
  let begin: Begin | undefined;
  let end: End | undefined;
  let names: Names | undefined;
  let over = false;
  const lines = createInterface({ input: target.stdout });
  const allRead = new Promise<void>((resolve) => void lines.once('close', resolve));
  lines.on('line', (line) => {
    const said = JSON.parse(line) as Begin | End | Names;
    if ('maps' in said) begin = said;
    else if ('ns' in said) end = said;
    else names = said;
  });
  const exit = target.exit.finally(() => (over = true));
  exit.catch(() => {}); // whoever waits for it below is told
  const moments: Moment[] = [];
  let looks = 0;
  while (end === undefined && !over) {
    // Not in step with anything of the guest, and seldom: the calls after a look are slower.
    await delay(15 + Math.random() * 15);
    if (begin === undefined || over) continue;
    const found = await look(qmp);
    if (end !== undefined) break;
    moments.push(...found);
    looks++;
  }
  const { status, signal } = await exit;
  await allRead;
  if (status !== 0 || begin === undefined || end === undefined || names === undefined || looks === 0)
    throw new Error(`${subject} ended with ${String(status ?? signal)} after ${looks} looks`);
  const where = new Places(begin, names, node);
  const each = end.ns / looks;
  const places: Partial<Record<Place, number>> = {};
  const functions = new Map<string, { place: Place; name: string; ns: number }>();
  for (const moment of moments) {
    const { place, name } = where.at(moment);
    places[place] = (places[place] ?? 0) + each;
    const key = `${place} ${name}`;
    const known = functions.get(key) ?? { place, name, ns: 0 };
    known.ns += each;
    functions.set(key, known);
  }
  const most = [...functions.values()].sort((a, b) => b.ns - a.ns);
  return { subject, ns: end.ns, looks, places, functions: most };
}

/** Functions of the guest's Node.js, whose code lies where the file says. */
function functionsOf(machine: Machine, folder: string): Symbols {
  const path = join(folder, 'node');
  const dump = ['-R', `dump /bin/node ${path}`, machine.node];
  const { stderr, error } = spawnSync('/sbin/debugfs', dump, { encoding: 'utf8' });
  if (!existsSync(path)) throw error ?? new Error(`debugfs: ${stderr}`);
  if (!isFixed(path)) throw new Error('The guest has a Node.js whose code can lie anywhere');
  return Symbols.ofFile(path);
}

/** Profiles the subjects of one case, one after the other in one guest, each for at most so many seconds. */
export async function profile(
  machine: Machine,
  name: string,
  subjects: readonly Subject[],
  seconds: number,
): Promise<Profile[]> {
  const { program, ta } = await prepareBench();
  const folder = await mkdtemp(join(tmpdir(), 'node-optee-profile-'));
  try {
    const node = functionsOf(machine, folder);
    const monitor = join(folder, 'qmp');
    const guest = await Guest.boot({ machine, share: ROOT, tas: [ta], monitor });
    let qmp: Qmp | undefined;
    try {
      qmp = await Qmp.connect(monitor);
      const found: Profile[] = [];
      for (const subject of subjects) {
        process.stderr.write(`${name}, ${subject}\n`);
        found.push(await profileOne(guest, qmp, [program, name, subject, String(seconds)], subject, node));
      }
      return found;
    } finally {
      qmp?.close();
      await guest.close();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
