import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { BuildLog, command } from '#lib/qemu/build/command';
import { prepareDevKit } from '#lib/qemu/build/index';
import { buildTa } from '#lib/qemu/build/ta';
import { LIBTEEC, unpackDebian } from '../test/support/debian';

/** The repository: compiled, this file is in build/bench. */
export const ROOT = resolve(__dirname, '..', '..');
const OUT = join(ROOT, 'build', 'bench');

/** What the benchmark needs in the guest. */
export interface Prepared {
  /** The C side, for arm64. */
  readonly program: string;
  /** Where the other C programs are. */
  readonly folder: string;
  /** Folder of the test TA. */
  readonly ta: string;
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
    await unpackDebian([...LIBTEEC, 'libckteec0t64'], libteec, log);
    await command('make', ['-C', join(ROOT, 'bench', 'c'), `LIBTEEC=${libteec}`, `O=${out}`], { log });
  } finally {
    log.close();
  }
  return { program: join(out, 'bench'), folder: out, ta };
}
