import { parseArgs } from 'node:util';
import { followTerminal } from '../suspension.js';
import { BuildError } from './command.js';
import { MissingPackagesError, installHostPackages } from './host.js';
import { prepareDevKit } from './index.js';
import { buildTa, checkTaFolders } from './ta.js';

const USAGE = `Usage: node-optee ta DIR [--out DIR] [--log-level N] [--install]

Builds and signs the TA in DIR with the guest's OP-TEE development kit, and prints the path of its .ta file.
DIR has a Makefile that sets BINARY to the TA's UUID and includes $(TA_DEV_KIT_DIR)/mk/ta_dev_kit.mk.

  --out DIR      folder for all that is built (default: build in DIR)
  --log-level N  messages of its own that the TA logs: 0 none, 1 errors, 2 also IMSG, 3 also DMSG, 4 also FMSG
                 (default: what the Makefile sets, else 1)
  --install      installs the Debian packages that this host lacks
  --help         this text

The log is standard error of 'node-optee qemu --verbose'. Beside the .ta is an ELF file with its symbols: the guest tells
with it where a TA panicked.
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
        'log-level': { type: 'string' },
        install: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    });
    if (words.values.help) {
      process.stdout.write(USAGE);
      return 0;
    }
    if (words.positionals.length !== 1) throw new TypeError('exactly one DIR is needed');
    const level = words.values['log-level'];
    if (level !== undefined && !/^[0-4]$/.test(level))
      throw new TypeError(`--log-level must be 0, 1, 2, 3 or 4, but is '${level}'`);
  } catch (error) {
    process.stderr.write(`node-optee ta: ${(error as Error).message}\n\n${USAGE}`);
    return 2;
  }
  const [dir] = words.positionals as [string];
  const { out, 'log-level': level } = words.values;
  const where = { dir, ...(out === undefined ? {} : { out }) };
  try {
    checkTaFolders(where);
  } catch (error) {
    process.stderr.write(`node-optee ta: ${(error as Error).message}\n`);
    return 2;
  }
  followTerminal();
  try {
    if (words.values.install) installHostPackages();
    const devKit = await prepareDevKit();
    const logLevel = level === undefined ? {} : { logLevel: Number(level) };
    const built = await buildTa({ ...where, devKit, ...logLevel });
    process.stdout.write(built.map((path) => `${path}\n`).join(''));
    return 0;
  } catch (error) {
    if (!(error instanceof BuildError)) throw error;
    const hint = error instanceof MissingPackagesError ? '\nor run this command again with --install.' : '';
    process.stderr.write(`node-optee ta: ${error.message}${hint}\n`);
    return 1;
  }
}
