import { copyFileSync, readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { BuildError, CommandError } from './command.js';
import { type Part, type Workshop, dataFile, keepSymbols, recipeOf, sourceInputs } from './part.js';
import { Snapshot } from './snapshot.js';
import { LINUX, type SourceList, UnsuitableError } from './sources.js';
import type { Toolchain } from './toolchain.js';

const CONFIGURATION = 'guest.config';
/** In the order in which they are applied. */
export const KERNEL_PATCHES = [
  '0001-tee-register-any-contiguous-dma-buf.patch',
  '0002-tee-pin-shared-pages-outside-of-cma.patch',
];

/** Names and addresses of the kernel's functions, for a debugger. */
export const LINUX_SYMBOLS = 'vmlinux.debug';

/** Headers that state the ABI, kept beside the Image for the test that compares ours with them. */
const UAPI_HEADERS = ['linux/tee.h', 'linux/dma-heap.h', 'linux/dma-buf.h'];

const ENVIRONMENT = {
  ARCH: 'arm64',
  CROSS_COMPILE: 'aarch64-linux-gnu-',
  KBUILD_BUILD_TIMESTAMP: '@0',
  KBUILD_BUILD_USER: 'node-optee',
  KBUILD_BUILD_HOST: 'node-optee',
};

/** The kernel's Image, with our patches in it (off unless a machine's command line turns them on). */
export function linuxPart(sources: SourceList, toolchain: Toolchain): Part {
  const data = new Snapshot(dataFile('kernel'), [CONFIGURATION, ...KERNEL_PATCHES]);
  const configuration = data.text(CONFIGURATION);
  return {
    name: 'linux',
    title: `Linux ${sources.get(LINUX)?.version ?? ''}`.trim(),
    needs: [LINUX],
    after: [],
    inputs: {
      recipe: recipeOf(__filename),
      sources: sourceInputs(sources, LINUX),
      tools: [toolchain.compiler],
      options: ENVIRONMENT,
      configuration,
      patches: KERNEL_PATCHES.map((name) => data.text(name)),
    },
    async build(folder, shop) {
      const tree = await unpackLinux(shop);
      data.write(shop.scratch);
      for (const name of KERNEL_PATCHES) await applyPatch(shop, tree, name);
      await make(shop, tree, `KCONFIG_ALLCONFIG=${join(shop.scratch, CONFIGURATION)}`, 'allnoconfig');
      checkConfiguration(configuration, readFileSync(join(tree, '.config'), 'utf8'));
      await make(shop, tree, `-j${availableParallelism()}`, 'Image');
      copyFileSync(join(tree, 'arch/arm64/boot/Image'), join(folder, 'Image'));
      await keepSymbols(join(tree, 'vmlinux'), join(folder, LINUX_SYMBOLS), shop);
      copyFileSync(join(tree, '.config'), join(folder, 'config'));
      for (const header of UAPI_HEADERS) {
        copyFileSync(join(tree, 'include/uapi', header), join(folder, header.replace('linux/', '')));
      }
    },
  };
}

async function applyPatch(shop: Workshop, tree: string, name: string): Promise<void> {
  try {
    await shop.run('patch', ['-p1', '--forward', '--batch', '-i', join(shop.scratch, name)], tree);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    throw new UnsuitableError(LINUX, `${name} does not apply to it`, { cause: error });
  }
}

function make(shop: Workshop, tree: string, ...args: string[]): Promise<void> {
  return shop.run('make', ['-s', ...args], tree, ENVIRONMENT);
}

async function unpackLinux(shop: Workshop): Promise<string> {
  const [deb] = await shop.sources.files(LINUX, shop.log, shop.signal);
  await shop.run('dpkg-deb', ['-x', deb ?? '', shop.scratch]);
  const folder = join(shop.scratch, 'usr', 'src');
  const archive = (await readdir(folder)).find((name) => name.endsWith('.tar.xz'));
  if (archive === undefined) throw new BuildError(`no source archive in ${deb}`);
  await shop.run('tar', ['-xf', join(folder, archive), '-C', shop.scratch]);
  return join(shop.scratch, archive.replace('.tar.xz', ''));
}

/** Kconfig drops an option silently when something that it depends on is off. */
export function checkConfiguration(wanted: string, made: string): void {
  const lines = new Set(made.split('\n'));
  const missing = wanted.split('\n').filter((line) => line.startsWith('CONFIG_') && !lines.has(line));
  if (missing.length > 0) {
    throw new UnsuitableError(LINUX, `its configuration lost ${missing.join(', ')}`);
  }
}
