import { copyFileSync, cpSync, mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { COMMON_FLAGS, TOOLS, unpackSource } from './optee.js';
import { type Part, partFolder, recipeOf, sourceInputs } from './part.js';
import type { Cache } from './cache.js';
import { OPTEE_OS, type SourceList } from './sources.js';
import type { Toolchain } from './toolchain.js';

/** The TA development kit, in the part's folder. */
const TA_DEV_KIT = 'export-ta_arm64';

/** The TAs that OP-TEE brings along, signed, and the ELF of each, which has its symbols. */
const TAS = 'tas';

const PKCS11_UUID = 'fd02c9da-306c-48c7-a49c-bbd827ae86ee';

/**
 * OP-TEE's own defaults. They have to be on make's command line: the kit turns them into macros before it reads those
 * of the TA.
 */
const PKCS11_FLAGS = [
  'CFG_PKCS11_TA_ALLOW_DIGEST_KEY=y',
  'CFG_PKCS11_TA_AUTH_TEE_IDENTITY=y',
  'CFG_PKCS11_TA_HEAP_SIZE=(32 * 1024)',
  'CFG_PKCS11_TA_TOKEN_COUNT=3',
  'CFG_PKCS11_TA_CHECK_VALUE_ATTRIBUTE=y',
  'CFG_PKCS11_TA_RSA_X_509=n',
];

/** What TAs are built with, and the PKCS#11 TA, for every machine. */
export function devKitPart(sources: SourceList, toolchain: Toolchain): Part {
  return {
    name: 'ta-dev-kit',
    title: 'TA development kit, PKCS#11 TA',
    needs: [OPTEE_OS],
    after: [],
    inputs: {
      recipe: recipeOf(__filename),
      sources: sourceInputs(sources, OPTEE_OS),
      tools: [toolchain.compiler],
      options: [...TOOLS, ...COMMON_FLAGS],
      pkcs11: PKCS11_FLAGS,
    },
    async build(folder, shop) {
      const tree = await unpackSource(OPTEE_OS, shop);
      const out = join(shop.scratch, 'out');
      const make = ['-s', `-j${availableParallelism()}`];
      await shop.run('make', [...make, `O=${out}`, ...TOOLS, ...COMMON_FLAGS, 'ta_dev_kit'], tree);
      const kit = join(folder, TA_DEV_KIT);
      cpSync(join(out, TA_DEV_KIT), kit, { recursive: true, verbatimSymlinks: true });

      const built = join(shop.scratch, 'pkcs11');
      const where = [`O=${built}`, `TA_DEV_KIT_DIR=${kit}`];
      await shop.run('make', [...make, ...where, ...TOOLS, ...PKCS11_FLAGS], join(tree, 'ta/pkcs11'));
      mkdirSync(join(folder, TAS));
      for (const ending of ['ta', 'elf']) {
        const name = `${PKCS11_UUID}.${ending}`;
        copyFileSync(join(built, name), join(folder, TAS, name));
      }
    },
  };
}

/** The kit's folder, what TA_DEV_KIT_DIR is set to. */
export function kitFolder(cache: Cache, devKit: Part): string {
  return join(partFolder(cache, devKit), TA_DEV_KIT);
}

/** The folder with the `.ta` files of OP-TEE's own TAs, and with their `.elf` files. */
export function inTreeTas(cache: Cache, devKit: Part): string {
  return join(partFolder(cache, devKit), TAS);
}
