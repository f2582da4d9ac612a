import { parseArgs } from 'node:util';
import { followTerminal } from '../suspension.js';
import { BuildError } from './command.js';
import { MissingPackagesError, installHostPackages } from './host.js';
import { prepareDevKit } from './index.js';
import { buildTa, checkTaFolders } from './ta.js';

const USAGE = `Usage: node-optee ta DIR [--out DIR] [--install]

Builds and signs the TA in DIR with the guest's OP-TEE development kit, and prints the path of its .ta file.
DIR has a Makefile that sets BINARY to the TA's UUID and includes $(TA_DEV_KIT_DIR)/mk/ta_dev_kit.mk.

  --out DIR   folder for all that is built (default: build in DIR)
  --install   installs the Debian packages that this host lacks
  --help      this text
`;

/** `node-optee ta`: gets the words after `ta`, returns the exit status (2 where they are wrong). */
export async function taCommand(args: string[]): Promise<number> {
  let words;
  try {
    words = parseArgs({
      args,
      allowPositionals: true,
      options: {
        out: { type: 'string' },
        install: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    });
    if (words.values.help) {
      process.stdout.write(USAGE);
      return 0;
    }
    if (words.positionals.length !== 1) throw new TypeError('exactly one DIR is needed');
  } catch (error) {
    process.stderr.write(`node-optee ta: ${(error as Error).message}\n\n${USAGE}`);
    return 2;
  }
  const [dir] = words.positionals as [string];
  const { out } = words.values;
  try {
    checkTaFolders({ dir, ...(out === undefined ? {} : { out }) });
  } catch (error) {
    process.stderr.write(`node-optee ta: ${(error as Error).message}\n`);
    return 2;
  }
  followTerminal();
  try {
    if (words.values.install) installHostPackages();
    const devKit = await prepareDevKit();
    const built = await buildTa({ dir, devKit, ...(out === undefined ? {} : { out }) });
    process.stdout.write(built.map((path) => `${path}\n`).join(''));
    return 0;
  } catch (error) {
    if (!(error instanceof BuildError)) throw error;
    const hint = error instanceof MissingPackagesError ? '\nor run this command again with --install.' : '';
    process.stderr.write(`node-optee ta: ${error.message}${hint}\n`);
    return 1;
  }
}
