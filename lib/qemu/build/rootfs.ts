import {
  copyFileSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { join } from 'node:path';
import { BuildError, command } from './command.js';
import { partKey } from './cache.js';
import { inTreeTas, kitFolder } from './dev-kit.js';
import { ext4Recipe, makeExt4 } from './ext4.js';
import { TOOLS } from './optee.js';
import { type Part, type Workshop, dataFile, recipeOf, sourceInputs } from './part.js';
import { Snapshot } from './snapshot.js';
import { GUEST, type SourceList } from './sources.js';
import type { Toolchain } from './toolchain.js';

export const ROOTFS = 'rootfs.ext4';

/** MiB left free in the guest's root, for what commands write there and TAs store. */
const FREE_SPACE = 512;

/** Not needed in the guest. */
const LEFT_OUT = ['usr/share/doc', 'usr/share/man', 'usr/share/locale', 'usr/share/lintian', 'usr/share/bug'];

/** Where tee-supplicant looks for TAs. */
const TA_FOLDER = 'usr/lib/optee_armtz';

const AGENT_FLAGS = ['-std=c11', '-O2', '-Wall', '-Wextra', '-Werror', '-static', '-s'];

const HELLO_WORLD_UUID = '8aaaf200-2450-11e4-abe2-0002a5d5c51b';

/**
 * The guest's root: Debian's packages unpacked, busybox, OP-TEE's own TAs and one to try, our init and agent. No root
 * rights are needed.
 */
export function rootfsPart(sources: SourceList, toolchain: Toolchain, devKit: Part): Part {
  const overlay = new Snapshot(dataFile('rootfs'));
  const agent = new Snapshot(dataFile('agent'));
  const helloWorld = new Snapshot(dataFile('hello-world'));
  return {
    name: 'rootfs',
    title: 'Root file system',
    needs: GUEST,
    after: [devKit],
    inputs: {
      recipe: recipeOf(__filename),
      sources: sourceInputs(sources, ...GUEST),
      tools: [toolchain.compiler, toolchain.mke2fs],
      options: [...AGENT_FLAGS, ...TOOLS],
      image: ext4Recipe(),
      devKit: partKey(devKit.inputs),
      overlay: overlay.digest,
      agent: agent.digest,
      helloWorld: helloWorld.digest,
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
        'var/lib/optee-client/data/tee',
        'usr/local/bin',
      ]) {
        mkdirSync(join(root, name), { recursive: true });
      }
      symlinkSync('/opt/node/bin/node', join(root, 'usr/local/bin/node'));
      const tas = inTreeTas(shop.cache, devKit);
      for (const name of readdirSync(tas).filter((name) => name.endsWith('.ta'))) {
        copyFileSync(join(tas, name), join(root, TA_FOLDER, name));
      }
      await buildHelloWorld(helloWorld, kitFolder(shop.cache, devKit), join(root, TA_FOLDER), shop);
      await linkApplets(root);
      await compileAgent(agent, root, shop);
      overlay.write(root);
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

async function compileAgent(agent: Snapshot, root: string, shop: Workshop): Promise<void> {
  const folder = join(root, 'usr/lib/node-optee');
  mkdirSync(folder, { recursive: true });
  const source = join(shop.scratch, 'agent');
  agent.write(source);
  const files = agent.names.filter((name) => name.endsWith('.c')).map((name) => join(source, name));
  await shop.run('aarch64-linux-gnu-gcc', [...AGENT_FLAGS, '-o', join(folder, 'agent'), ...files]);
}

async function buildHelloWorld(ta: Snapshot, kit: string, into: string, shop: Workshop): Promise<void> {
  const source = join(shop.scratch, 'hello-world');
  ta.write(source);
  const out = join(shop.scratch, 'hello-world-built');
  await shop.run('make', ['-s', `O=${out}`, `TA_DEV_KIT_DIR=${kit}`, ...TOOLS], source);
  const name = `${HELLO_WORLD_UUID}.ta`;
  copyFileSync(join(out, name), join(into, name));
}

/** What the guest runs of Debian's must load: a library that is missing, or too old for another, is found now. */
export async function checkLibraries(root: string): Promise<void> {
  const libraries = join(root, 'usr/lib/aarch64-linux-gnu');
  const loader = [join(libraries, 'ld-linux-aarch64.so.1'), '--inhibit-cache', '--library-path', libraries];
  for (const name of [
    'usr/bin/xtest',
    'usr/sbin/tee-supplicant',
    'usr/lib/aarch64-linux-gnu/libstdc++.so.6',
    'usr/lib/aarch64-linux-gnu/libatomic.so.1',
  ]) {
    // The loader's status says nothing about versions, its messages do.
    const words = ['qemu-aarch64', ...loader, '--list', join(root, name)];
    const answer = await command('sh', ['-c', '"$@" 2>&1 || :', 'sh', ...words]);
    const problem = answer.split('\n').find((line) => / not found|: cannot /.test(line));
    if (problem !== undefined || !answer.includes('libc.so.6')) {
      throw new BuildError(`${name} does not load in the guest: ${problem ?? answer}`);
    }
  }
}
