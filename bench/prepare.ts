import { mkdir, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { Cache } from '#lib/qemu/build/cache';
import { BuildLog, command } from '#lib/qemu/build/command';
import { prepareDevKit } from '#lib/qemu/build/index';
import { Sources, type Requirement } from '#lib/qemu/build/sources';
import { buildTa } from '#lib/qemu/build/ta';

/** The repository: compiled, this file is in build/bench. */
export const ROOT = resolve(__dirname, '..', '..');
const OUT = join(ROOT, 'build', 'bench');

const LIBTEEC: readonly Requirement[] = ['libteec2', 'optee-client-dev'].map((name) => ({
  name,
  kind: 'binary',
  package: name,
}));

/** What the benchmark needs in the guest. */
export interface Prepared {
  /** The C side, for arm64. */
  readonly program: string;
  /** Folder of the test TA. */
  readonly ta: string;
}

/** Debian's libteec for arm64 with its headers, unpacked into `folder`. */
async function unpackLibteec(folder: string, log: BuildLog): Promise<void> {
  const cache = new Cache();
  await cache.locked(async () => {
    const sources = new Sources(cache);
    await sources.resolve(LIBTEEC, log);
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder, { recursive: true });
    for (const requirement of LIBTEEC) {
      for (const deb of await sources.files(requirement, log)) {
        await command('dpkg-deb', ['-x', deb, folder], { log });
      }
    }
    await cache.sweep();
  });
}

/** Builds the C side and the test TA. */
export async function prepareBench(): Promise<Prepared> {
  const ta = join(ROOT, 'build', 'ta');
  await buildTa({ dir: join(ROOT, 'test', 'ta'), devKit: await prepareDevKit(), out: ta });
  const out = join(OUT, 'c');
  await mkdir(out, { recursive: true });
  const log = new BuildLog(join(out, 'build.log'));
  try {
    const libteec = join(OUT, 'libteec');
    await unpackLibteec(libteec, log);
    await command('make', ['-C', join(ROOT, 'bench', 'c'), `LIBTEEC=${libteec}`, `O=${out}`], { log });
  } finally {
    log.close();
  }
  return { program: join(out, 'bench'), ta };
}
