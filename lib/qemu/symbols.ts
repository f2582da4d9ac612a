/** Functions, files and lines of addresses in TAs, from the ELF files that their builds leave. */
import { execFile } from 'node:child_process';
import { statSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { promisify } from 'node:util';
import { visible } from './log.js';
import type { LoggedPanic, PanicAddress } from './ta-panic.js';

/** A place in a TA's call stack. What is not known is undefined. */
export interface TaFrame {
  readonly function: string | undefined;
  /** Absolute; what belongs to OP-TEE's own libraries begins with `optee-os/`. */
  readonly file: string | undefined;
  readonly line: number | undefined;
  /** In the TA's address space. Functions that were inlined into each other have the same. */
  readonly address: number;
  /** The TA, or library of the TA's, that the address lies in. */
  readonly uuid: string | undefined;
  /** The address in that one's ELF file. */
  readonly offset: number | undefined;
}

/** How a TA ended: it panicked, or it did what it may not. The guest goes on. */
export interface TaPanic {
  readonly uuid: string;
  /** What the TA gave to `TEE_Panic`; undefined for a fault. */
  readonly code: number | undefined;
  /** In words: `panic, code 0xffff0006 (TEE_ERROR_BAD_PARAMETERS)`, `data-abort at address 0x0 (translation fault)`. */
  readonly reason: string;
  /** The innermost first, 64 at most. */
  readonly stack: readonly TaFrame[];
  /** How many more there are. */
  readonly omitted: number;
  /** Why the stack is missing or says less than it could, a sentence. */
  readonly note: string | undefined;
}

/** Of Debian's cross binutils, with which TAs are built. On arm64 the host's own have that name, too. */
const PROGRAM = 'aarch64-linux-gnu-addr2line';

/** Milliseconds; bytes. It takes a few hundredths of a second. */
const LIMITS = { timeout: 20_000, maxBuffer: 4 << 20, killSignal: 'SIGKILL' } as const;

/** Names of C++ can be longer than any page. */
const LONGEST_NAME = 300;

const run = promisify(execFile);

type Place = Pick<TaFrame, 'function' | 'file' | 'line'>;

/** The unstripped ELF of a TA, which its build leaves beside the `.ta`. */
export function elfOf(uuid: string, folders: readonly string[]): string | undefined {
  return folders
    .map((folder) => join(folder, `${uuid}.elf`))
    .find((path) => statSync(path, { throwIfNoEntry: false })?.isFile());
}

export class Symbols {
  /** Of each ELF file as it was, by its path: what was asked before. A TA that panics all the time costs one look-up. */
  readonly #known = new Map<string, { version: string; places: Map<number, readonly Place[]> }>();

  /** @param folders those in which the TAs' ELF files are looked for */
  constructor(private readonly folders: readonly string[]) {}

  async resolve({ uuid, code, reason, stack, omitted, isMixed }: LoggedPanic): Promise<TaPanic> {
    const notes = new Set<string>();
    if (isMixed)
      notes.add('Two TAs ended at once: their lines are mixed in the log, so there is no call stack.');
    const offsets = new Map<string, number[]>();
    for (const frame of stack) {
      if (frame.uuid === undefined || frame.offset === undefined) continue;
      offsets.set(frame.uuid, [...(offsets.get(frame.uuid) ?? []), frame.offset]);
    }
    const places = new Map<string, Map<number, readonly Place[]>>();
    for (const [module, wanted] of offsets) {
      const found = await this.#placesOf(module, wanted);
      if (typeof found === 'string') notes.add(found);
      else places.set(module, found);
    }
    const frames = stack.flatMap((frame) => framesOf(frame, places.get(frame.uuid ?? '')));
    return {
      uuid,
      code,
      reason,
      stack: frames,
      omitted,
      note: notes.size > 0 ? [...notes].join(' ') : undefined,
    };
  }

  /** @returns why there are none, a sentence, where that is so */
  async #placesOf(uuid: string, offsets: readonly number[]): Promise<Map<number, readonly Place[]> | string> {
    const elf = elfOf(uuid, this.folders);
    if (elf === undefined)
      return `There is no ${uuid}.elf beside the .ta, so of ${uuid} there are addresses only.`;
    const places = this.#placesKnown(elf);
    const wanted = [...new Set(offsets)].filter((offset) => !places.has(offset));
    if (wanted.length === 0) return places;
    const words = ['-f', '-i', '-C', '-a', '-e', elf, ...wanted.map((offset) => `0x${offset.toString(16)}`)];
    try {
      const { stdout } = await run(PROGRAM, words, { ...LIMITS, env: { ...process.env, LC_ALL: 'C' } });
      for (const [offset, found] of parseAddr2line(stdout)) places.set(offset, found);
    } catch (error) {
      const { code, message, stderr = '' } = error as NodeJS.ErrnoException & { stderr?: string };
      if (code === 'ENOENT')
        return `${PROGRAM} (Debian's package binutils-aarch64-linux-gnu) is not on this host, so there are addresses only.`;
      const [why = ''] = (stderr.trim() || message).split('\n');
      return `The lines of ${elf} could not be read: ${visible(why).slice(0, LONGEST_NAME)}`;
    }
    return places;
  }

  #placesKnown(elf: string): Map<number, readonly Place[]> {
    const { mtimeMs, size } = statSync(elf, { throwIfNoEntry: false }) ?? { mtimeMs: 0, size: 0 };
    const version = `${mtimeMs} ${size}`;
    let known = this.#known.get(elf);
    if (known?.version !== version) this.#known.set(elf, (known = { version, places: new Map() }));
    return known.places;
  }
}

/** What `addr2line -f -i -a` says: an address, then a function and a place for each function that is inlined there. */
export function parseAddr2line(text: string): Map<number, readonly Place[]> {
  const places = new Map<number, Place[]>();
  let current: Place[] = [];
  let name: string | undefined;
  for (const line of text.split('\n')) {
    if (/^0x[0-9a-f]{16}$/.test(line)) {
      places.set(Number.parseInt(line, 16), (current = []));
      name = undefined;
    } else if (name === undefined) name = line;
    else {
      const [, file = '??', number = '0'] = /^(.*):(\d+|\?)(?: \(discriminator \d+\))?$/.exec(line) ?? [];
      current.push({
        function: name === '??' || name === '' ? undefined : clean(name),
        file: file === '??' ? undefined : sourcePath(file),
        line: Number(number) || undefined,
      });
      name = undefined;
    }
  }
  return places;
}

/** OP-TEE's libraries were compiled in a folder that is not there any more. */
function sourcePath(file: string): string {
  const [, ours] =
    /^.*\/(?:work\/(?:optee|ta-dev-kit)-[^/]+\/optee-os|parts\/(?:optee|ta-dev-kit)-[^/]+)\/(.*)$/.exec(
      file,
    ) ?? [];
  return clean(ours === undefined ? resolve(file) : `optee-os/${ours}`);
}

function clean(text: string): string {
  return visible(text).slice(0, LONGEST_NAME);
}

const UNKNOWN: Place = { function: undefined, file: undefined, line: undefined };

function framesOf(
  { address, uuid, offset }: PanicAddress,
  places: Map<number, readonly Place[]> | undefined,
): TaFrame[] {
  const found = offset === undefined ? undefined : places?.get(offset);
  return (found && found.length > 0 ? found : [UNKNOWN]).map((place) => ({
    ...place,
    address,
    uuid,
    offset,
  }));
}

/** A panic for people: its reason, then a line for each place, paths as they are from the current folder. */
export function taPanicText({ uuid, reason, stack, omitted, note }: TaPanic): string {
  const places: string[] = [];
  for (const { function: name, file, line, address, uuid: module, offset } of stack) {
    const hex = (value: number): string => `0x${value.toString(16)}`;
    const where = module === undefined ? hex(address) : `${hex(address)}, ${module}+${hex(offset ?? 0)}`;
    const source =
      file === undefined ? undefined : `${shortest(file)}${line === undefined ? '' : `:${line}`}`;
    places.push(`    at ${name === undefined ? where : `${name} (${source ?? where})`}`);
  }
  if (omitted > 0) places.push(`    and ${omitted} more`);
  return [`TA ${uuid}: ${reason}`, ...onceEach(places), ...(note === undefined ? [] : [`  ${note}`])].join(
    '\n',
  );
}

/** A line that comes several times in a row comes once, with their number. */
function onceEach(lines: readonly string[]): string[] {
  const starts = lines.flatMap((line, index) => (line === lines[index - 1] ? [] : index));
  return starts.map((start, index) => {
    const count = (starts[index + 1] ?? lines.length) - start;
    return `${lines[start]}${count > 1 ? `, ${count} times` : ''}`;
  });
}

function shortest(file: string): string {
  const path = relative(process.cwd(), file);
  return !file.startsWith('/') || path.startsWith('..') ? file : path;
}
