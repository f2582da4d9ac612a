import { copyFileSync, existsSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { BuildError, CommandError } from './command.js';
import { type Part, type Workshop, keepSymbols, recipeOf, sourceInputs } from './part.js';
import { OPTEE_OS, type Requirement, type SourceList, UnsuitableError } from './sources.js';
import type { Toolchain } from './toolchain.js';
import type { MachineName } from '../machine.js';

/** Physical range of the fixed protected pool, near the end of 1 GiB of RAM at 0x40000000. */
export const STATIC_POOL = { base: 0x7e000000, size: 0x01000000 };

/** The two OP-TEEs: `dmabuf` runs that of `static`. */
export type OpteeVariant = 'dynamic' | 'static';

export function opteeVariant(machine: MachineName): OpteeVariant {
  return machine === 'dynamic' ? 'dynamic' : 'static';
}

/** Of all machines, and of what TAs are built with. */
export const COMMON_FLAGS: readonly string[] = [
  'PLATFORM=vexpress-qemu_armv8a',
  'CFG_ARM64_core=y',
  'CFG_USER_TA_TARGETS=ta_arm64',
  'CFG_ARM_GICV3=y',
  'CFG_SECURE_DATA_PATH=y',
  'CFG_TEE_BENCHMARK=n',
  // Attestation, and figures of TAs.
  'CFG_ATTESTATION_PTA=y',
  'CFG_TA_STATS=y',
  // With the kit instead, those that are used.
  'CFG_BUILD_IN_TREE_TA=n',
  // Against side channels of real processors, at each exception from Linux and from TAs.
  'CFG_CORE_WORKAROUND_NSITR_CACHE_PRIME=n',
  'CFG_CORE_WORKAROUND_SPECTRE_BP=n',
  'CFG_CORE_UNMAP_CORE_AT_EL0=n',
  // A debugger knows where OP-TEE is. TAs are still moved: without that their stacks lie above their data, and an overflow
  // would do harm before it is seen.
  'CFG_CORE_ASLR=n',
  'DEBUG=0',
];

const VARIANT_FLAGS: Record<OpteeVariant, readonly string[]> = {
  dynamic: ['CFG_CORE_DYN_PROTMEM=y', 'CFG_NUM_THREADS=8'],
  // CFG_NUM_THREADS stays at the default of 2, as on most boards.
  static: [
    'CFG_CORE_DYN_PROTMEM=n',
    `CFG_TEE_SDP_MEM_BASE=0x${STATIC_POOL.base.toString(16)}`,
    `CFG_TEE_SDP_MEM_SIZE=0x${STATIC_POOL.size.toString(16)}`,
  ],
};

export const TOOLS: readonly string[] = [
  'CROSS_COMPILE=aarch64-linux-gnu-',
  'CROSS_COMPILE_core=aarch64-linux-gnu-',
  'CROSS_COMPILE_ta_arm64=aarch64-linux-gnu-',
  // Debian's own: its modules are not in another python that comes first in PATH.
  'PYTHON3=/usr/bin/python3',
];

/** The images that TF-A packs, and in which order. */
export const OPTEE_IMAGES = ['tee-header_v2.bin', 'tee-pager_v2.bin', 'tee-pageable_v2.bin'];

/** OP-TEE's symbols, for a debugger. */
export const OPTEE_SYMBOLS = 'tee.elf.debug';

/** Where dpkg-source notes which of Debian's patches it has applied, and where the part keeps that. */
export const APPLIED = '.pc/applied-patches';
const PATCHES = 'debian-patches';

/** OP-TEE OS with Debian's patches. */
export function opteePart(variant: OpteeVariant, sources: SourceList, toolchain: Toolchain): Part {
  const flags = [...COMMON_FLAGS, ...VARIANT_FLAGS[variant]];
  return {
    name: `optee-${variant}`,
    title: `OP-TEE OS ${sources.get(OPTEE_OS)?.version ?? ''} (${variant})`,
    needs: [OPTEE_OS],
    after: [],
    inputs: {
      recipe: recipeOf(__filename),
      sources: sourceInputs(sources, OPTEE_OS),
      tools: [toolchain.compiler],
      options: [...TOOLS, ...flags],
    },
    async build(folder, shop) {
      const tree = await unpackSource(OPTEE_OS, shop);
      const out = join(shop.scratch, 'out');
      // Not the development kit, which is a part of its own.
      const images = OPTEE_IMAGES.map((image) => join(out, 'core', image));
      const make = ['-s', `-j${availableParallelism()}`, `O=${out}`, ...TOOLS, ...flags, ...images];
      await shop.run('make', make, tree);
      checkFlags(flags, readFileSync(join(out, 'conf.mk'), 'utf8'));
      for (const image of OPTEE_IMAGES) copyFileSync(join(out, 'core', image), join(folder, image));
      await keepSymbols(join(out, 'core', 'tee.elf'), join(folder, OPTEE_SYMBOLS), shop);
      copyFileSync(join(out, 'conf.mk'), join(folder, 'conf.mk'));
      if (existsSync(join(tree, APPLIED))) copyFileSync(join(tree, APPLIED), join(folder, PATCHES));
    },
  };
}

/** Unpacks a Debian source package with its patches applied, and returns its folder. */
export async function unpackSource(requirement: Requirement, shop: Workshop): Promise<string> {
  const files = await shop.sources.files(requirement, shop.log, shop.signal);
  const description = files.find((path) => path.endsWith('.dsc'));
  if (description === undefined) throw new BuildError(`${requirement.name} came without a .dsc file`);
  const tree = join(shop.scratch, requirement.name);
  // apt has checked the files against the signed lists; the maintainers' keys need not be on this host.
  try {
    await shop.run('dpkg-source', ['--no-check', '-x', description, tree]);
  } catch (error) {
    if (error instanceof CommandError)
      throw new UnsuitableError(requirement, error.message, { cause: error });
    throw error;
  }
  return tree;
}

/** OP-TEE's make takes whatever it is told, and an option that it does not know changes nothing. */
export function checkFlags(wanted: readonly string[], made: string): void {
  const lines = new Set(made.split('\n'));
  const lost = wanted.filter((flag) => /^CFG_\w+=[yn]$/.test(flag) && !lines.has(flag));
  if (lost.length > 0) throw new UnsuitableError(OPTEE_OS, `its configuration lost ${lost.join(', ')}`);
}

/** The patches that Debian applied, as the part's record keeps them. */
export function debianPatches(partFolder: string): string[] {
  const path = join(partFolder, PATCHES);
  if (!existsSync(path)) return [];
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));
}
