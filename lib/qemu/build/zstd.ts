import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { open } from 'node:fs/promises';
import type { Duplex, Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import zlib from 'node:zlib';
import { BuildError, isInstalled } from './command.js';
import { requireHostPackages } from './host.js';

/**
 * Half a minute for a machine, and a tenth larger than what takes ten times as long. With a window of 32 MiB the kernel
 * that is also in the firmware is kept once.
 */
const LEVEL = 12;
const WINDOW_LOG = 25;

/** What Node.js has since 22.15, and its types of 20 do not know. */
interface WithZstd {
  createZstdCompress?: (options: { params: Record<string, number> }) => Duplex;
  constants: Record<string, number>;
}

/** Debian's package with the program, which Node.js before 22.15 needs. */
export const ZSTD_PACKAGE = 'zstd';

const LACK = `To write an archive, the program zstd is needed (package ${ZSTD_PACKAGE}), or Node.js 22.15 or newer`;

/** Whether Node.js compresses, without a program. */
export function hasOwnZstd(): boolean {
  return (zlib as Partial<WithZstd>).createZstdCompress !== undefined;
}

/**
 * Says what is missing before anything is built.
 * @throws BuildError where there is nothing to compress with
 */
export async function checkCompressor(): Promise<void> {
  if (hasOwnZstd() || (await isInstalled('zstd'))) return;
  requireHostPackages([ZSTD_PACKAGE]);
  throw new BuildError(LACK);
}

/**
 * Compresses bytes into a new file: with Node.js where it can, else with the program `zstd`.
 * @throws BuildError where there is neither, or the program fails; the system's errors
 */
export async function compressZstd(
  bytes: AsyncIterable<Buffer>,
  file: string,
  signal?: AbortSignal,
): Promise<void> {
  const { createZstdCompress, constants } = zlib as unknown as WithZstd;
  if (!createZstdCompress) return compressWithProgram(bytes, file, signal);
  const wanted = {
    ZSTD_c_compressionLevel: LEVEL,
    ZSTD_c_windowLog: WINDOW_LOG,
    ZSTD_c_enableLongDistanceMatching: 1,
    ZSTD_c_checksumFlag: 1,
  };
  const params = Object.fromEntries(
    Object.entries(wanted).map(([name, value]) => [String(constants[name]), value]),
  );
  await pipeline(bytes, createZstdCompress({ params }), createWriteStream(file, { flags: 'wx' }), { signal });
}

async function compressWithProgram(
  bytes: AsyncIterable<Buffer>,
  file: string,
  signal?: AbortSignal,
): Promise<void> {
  const output = await open(file, 'wx');
  try {
    const words = ['-q', `-${LEVEL}`, `--long=${WINDOW_LOG}`, '-T0', '--check', '-c'];
    const stdio = ['pipe', output.fd, 'pipe'] as const;
    const child = spawn('zstd', words, { stdio: [...stdio] }) as ChildProcessByStdio<
      Writable,
      null,
      Readable
    >;
    let errors = '';
    child.stderr.on('data', (text: Buffer) => (errors = (errors + text.toString()).slice(-4096)));
    const closed = once(child, 'close') as Promise<[number | null]>;
    // Whoever fails first: without a program, or with one that was ended, nothing can be written to it.
    const written = pipeline(bytes, child.stdin, { signal }).then(undefined, (error: Error) => error);
    const [status] = await closed.catch((cause: unknown) => {
      child.stdin.destroy();
      throw new BuildError(LACK, { cause });
    });
    const failure = await written;
    signal?.throwIfAborted();
    if (status !== 0) throw new BuildError(`zstd ended with ${status}: ${errors.trim()}`);
    if (failure) throw failure;
  } finally {
    await output.close();
  }
}
