import { copyFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { partKey } from './cache.js';
import { OPTEE_IMAGES, unpackSource } from './optee.js';
import { type Part, partFolder, recipeOf, sourceInputs } from './part.js';
import { type SourceList, TRUSTED_FIRMWARE } from './sources.js';
import type { Toolchain } from './toolchain.js';

/** The file that QEMU takes as `-bios`. */
export const FIRMWARE = 'qemu_fw.bios';

const FLAGS = [
  'PLAT=qemu',
  'SPD=opteed',
  'BL32_RAM_LOCATION=tdram',
  'QEMU_USE_GIC_DRIVER=QEMU_GICV3',
  'ARM_LINUX_KERNEL_AS_BL33=1',
  'CROSS_COMPILE=aarch64-linux-gnu-',
  // Against side channels of real processors: the MMU is turned off and on at each exception, which QEMU answers by
  // forgetting all that it has translated.
  'WORKAROUND_CVE_2017_5715=0',
  'WORKAROUND_CVE_2022_23960=0',
];

/** TF-A with OP-TEE and the kernel in it: the whole firmware in one file, no U-Boot, no UEFI. */
export function firmwarePart(sources: SourceList, toolchain: Toolchain, linux: Part, optee: Part): Part {
  return {
    name: optee.name.replace('optee', 'firmware'),
    title: `TF-A ${sources.get(TRUSTED_FIRMWARE)?.version ?? ''} with ${optee.title}`,
    needs: [TRUSTED_FIRMWARE],
    after: [linux, optee],
    inputs: {
      recipe: recipeOf(__filename),
      sources: sourceInputs(sources, TRUSTED_FIRMWARE),
      tools: [toolchain.compiler],
      options: FLAGS,
      linux: partKey(linux.inputs),
      optee: partKey(optee.inputs),
    },
    async build(folder, shop) {
      const tree = await unpackSource(TRUSTED_FIRMWARE, shop);
      const opteeFolder = partFolder(shop.cache, optee);
      const [header, pager, pageable] = OPTEE_IMAGES.map((image) => join(opteeFolder, image));
      await shop.run(
        'make',
        [
          `-j${availableParallelism()}`,
          ...FLAGS,
          `BL33=${join(partFolder(shop.cache, linux), 'Image')}`,
          `BL32=${header}`,
          `BL32_EXTRA1=${pager}`,
          `BL32_EXTRA2=${pageable}`,
          'all',
          'fip',
        ],
        tree,
      );
      copyFileSync(join(tree, 'build/qemu/release', FIRMWARE), join(folder, FIRMWARE));
    },
  };
}
