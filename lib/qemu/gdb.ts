/** A debugger on the guest: QEMU's gdb server, and the commands with which gdb knows Linux, OP-TEE and the TAs. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseUuid, swapUuid } from '../client/uuid.js';
import type { Machine } from './machine.js';
import type { TaMounts } from './mounts.js';
import { elfOf } from './symbols.js';

export const GDB_PORT = 1234;

export interface GdbOptions {
  /** Of 127.0.0.1; 0 for any that is free. 1234 */
  readonly port?: number | undefined;
  /** Whether the processors stand still from the start until a gdb lets them go. The boot waits, too. false */
  readonly wait?: boolean | undefined;
  /** Called once, before the guest boots. */
  readonly onListening?: ((server: GdbServer) => void) | undefined;
}

/** Where gdb finds a guest. Whoever can connect there can do with the guest what they like, and with QEMU's monitor, too. */
export interface GdbServer {
  readonly host: '127.0.0.1';
  readonly port: number;
  /** A file for `gdb-multiarch -x`; removed when the guest ends. */
  readonly commands: string;
}

/** A TA's UUID, and the ELF file with its symbols. */
export interface TaElf {
  readonly uuid: string;
  readonly elf: string;
}

/** The TAs of a guest that have an ELF file in one of the folders. */
export function taElfs({ links }: TaMounts, folders: readonly string[]): TaElf[] {
  return links.flatMap(({ name }) => {
    const [, uuid] = /^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.ta$/.exec(name) ?? [];
    const elf = uuid === undefined ? undefined : elfOf(uuid, folders);
    return uuid === undefined || elf === undefined ? [] : { uuid, elf };
  });
}

/** The file for gdb, in a folder of its own that nobody else can write to. */
export class GdbCommands {
  readonly path: string;
  readonly #folder: string;

  constructor(port: number, symbols: Machine['symbols'], tas: readonly TaElf[]) {
    this.#folder = mkdtempSync(join(tmpdir(), 'node-optee-gdb-'));
    this.path = join(this.#folder, 'guest.gdb');
    writeFileSync(this.path, gdbCommands(port, symbols, tas), { mode: 0o600 });
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/**
 * What gdb is to do first. OP-TEE goes through one of two functions each time before it enters a TA, and has the TA's
 * UUID and address in memory then: there the TA's symbols are loaded, before any code of the TA has run.
 */
export function gdbCommands(port: number, symbols: Machine['symbols'], tas: readonly TaElf[]): string {
  const lines = [
    '# Written by node-optee for one guest: gdb-multiarch -x FILE',
    'set confirm off',
    'set pagination off',
    '# Functions of a TA are not known before OP-TEE has loaded it.',
    'set breakpoint pending on',
    'set architecture aarch64',
  ];
  if (symbols) {
    lines.push(`symbol-file ${quote(symbols.linux)}`, `add-symbol-file ${quote(symbols.optee)}`);
  }
  lines.push(`target remote 127.0.0.1:${port}`);
  if (symbols && tas.length > 0) lines.push(...taCommands(tas));
  return `${lines.join('\n')}\n`;
}

function taCommands(tas: readonly TaElf[]): string[] {
  return [
    '',
    '# $x0 is the session of a TA that is about to be entered.',
    'define node_optee_enter_ta',
    '  set $node_optee_ctx = ((struct ts_session *)$x0)->ctx',
    '  set $node_optee_ta = (struct user_ta_ctx *)((unsigned long)$node_optee_ctx - (unsigned long)&((struct user_ta_ctx *)0)->ta_ctx.ts_ctx)',
    '  set $node_optee_base = $node_optee_ta->uctx.load_addr',
    '  set $node_optee_uuid = (unsigned long *)&$node_optee_ctx->uuid',
    ...tas.flatMap(loadTa),
    'end',
    ...tas.map((_, index) => `set $node_optee_at_${index} = 0`),
    ...['user_ta_enter_open_session', 'user_ta_enter_invoke_cmd'].flatMap((name) => [
      `break *${name}`,
      'commands',
      '  silent',
      '  node_optee_enter_ta',
      '  continue',
      'end',
    ]),
  ];
}

/** The symbols of one TA go with it where another instance lies elsewhere. */
function loadTa({ uuid, elf }: TaElf, index: number): string[] {
  const [low, high] = uuidWords(uuid);
  const at = `$node_optee_at_${index}`;
  return [
    `  # ${uuid}`,
    `  if $node_optee_uuid[0] == ${low} && $node_optee_uuid[1] == ${high} && ${at} != $node_optee_base`,
    `    if ${at} != 0`,
    `      remove-symbol-file -a ${at}`,
    '    end',
    `    add-symbol-file ${quote(elf)} -o $node_optee_base`,
    `    set ${at} = $node_optee_base`,
    '  end',
  ];
}

/** A UUID as two 64-bit words of OP-TEE's memory. */
function uuidWords(uuid: string): [string, string] {
  const bytes = swapUuid(parseUuid(uuid));
  const word = (offset: number): string => `0x${bytes.readBigUInt64LE(offset).toString(16)}`;
  return [word(0), word(8)];
}

/** A file name for gdb, which splits words as a shell does. */
function quote(path: string): string {
  return `"${path.replaceAll(/["\\]/g, '\\$&')}"`;
}
