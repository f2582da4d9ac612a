import { readFile, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { invalidArgType, invalidArgValue } from '../../client/errors.js';
import { checkInteger, checkKnown, checkSignal, checkString } from '../../client/validate.js';
import { BuildError, BuildLog, command, isInstalled } from './command.js';
import { makeFolders } from './folder.js';
import { binaryProblem, buildProblem, uuidProblem } from './ta-problems.js';

const CROSS_COMPILE = 'aarch64-linux-gnu-';
// The host's own: another python that comes first in PATH lacks the module that signs.
const PYTHON = '/usr/bin/python3';

/** What would reach in from a make that started us, or from settings that are meant for the host's programs. */
const CLEAN_ENVIRONMENT = {
  MAKEFLAGS: undefined,
  MFLAGS: undefined,
  MAKELEVEL: undefined,
  CFLAGS: undefined,
  CPPFLAGS: undefined,
  LDFLAGS: undefined,
};

export interface TaBuildOptions {
  /** Folder of the TA's `Makefile`, which sets BINARY to its UUID and includes `ta_dev_kit.mk`. */
  dir: string;
  /** OP-TEE's TA development kit, `export-ta_arm64` of its build. */
  devKit: string;
  /** Folder for everything that is built, by default `build` in `dir`. */
  out?: string;
  /**
   * Which of its own messages the TA logs: 0 none, 1 errors (EMSG and printf), 2 also IMSG, 3 also DMSG, 4 also FMSG.
   * Default: what the TA's Makefile sets, else 1. It is OP-TEE's CFG_TEE_TA_LOG_LEVEL.
   */
  logLevel?: number;
  /** Gets make's output; by default a file `build.log` in `out`. The caller's stays open. */
  log?: BuildLog;
  signal?: AbortSignal;
}

/**
 * Builds and signs a TA with OP-TEE's development kit. Returns the paths of its `.ta` files, absolute.
 * Throws a BuildError: a tool or file that is missing, or make's last lines and where the whole log is.
 */
export async function buildTa(options: TaBuildOptions): Promise<string[]> {
  checkTaOptions(options);
  const dir = resolve(options.dir);
  const out = resolve(options.out ?? join(dir, 'build'));
  const devKit = resolve(options.devKit);
  await checkTools();
  await checkFolders(dir, devKit);
  try {
    makeFolders(out);
  } catch (cause) {
    throw new BuildError(`${out} cannot be made: ${(cause as Error).message}`, { cause });
  }
  const log = options.log ?? new BuildLog(join(out, 'build.log'));
  try {
    const variables = {
      TA_DEV_KIT_DIR: devKit,
      CROSS_COMPILE,
      CROSS_COMPILE_ta_arm64: CROSS_COMPILE,
      PYTHON3: PYTHON,
      O: out,
      ...(options.logLevel === undefined ? {} : { CFG_TEE_TA_LOG_LEVEL: String(options.logLevel) }),
    };
    const args = ['-C', dir, ...Object.entries(variables).map(([name, value]) => `${name}=${value}`)];
    const { signal } = options;
    const env = CLEAN_ENVIRONMENT;
    const ask = [
      '-s',
      '--no-print-directory',
      '--eval=node-optee-binary: ; @echo $(BINARY)',
      'node-optee-binary',
    ];
    const askBinary = async (): Promise<string | undefined> => {
      const answer = await command('make', [...args, ...ask], { env, signal });
      return answer.trimEnd().split('\n').at(-1)?.trim();
    };
    const from = log.size;
    await command('make', [...args, 'all'], { env, log, signal }).catch(async (cause: unknown) => {
      if (!(cause instanceof BuildError)) throw cause;
      const output = (await readFile(log.path)).subarray(from).toString();
      const binary = await askBinary().catch(() => undefined);
      const problem = buildProblem(dir, output) ?? (binary ? binaryProblem(dir, binary) : undefined);
      if (problem === undefined) throw cause;
      throw new BuildError(`${problem}\nThe whole log: ${log.path}`, { cause });
    });
    const uuid = await askBinary();
    if (!uuid) throw new BuildError(`${dir} does not build a TA: its Makefile sets no BINARY`);
    const ta = join(out, `${uuid}.ta`);
    await stat(ta).catch((cause: unknown) => {
      throw new BuildError(`make ended well, but there is no ${ta}; the whole log: ${log.path}`, { cause });
    });
    const differs = await uuidProblem(dir, join(out, `${uuid}.elf`), uuid);
    if (differs !== undefined) throw new BuildError(differs);
    return [ta];
  } finally {
    if (options.log === undefined) log.close();
  }
}

/**
 * What can be said of the options before anything is built.
 * @throws TypeError that names the option
 */
function checkTaOptions(options: TaBuildOptions): void {
  checkKnown(options, 'options', ['dir', 'devKit', 'out', 'logLevel', 'log', 'signal']);
  checkTaFolders(options);
  checkMakePath('devKit', options.devKit);
  if (options.logLevel !== undefined) checkInteger(options.logLevel, 'logLevel', 0, 4);
  if (options.log !== undefined && !(options.log instanceof BuildLog))
    throw invalidArgType('log', 'a BuildLog', options.log);
  if (options.signal !== undefined) checkSignal(options.signal, 'signal');
}

/** The same for the folders alone, for whoever has no development kit yet. */
export function checkTaFolders({ dir, out }: Pick<TaBuildOptions, 'dir' | 'out'>): void {
  checkMakePath('dir', dir);
  if (out !== undefined) checkMakePath('out', out);
}

/** make takes most of the rest for its own: with `a$b` it builds into another folder. */
function checkMakePath(name: string, path: string): void {
  if (!/^[\p{L}\p{N}/._+@,-]+$/u.test(resolve(checkString(path, name))))
    throw invalidArgValue(
      name,
      resolve(path),
      'must have letters, digits and /._+@,- only: make cannot work with others',
    );
}

async function checkTools(): Promise<void> {
  const tools: [program: string, debianPackage: string][] = [
    ['make', 'make'],
    [`${CROSS_COMPILE}gcc`, 'gcc-aarch64-linux-gnu'],
    [PYTHON, 'python3'],
  ];
  for (const [program, debianPackage] of tools) {
    if (!(await isInstalled(program))) throw missing(program, debianPackage);
  }
  await command(PYTHON, ['-c', 'import cryptography']).catch((cause: unknown) => {
    throw missing("python3's module cryptography", 'python3-cryptography', cause);
  });
}

function missing(what: string, debianPackage: string, cause?: unknown): BuildError {
  return new BuildError(`To build a TA, ${what} is needed: install Debian's package ${debianPackage}`, {
    cause,
  });
}

async function checkFolders(dir: string, devKit: string): Promise<void> {
  const folder = await stat(dir).catch(() => undefined);
  if (folder === undefined) throw new BuildError(`The TA's folder ${dir} does not exist`);
  if (!folder.isDirectory()) throw new BuildError(`The TA's folder ${dir} is not a folder`);
  if (!(await isFile(join(dir, 'Makefile')))) {
    const hint = (await isFile(join(dir, 'ta', 'Makefile'))) ? `; is it ${join(dir, 'ta')}?` : '';
    throw new BuildError(`The TA's folder ${dir} has no Makefile${hint}`);
  }
  if (!(await isFile(join(devKit, 'mk', 'ta_dev_kit.mk')))) {
    throw new BuildError(`${devKit} is no TA development kit of OP-TEE: it has no mk/ta_dev_kit.mk`);
  }
}

async function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isFile(),
    () => false,
  );
}
