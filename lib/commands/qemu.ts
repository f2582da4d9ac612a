import { setImmediate } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { cacheKey, exportParts, importParts } from '../qemu/build/exchange.js';
import { MissingPackagesError, installHostPackages } from '../qemu/build/host.js';
import {
  BuildError,
  DEFAULT_NODE,
  cacheFolder,
  checkOptions,
  cleanCache,
  prepareMachine,
  prepareNodeModules,
  renewCache,
} from '../qemu/build/index.js';
import { GDB_PORT } from '../qemu/gdb.js';
import { MACHINES, NODE_VERSIONS, type MachineName, type NodeVersion } from '../qemu/machine.js';
import { checkBootOptions } from '../qemu/options.js';
import { Interruption } from '../qemu/interruption.js';
import { flushOutputs } from '../qemu/outputs.js';
import { runCommand } from '../qemu/run.js';
import { followTerminal } from '../qemu/suspension.js';
import { lockedFiles } from '../qemu/build/node-modules.js';
import { ZSTD_PACKAGE, hasOwnZstd } from '../qemu/build/zstd.js';

const USAGE = `Usage: node-optee qemu [OPTIONS] [COMMAND [ARGUMENT]...]

Runs COMMAND in an emulated arm64 guest with a real OP-TEE: /dev/tee0, /dev/teepriv0, a protected dma-heap. A folder
of this host is mounted there at its own path and is the command's working folder. Without COMMAND it is a shell.
What is not built yet is built first: once, in ten minutes to half an hour. Options come first: all that follows COMMAND
is its own. A -- before it does no harm.

  --machine NAME    ${MACHINES.join(', ')}: how a dma-buf gets to the TEE (default: dynamic)
  --node VERSION    ${NODE_VERSIONS.join(', ')}: the guest's Node.js (default: ${DEFAULT_NODE})
  --share DIR       the folder that is mounted, read and write (default: the current one)
  --ta DIR          adds the *.ta files of DIR to the guest; can be repeated
  --storage DIR     keeps what TAs store in DIR, over boots
  --env NAME=VALUE  a variable for COMMAND; can be repeated
  --user NAME       runs COMMAND as this user, of the groups tee and video, instead of root
  --node-modules    installs the share's lock file for arm64 and mounts it over its node_modules
  --memory MIB      the guest's memory (default: 1024)
  --cpus N          the guest's processors, 1 to 4 (default: 2)
  --timeout SECONDS ends a COMMAND that takes longer
  --gdb [PORT]      a server for gdb on this host (default: 1234; 0: any that is free)
  --gdb-wait        --gdb, and the guest stands still until gdb lets it go
  --verbose         both worlds' logs on stderr, live
  --build           builds the machine (without --machine: all of them), prints the cache's folder, runs nothing
  --export FILE     writes what the machine needs into an archive, for hosts that have QEMU only; builds it before
  --import FILE     puts what is in such an archive into the cache
  --cache-key       prints one word for all that the machine is built from, to name a cache by; builds nothing
  --rebuild         downloads the newest packages, empties the cache and builds anew
  --clean           empties the cache
  --install         installs the Debian packages that this host lacks
  --help            this text

With --build, --export and --cache-key, --machine and --node can be repeated, or be lists with commas.

Exit status: COMMAND's own; 128+n if signal n ended it; 124 for a time-out; 125 if the guest failed or COMMAND's output
could not be written; 126 and 127 if COMMAND cannot be run or is not found; 2 for wrong options; 1 if the build failed.
`;

const OPTIONS = {
  machine: { type: 'string', multiple: true },
  node: { type: 'string', multiple: true },
  share: { type: 'string' },
  ta: { type: 'string', multiple: true },
  storage: { type: 'string' },
  env: { type: 'string', multiple: true },
  user: { type: 'string' },
  'node-modules': { type: 'boolean' },
  memory: { type: 'string' },
  cpus: { type: 'string' },
  timeout: { type: 'string' },
  gdb: { type: 'string' },
  'gdb-wait': { type: 'boolean' },
  verbose: { type: 'boolean' },
  build: { type: 'boolean' },
  export: { type: 'string' },
  import: { type: 'string' },
  'cache-key': { type: 'boolean' },
  rebuild: { type: 'boolean' },
  clean: { type: 'boolean' },
  install: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const;

/** What is done in place of running a command. */
const MODES = ['build', 'export', 'import', 'cache-key', 'clean'] as const;
type Mode = (typeof MODES)[number];

/** These are for several machines at once. */
const FOR_SEVERAL: readonly string[] = ['build', 'export', 'cache-key', 'help'];

/** Options of `node-optee qemu`, checked. */
export interface QemuOptions {
  /** The first of `machines`. */
  readonly machine: MachineName | undefined;
  /** Empty where none was named. */
  readonly machines: readonly MachineName[];
  /** The first of `nodes`. */
  readonly node: NodeVersion;
  readonly nodes: readonly NodeVersion[];
  readonly share: string;
  readonly tas: readonly string[];
  readonly storage: string | undefined;
  readonly env: Readonly<Record<string, string>>;
  readonly user: string | undefined;
  readonly nodeModules: boolean;
  readonly memory: number | undefined;
  readonly cpus: number | undefined;
  /** Milliseconds. */
  readonly timeout: number | undefined;
  readonly gdb: { readonly port: number; readonly wait: boolean } | undefined;
  readonly verbose: boolean;
  readonly mode: Mode | 'run' | 'help';
  /** The archive of `export` and `import`. */
  readonly file: string | undefined;
  readonly rebuild: boolean;
  readonly install: boolean;
  readonly command: readonly string[];
}

/**
 * Reads the words after `qemu`: options, then the command, from the first word that is no option or from after `--`.
 * Throws a TypeError that names the option that is wrong.
 */
export function parseQemuArguments(words: readonly string[]): QemuOptions {
  const args = withGdbPort(words);
  const end = endOfOptions(args);
  const command = args.slice(args[end] === '--' ? end + 1 : end);
  const { values } = parseArgs({ args: args.slice(0, end), options: OPTIONS });
  const machines = listOf('--machine', values.machine, MACHINES);
  const nodes = listOf('--node', values.node, NODE_VERSIONS);
  const modes = MODES.filter((name) => values[name] !== undefined);
  if (modes.length > 1) throw new TypeError(`--${modes.join(' and --')} do not go together`);
  const mode = values.help ? 'help' : (modes[0] ?? 'run');
  for (const [option, list] of Object.entries({ machine: machines, node: nodes }))
    if (list.length > 1 && !FOR_SEVERAL.includes(mode))
      throw new TypeError(`--${option} must be one here, but is ${list.join(', ')}`);
  if (mode !== 'run' && mode !== 'help' && command.length > 0) {
    throw new TypeError(`--${mode} runs no command`);
  }
  const seconds = number('--timeout', values.timeout, /^\d+(\.\d+)?$/);
  if (seconds === 0) throw new TypeError('--timeout must be more than 0 seconds');
  // Node's timers end there; they would fire at once beyond it.
  if (seconds !== undefined && seconds > 2_147_483)
    throw new TypeError('--timeout must be at most 2147483 seconds');
  return {
    machine: machines[0],
    machines,
    node: nodes[0] ?? DEFAULT_NODE,
    nodes: nodes.length > 0 ? nodes : [DEFAULT_NODE],
    share: values.share ?? process.cwd(),
    tas: values.ta ?? [],
    storage: values.storage,
    env: Object.fromEntries((values.env ?? []).map(variable)),
    user: values.user,
    nodeModules: values['node-modules'] ?? false,
    memory: number('--memory', values.memory, /^\d+$/),
    cpus: number('--cpus', values.cpus, /^\d+$/),
    timeout: seconds === undefined ? undefined : Math.ceil(seconds * 1000),
    gdb: gdbOptions(values.gdb, values['gdb-wait'] ?? false),
    verbose: values.verbose ?? false,
    mode,
    file: values.export ?? values.import,
    rebuild: values.rebuild ?? false,
    install: values.install ?? false,
    command,
  };
}

/** `--gdb`, of whose port no word need follow, always with it. What belongs to the command stays as it is. */
function withGdbPort(args: readonly string[]): readonly string[] {
  const at = args.slice(0, endOfOptions(args)).indexOf('--gdb');
  if (at < 0) return args;
  const has = /^\d+$/.test(args[at + 1] ?? '');
  return [...args.slice(0, at), `--gdb=${has ? args[at + 1] : GDB_PORT}`, ...args.slice(at + (has ? 2 : 1))];
}

function gdbOptions(value: string | undefined, wait: boolean): QemuOptions['gdb'] {
  const port = number('--gdb', value, /^\d+$/) ?? (wait ? GDB_PORT : undefined);
  if (port === undefined) return undefined;
  if (port > 0xffff) throw new TypeError(`--gdb must be a port, at most 65535, but is '${value}'`);
  return { port, wait };
}

/** Where the first word is that is neither an option nor an option's value. */
function endOfOptions(args: readonly string[]): number {
  let at = 0;
  for (let word = args[at]; word?.startsWith('-') && word !== '--'; word = args[at]) {
    const option = Object.entries(OPTIONS).find(([name]) => word === `--${name}`)?.[1];
    // The port after --gdb may be left out.
    const hasValue = word === '--gdb' ? /^\d+$/.test(args[at + 1] ?? '') : option?.type === 'string';
    at += hasValue ? 2 : 1;
  }
  return Math.min(at, args.length);
}

/** Repeated options and lists with commas, each value once. */
function listOf<T extends string | number>(
  option: string,
  values: readonly string[] = [],
  allowed: readonly T[],
): readonly T[] {
  const words = values.flatMap((value) => value.split(','));
  const list = words.map((word) => {
    const value = allowed.find((known) => String(known) === word);
    if (value === undefined)
      throw new TypeError(`${option} must be one of ${allowed.join(', ')}, but is '${word}'`);
    return value;
  });
  return [...new Set(list)];
}

function number(option: string, value: string | undefined, form: RegExp): number | undefined {
  if (value !== undefined && !form.test(value))
    throw new TypeError(`${option} must be a number, but is '${value}'`);
  return value === undefined ? undefined : Number(value);
}

function variable(text: string): [string, string] {
  const at = text.indexOf('=');
  if (at < 1) throw new TypeError(`--env must be NAME=VALUE, but is '${text}'`);
  return [text.slice(0, at), text.slice(at + 1)];
}

/** `node-optee qemu`: gets the words after `qemu`, ends this process. */
export async function run(args: string[]): Promise<never> {
  const status = await statusOf(args);
  await flushOutputs();
  // An output that nobody reads would keep this process.
  process.exit(status);
}

async function statusOf(args: string[]): Promise<number> {
  let options;
  try {
    options = parseQemuArguments(args);
  } catch (error) {
    process.stderr.write(`node-optee qemu: ${(error as Error).message}\n\n${USAGE}`);
    return 2;
  }
  if (options.mode === 'help') {
    process.stdout.write(USAGE);
    return 0;
  }
  const interruption = new Interruption();
  followTerminal();
  try {
    return await act(options, interruption);
  } catch (error) {
    await setImmediate(); // a signal may have come while apt ran
    if (interruption.status !== undefined) return interruption.status;
    const { name, message } = error as Error;
    const isArgument = name === 'TypeError' || name === 'RangeError';
    if (!(error instanceof BuildError) && !isArgument) throw error;
    const hint = error instanceof MissingPackagesError ? '\nor run this command again with --install.' : '';
    process.stderr.write(`node-optee qemu: ${message}${hint}\n`);
    return isArgument ? 2 : 1;
  } finally {
    interruption.end();
  }
}

async function act(options: QemuOptions, interruption: Interruption): Promise<number> {
  const { signal } = interruption;
  const { mode, node, nodes, memory, cpus, file = '' } = options;
  // What cannot work is said before ten minutes of building, and before a cache is emptied.
  const isBuild = mode === 'build';
  const machines = options.machines.length > 0 ? options.machines : isBuild ? MACHINES : [undefined];
  if (mode !== 'clean') {
    for (const machine of machines) checkOptions({ machine, node, memory, cpus });
    if (options.nodeModules) lockedFiles(options.share);
  }
  if (mode === 'run') {
    const { share, tas, user, env } = options;
    checkBootOptions({ share, tas, user, env });
  }
  const chosen = { machines: options.machines.length > 0 ? options.machines : undefined, nodes };
  if (mode === 'cache-key') {
    process.stdout.write(`${cacheKey(chosen)}\n`);
    return 0;
  }
  if (mode === 'import') {
    const info = await importParts(file, { signal });
    const { machines, nodes, writtenBy } = info;
    const what = `${machines.join(', ')} with Node.js ${nodes.join(', ')}`;
    process.stderr.write(`Imported ${what}, written by node-optee ${writtenBy}\n`);
    process.stdout.write(`${cacheFolder()}\n`);
    return 0;
  }
  if (options.install) installHostPackages(mode === 'export' && !hasOwnZstd() ? [ZSTD_PACKAGE] : []);
  if (mode === 'clean') {
    await cleanCache({ signal });
    return 0;
  }
  if (options.rebuild) await renewCache({ node, signal });
  if (mode === 'export') {
    const { sha256 } = await exportParts(file, { ...chosen, signal });
    process.stdout.write(`${sha256}  ${file}\n`);
    return 0;
  }
  if (isBuild) {
    for (const machine of machines) {
      for (const node of nodes) await prepareMachine({ machine, node, memory, cpus, signal });
    }
    if (options.nodeModules) await prepareNodeModules(options.share, { signal });
    process.stdout.write(`${cacheFolder()}\n`);
    return 0;
  }
  const machine = await prepareMachine({ machine: options.machine, node, memory, cpus, signal });
  const nodeModules = options.nodeModules ? await prepareNodeModules(options.share, { signal }) : undefined;
  const { command, share, tas, storage, user, env, timeout, gdb, verbose } = options;
  return runCommand({
    machine,
    command,
    share,
    tas,
    storage,
    user,
    env,
    timeout,
    gdb,
    verbose,
    nodeModules,
    interruption,
  });
}
