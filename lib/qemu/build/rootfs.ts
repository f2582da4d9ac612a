import {
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { join } from 'node:path';
import { treeDigest } from './cache.js';
import { BuildError, command } from './command.js';
import { type Part, type Workshop, dataFile, makeExt4, sourceInputs } from './part.js';
import { GUEST, type Sources } from './sources.js';
import type { Toolchain } from './toolchain.js';

export const ROOTFS = 'rootfs.ext4';

/** MiB left free in the guest's root, for what commands write there and TAs store. */
const FREE_SPACE = 512;

/** Not needed in the guest. */
const LEFT_OUT = ['usr/share/doc', 'usr/share/man', 'usr/share/locale', 'usr/share/lintian', 'usr/share/bug'];

/** The guest's root: Debian's packages unpacked, busybox, our init and agent. No root rights are needed. */
export function rootfsPart(sources: Sources, toolchain: Toolchain): Part {
  return {
    name: 'rootfs',
    title: 'Root file system',
    needs: GUEST,
    inputs: {
      recipe: 1,
      sources: sourceInputs(sources, ...GUEST),
      toolchain: toolchain.compiler,
      overlay: treeDigest(dataFile('rootfs')),
      agent: treeDigest(dataFile('agent')),
    },
    async build(folder, shop) {
      const root = join(shop.scratch, 'root');
      mkdirSync(root);
      for (const requirement of GUEST) {
        const [deb] = await shop.sources.files(requirement, shop.log, shop.signal);
        await shop.run('dpkg-deb', ['-x', deb ?? '', root]);
      }
      for (const name of LEFT_OUT) rmSync(join(root, name), { recursive: true, force: true });
      mergeUsr(root);
      for (const name of [
        'dev',
        'proc',
        'sys',
        'run',
        'tmp',
        'root',
        'mnt',
        'opt/node',
        'var/lib/tee',
        'usr/local/bin',
      ]) {
        mkdirSync(join(root, name), { recursive: true });
      }
      symlinkSync('/opt/node/bin/node', join(root, 'usr/local/bin/node'));
      await linkApplets(root);
      await compileAgent(root, shop);
      cpSync(dataFile('rootfs'), root, { recursive: true });
      makeExecutable(root);
      await checkLibraries(root);
      await makeExt4(root, join(folder, ROOTFS), FREE_SPACE, shop);
    },
  };
}

/** The old top-level folders become links into /usr, as in Debian. */
function mergeUsr(root: string): void {
  for (const name of ['bin', 'sbin', 'lib']) {
    const old = join(root, name);
    mkdirSync(join(root, 'usr', name), { recursive: true });
    if (existsSync(old) && lstatSync(old).isDirectory()) {
      cpSync(old, join(root, 'usr', name), { recursive: true, verbatimSymlinks: true });
      rmSync(old, { recursive: true });
    }
    symlinkSync(`usr/${name}`, old);
  }
  const loader = 'aarch64-linux-gnu/ld-linux-aarch64.so.1';
  if (!existsSync(join(root, 'usr/lib/ld-linux-aarch64.so.1'))) {
    symlinkSync(loader, join(root, 'usr/lib/ld-linux-aarch64.so.1'));
  }
}

async function linkApplets(root: string): Promise<void> {
  const busybox = join(root, 'usr/bin/busybox');
  const applets = await command('qemu-aarch64', [busybox, '--list']);
  for (const applet of applets.split('\n').filter((name) => name !== '' && name !== 'busybox')) {
    const path = join(root, 'usr/bin', applet);
    if (!existsSync(path)) symlinkSync('busybox', path);
  }
}

async function compileAgent(root: string, shop: Workshop): Promise<void> {
  const folder = join(root, 'usr/lib/node-optee');
  mkdirSync(folder, { recursive: true });
  const sources = readdirSync(dataFile('agent'))
    .filter((name) => name.endsWith('.c'))
    .map((name) => dataFile('agent', name));
  const flags = ['-std=c11', '-O2', '-Wall', '-Wextra', '-Werror', '-static', '-s'];
  await shop.run('aarch64-linux-gnu-gcc', [...flags, '-o', join(folder, 'agent'), ...sources]);
}

/** npm does not keep the executable bit of every file. */
function makeExecutable(root: string): void {
  for (const name of ['init', 'usr/lib/node-optee/setup']) {
    const path = join(root, name);
    if (existsSync(path)) chmodSync(path, 0o755);
  }
}

/** Every library that a program in the guest needs must be there: a missing one is found now, not in the guest. */
async function checkLibraries(root: string): Promise<void> {
  const libraries = new Set(readdirSync(join(root, 'usr/lib/aarch64-linux-gnu')));
  for (const program of [
    'usr/bin/xtest',
    'usr/sbin/tee-supplicant',
    'usr/lib/aarch64-linux-gnu/libstdc++.so.6',
  ]) {
    const dynamic = await command('aarch64-linux-gnu-readelf', ['-d', join(root, program)]);
    for (const [, library] of dynamic.matchAll(/\(NEEDED\).*\[(.+)\]/g)) {
      if (!libraries.has(library ?? ''))
        throw new BuildError(`${program} needs ${library}, which no package has`);
    }
  }
}
