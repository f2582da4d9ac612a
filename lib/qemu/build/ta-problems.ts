/** What is wrong with a TA's folder, in words: make, the compiler and the linker tell it in riddles, one at a time. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { formatUuid, swapUuid } from '../../client/uuid.js';

/** Entry points by name, with what each has to look like. */
const ENTRY_POINTS: Readonly<Record<string, string>> = {
  TA_CreateEntryPoint: 'TEE_Result TA_CreateEntryPoint(void)',
  TA_DestroyEntryPoint: 'void TA_DestroyEntryPoint(void)',
  TA_OpenSessionEntryPoint:
    'TEE_Result TA_OpenSessionEntryPoint(uint32_t types, TEE_Param params[4], void **session)',
  TA_CloseSessionEntryPoint: 'void TA_CloseSessionEntryPoint(void *session)',
  TA_InvokeCommandEntryPoint:
    'TEE_Result TA_InvokeCommandEntryPoint(void *session, uint32_t command, uint32_t types, TEE_Param params[4])',
};

/** Macros of user_ta_header_defines.h, with what to put there. */
const MACROS: Readonly<Record<string, string>> = {
  TA_UUID: "the UUID of the Makefile's BINARY, as {0x8aaaf200, 0x2450, 0x11e4, {0xab, 0xe2, …}}",
  TA_FLAGS: '0, or flags like TA_FLAG_SINGLE_INSTANCE | TA_FLAG_MULTI_SESSION',
  TA_STACK_SIZE: 'bytes of stack, like 4096',
  TA_DATA_SIZE: 'bytes for TEE_Malloc, like (32 * 1024)',
};

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/**
 * What is wrong with the UUID in a Makefile.
 * @returns a sentence, or undefined
 */
export function binaryProblem(dir: string, binary: string): string | undefined {
  if (UUID.test(binary)) return undefined;
  return (
    `${join(dir, 'Makefile')}: BINARY is '${binary}', which is no UUID. Put one there, like ` +
    "'BINARY = 8aaaf200-2450-11e4-abe2-0002a5d5c51b'; `node -p 'crypto.randomUUID()'` makes a new one"
  );
}

/**
 * What the output of a build that failed means.
 * @param output of make and what it ran
 * @returns sentences, one a line; undefined where it is nothing that is known here
 */
export function buildProblem(dir: string, output: string): string | undefined {
  const header = join(dir, 'user_ta_header_defines.h');
  if (/user_ta_header_defines\.h: No such file/.test(output)) {
    const macros = Object.entries(MACROS).map(([name, what]) => `#define ${name}: ${what}`);
    return [`${header} is missing. It has four macros:`, ...macros].join('\n');
  }
  if (/sub\.mk: No such file/.test(output)) {
    return `${join(dir, 'sub.mk')} is missing. It names the TA's C files, each with a line like 'srcs-y += ta.c'`;
  }
  if (/You must specify exactly one of BINARY/.test(output)) {
    return (
      `${join(dir, 'Makefile')} sets no BINARY. Put the TA's UUID there, before the include: ` +
      "'BINARY = 8aaaf200-2450-11e4-abe2-0002a5d5c51b'"
    );
  }
  const problems = new Set<string>();
  for (const [, name = ''] of output.matchAll(/['‘](TA_\w+)['’] undeclared/g)) {
    if (MACROS[name] !== undefined) problems.add(macroProblem(header, name));
  }
  if (/#error TA_DATA_SIZE too small/.test(output)) problems.add(macroProblem(header, 'TA_DATA_SIZE'));
  for (const [, name = ''] of output.matchAll(/undefined reference to [`'‘](\w+)['’]/g)) {
    const prototype = ENTRY_POINTS[name];
    problems.add(
      prototype === undefined
        ? `There is no function ${name}: write it, in a file that ${join(dir, 'sub.mk')} names with srcs-y`
        : `The TA has no ${name}, which OP-TEE calls. Put it into a file that ${join(dir, 'sub.mk')} names with srcs-y: ` +
            prototype,
    );
  }
  for (const [, name = ''] of output.matchAll(/No rule to make target ['‘`]([^'’]+\.[cS])['’]/g)) {
    problems.add(`${join(dir, 'sub.mk')} names ${name} with srcs-y, and there is no such file`);
  }
  return problems.size === 0 ? undefined : [...problems].join('\n');
}

const macroProblem = (header: string, name: string): string =>
  `${header} has no ${name}, or a wrong one. Put '#define ${name} …' there: ${MACROS[name]}`;

/**
 * Is the UUID in a TA that of its file's name? OP-TEE loads it by one and asks it for the other.
 * @param elf the linked TA, before it is signed
 * @returns a sentence, or undefined
 */
export async function uuidProblem(dir: string, elf: string, binary: string): Promise<string | undefined> {
  const linked = await readFile(elf).catch(() => undefined);
  const inside = linked && headUuid(linked);
  if (inside === undefined || inside === binary.toLowerCase()) return undefined;
  return (
    `${join(dir, 'user_ta_header_defines.h')}: TA_UUID is ${inside}, but BINARY in ${join(dir, 'Makefile')} is ` +
    `${binary}. They must be the same, else OP-TEE does not load the TA`
  );
}

/** The UUID at the start of the section .ta_head; undefined where there is none. */
function headUuid(elf: Buffer): string | undefined {
  if (elf.length < 64 || elf.toString('latin1', 0, 4) !== '\x7fELF' || elf[4] !== 2) return undefined;
  const table = Number(elf.readBigUInt64LE(40));
  const [entry, count, names] = [elf.readUInt16LE(58), elf.readUInt16LE(60), elf.readUInt16LE(62)];
  if (table + entry * count > elf.length || names >= count) return undefined;
  const offsetOf = (i: number): number => Number(elf.readBigUInt64LE(table + i * entry + 24));
  const strings = offsetOf(names);
  for (let i = 0; i < count; i++) {
    const name = strings + elf.readUInt32LE(table + i * entry);
    if (elf.toString('latin1', name, name + 9) !== '.ta_head\0') continue;
    const at = offsetOf(i);
    return formatUuid(swapUuid(elf.subarray(at, at + 16)));
  }
  return undefined;
}
