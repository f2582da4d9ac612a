/** test/native/teec.cc: libteec's functions over the addon's core, for programs of the guest. */
import { readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { BuildLog, command } from '#lib/qemu/build/command';
import { LIBTEEC, unpackDebian } from './debian.js';
import { CLI } from './guest.js';

const ROOT = dirname(dirname(CLI));

/** Builds it, in the folder `out`, under the name of Debian's. */
export async function buildTeec(out: string): Promise<void> {
  const log = new BuildLog(join(out, 'build.log'));
  try {
    const libteec = join(out, 'debian');
    await unpackDebian(LIBTEEC, libteec, log);
    // In one piece: the same headers are read once.
    const core = readdirSync(join(ROOT, 'native/core')).filter((name) => name.endsWith('.cc'));
    const sources = [...core.map((name) => `native/core/${name}`), 'test/native/teec.cc'];
    const all = join(out, 'all.cc');
    writeFileSync(all, sources.map((source) => `#include "${join(ROOT, source)}"\n`).join(''));
    const flags = ['-std=c++20', '-O1', '-fPIC', '-shared', '-fvisibility=hidden'];
    const warnings = ['-Wall', '-Wextra', '-Werror'];
    const linked = ['-static-libstdc++', '-static-libgcc', '-Wl,-z,nodelete', '-Wl,-soname,libteec.so.2'];
    const headers = ['-isystem', join(libteec, 'usr/include')];
    const words = [...flags, ...warnings, ...headers, ...linked, all, '-o', join(out, 'libteec.so.2')];
    await command('aarch64-linux-gnu-g++', words, { log });
  } finally {
    log.close();
  }
}
