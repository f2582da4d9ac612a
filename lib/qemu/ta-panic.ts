/**
 * Finds the ends of TAs in OP-TEE's log: a panic or a fault, and the call stack. OP-TEE's parts of the text are in its
 * `core/kernel/scall.c`, `core/arch/arm/kernel/abort.c`, `ldelf/ta_elf.c` and `lib/libunw`.
 */
import { TEE_RESULTS, resultName } from '../client/results.js';

/** One place of a call stack, as far as the log tells. */
export interface PanicAddress {
  readonly address: number;
  /** The TA or library that it lies in, and where in it. */
  readonly uuid?: string;
  readonly offset?: number;
}

/** What the log says of the end of a TA. */
export interface LoggedPanic {
  readonly uuid: string;
  /** What the TA gave to TEE_Panic; undefined for a fault. */
  readonly code: number | undefined;
  readonly reason: string;
  /** The innermost first. */
  readonly stack: readonly PanicAddress[];
  /** How many more the log has. */
  readonly omitted: number;
  /** Two TAs ended at once, so that nobody can tell whose line is whose. */
  readonly isMixed: boolean;
}

/** Places of a stack that are kept: one that overflowed by recursion has thousands. */
export const MAX_FRAMES = 64;

/** Nothing says that a call stack is at its end. Milliseconds without another line of it. */
const QUIET = 500;

/** So soon after its cause the state of a TA follows. Milliseconds. */
const SOON = 10_000;

/** Beyond these a log is not OP-TEE's. */
const MAX_REGIONS = 4096;
const MAX_ELFS = 256;

/** How far below its stack a TA can get in one step, at most. */
const OVERFLOW = 0x10000;

// Each is a whole line. A * at the beginning: two wanted to write at once. A TA's own lines have TA where these have TC
// and LD; one that prints all of this word for word cannot be told.
const CORE = String.raw`^\*?E/TC:[?\d]+ +\d+ +`;
const LOADER = String.raw`^\*?E/LD: +`;
const PANIC = new RegExp(`${CORE}TA panicked with code 0x([0-9a-f]{1,8})$`);
const FAULT = new RegExp(
  CORE +
    String.raw`User mode ((?:data|prefetch|undef)-abort) at address 0x([0-9a-f]{1,16})(?: \[tagged 0x[0-9a-f]+\])?( \([\w ]+\))?$`,
);
const STATUS = new RegExp(`${LOADER}Status of TA ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$`);
const ANY_OF_LOADER = new RegExp(LOADER);
const ARCHITECTURE = new RegExp(`${LOADER}arch: \\w+$`);
const REGION = new RegExp(
  LOADER +
    String.raw`region +(\d+): va 0x([0-9a-f]{1,16}) pa 0x[0-9a-f]+ size 0x([0-9a-f]{1,16}) flags [-r][-w][-x][-s](?: \[(\d+)\]| \((\w+)\))?$`,
);
const ELF = new RegExp(
  LOADER + String.raw`\[(\d+)\] ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}) @ 0x([0-9a-f]{1,16})$`,
);
const CALL_STACK = new RegExp(`${LOADER}Call stack:$`);
const ADDRESS = new RegExp(`${LOADER}0x([0-9a-f]{1,16})$`);

interface Cause {
  readonly code: number | undefined;
  readonly reason: string;
  /** The address of a data fault. */
  readonly fault: number | undefined;
  readonly at: number;
}

interface Region {
  readonly start: number;
  readonly size: number;
  readonly elf: number | undefined;
  readonly name: string | undefined;
}

/** The state of a TA, while its lines come. */
interface Dump {
  readonly uuid: string;
  readonly cause: Cause;
  readonly regions: Region[];
  readonly elfs: { readonly uuid: string; readonly base: number }[];
  stack: number[] | undefined;
  omitted: number;
  isMixed: boolean;
}

const hex = (text = ''): number => Number.parseInt(text, 16);

/** Reads the secure log line by line. */
export class TaPanicReader {
  readonly #causes: Cause[] = [];
  #dump: Dump | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** @param onPanic called when a whole one was read */
  constructor(private readonly onPanic: (panic: LoggedPanic) => void) {}

  /** @param line one line, without its end */
  push(line: string): void {
    if (!/^\*?E\/(?:TC|LD):/.test(line)) return;
    const cause = causeOf(line);
    if (cause) {
      if (this.#causes.push(cause) > 16) this.#causes.shift();
      return;
    }
    const [, uuid] = STATUS.exec(line) ?? [];
    if (uuid !== undefined) this.#begin(uuid);
    else if (this.#dump && ANY_OF_LOADER.test(line)) this.#add(this.#dump, line);
  }

  /** The log has ended. */
  end(): void {
    this.#finish();
  }

  #begin(uuid: string): void {
    const wasMixed = this.#dump !== undefined && this.#dump.stack === undefined;
    if (this.#dump && wasMixed) this.#dump.isMixed = true;
    this.#finish();
    let cause = this.#causes.shift();
    while (cause && Date.now() - cause.at > SOON) cause = this.#causes.shift();
    // OP-TEE tells the cause first.
    if (!cause) return;
    this.#dump = { uuid, cause, regions: [], elfs: [], stack: undefined, omitted: 0, isMixed: wasMixed };
  }

  #add(dump: Dump, line: string): void {
    const { regions, elfs, stack } = dump;
    if (ARCHITECTURE.test(line)) return;
    const region = REGION.exec(line);
    if (region) {
      const [, index, start, size, elf, name] = region;
      if (Number(index) !== regions.length || elfs.length > 0) dump.isMixed = true;
      if (regions.length < MAX_REGIONS)
        regions.push({
          start: hex(start),
          size: hex(size),
          elf: elf === undefined ? undefined : Number(elf),
          name,
        });
      return;
    }
    const elf = ELF.exec(line);
    if (elf) {
      const [, index, uuid = '', base] = elf;
      if (Number(index) !== elfs.length || stack) dump.isMixed = true;
      if (elfs.length < MAX_ELFS) elfs.push({ uuid, base: hex(base) });
      return;
    }
    if (CALL_STACK.test(line)) {
      if (stack) dump.isMixed = true;
      dump.stack ??= [];
    }
    const [, address] = ADDRESS.exec(line) ?? [];
    if (address !== undefined) {
      if (!stack) dump.isMixed = true;
      else if (stack.length < MAX_FRAMES) stack.push(hex(address));
      else dump.omitted++;
    }
    if (dump.stack) this.#wait();
  }

  /** For the next line of a call stack. */
  #wait(): void {
    if (this.#timer) this.#timer.refresh();
    else this.#timer = setTimeout(() => this.#finish(), QUIET).unref();
  }

  #finish(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const dump = this.#dump;
    this.#dump = undefined;
    const panic = dump && panicOf(dump);
    if (panic) this.onPanic(panic);
  }
}

function causeOf(line: string): Cause | undefined {
  const at = Date.now();
  const [, panic] = PANIC.exec(line) ?? [];
  if (panic !== undefined) {
    const code = hex(panic);
    const name = Object.values<number>(TEE_RESULTS).includes(code) ? ` (${resultName(code)})` : '';
    return {
      code,
      reason: `panic, code 0x${code.toString(16)}${code === 0 ? '' : name}`,
      fault: undefined,
      at,
    };
  }
  const [, what = '', address, how = ''] = FAULT.exec(line) ?? [];
  if (address === undefined) return undefined;
  const fault = what === 'data-abort' ? hex(address) : undefined;
  return { code: undefined, reason: `${what} at address 0x${hex(address).toString(16)}${how}`, fault, at };
}

/** @returns nothing for what OP-TEE does not write */
function panicOf({ uuid, cause, regions, elfs, stack, omitted, isMixed }: Dump): LoggedPanic | undefined {
  const { code, fault } = cause;
  if (isMixed) return { uuid, code, reason: cause.reason, stack: [], omitted: 0, isMixed };
  if (!stack || stack.length === 0 || elfs[0]?.uuid !== uuid) return undefined;
  const places = stack.map((logged, index) => {
    // Of a panic the first is where the call of TEE_Panic would have returned to; those of other calls are theirs already.
    const address = index === 0 && code !== undefined ? logged - 4 : logged;
    const region = regions.find(({ start, size }) => address >= start && address < start + size);
    const elf = region?.elf === undefined ? undefined : elfs[region.elf];
    return elf ? { address, uuid: elf.uuid, offset: address - elf.base } : { address };
  });
  const room = regions.find(({ name }) => name === 'stack');
  const isOverflow =
    room !== undefined && fault !== undefined && fault < room.start && fault >= room.start - OVERFLOW;
  const overflow = isOverflow ? `: overflow of the stack, which has ${room.size} bytes` : '';
  return { uuid, code, reason: cause.reason + overflow, stack: places, omitted, isMixed };
}
