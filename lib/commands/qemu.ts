import { setImmediate } from 'node:timers/promises';
import { parseArgs } from 'node:util';
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
import { MACHINES, NODE_VERSIONS, type MachineName, type NodeVersion } from '../qemu/machine.js';
import { checkBootOptions } from '../qemu/options.js';
import { Interruption } from '../qemu/interruption.js';
import { flushOutputs } from '../qemu/outputs.js';
import { runCommand } from '../qemu/run.js';
import { followTerminal } from '../qemu/suspension.js';
import { lockedFiles } from '../qemu/build/node-modules.js';

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
  --verbose         both worlds' logs on stderr, live
  --build           builds the machine (without --machine: all of them), prints the cache's folder, runs nothing
  --rebuild         downloads the newest packages, empties the cache and builds anew
  --clean           empties the cache
  --install         installs the Debian packages that this host lacks
  --help            this text

Exit status: COMMAND's own; 128+n if signal n ended it; 124 for a time-out; 125 if the guest failed or COMMAND's output
could not be written; 126 and 127 if COMMAND cannot be run or is not found; 2 for wrong options; 1 if the build failed.
`;

const OPTIONS = {
  machine: { type: 'string' },
  node: { type: 'string' },
  share: { type: 'string' },
  ta: { type: 'string', multiple: true },
  storage: { type: 'string' },
  env: { type: 'string', multiple: true },
  user: { type: 'string' },
  'node-modules': { type: 'boolean' },
  memory: { type: 'string' },
  cpus: { type: 'string' },
  timeout: { type: 'string' },
  verbose: { type: 'boolean' },
  build: { type: 'boolean' },
  rebuild: { type: 'boolean' },
  clean: { type: 'boolean' },
  install: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const;

/** Options of `node-optee qemu`, checked. */
export interface QemuOptions {
  readonly machine: MachineName | undefined;
  readonly node: NodeVersion;
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
  readonly verbose: boolean;
  readonly mode: 'run' | 'build' | 'clean' | 'help';
  readonly rebuild: boolean;
  readonly install: boolean;
  readonly command: readonly string[];
}

/**
 * Reads the words after `qemu`: options, then the command, from the first word that is no option or from after `--`.
 * Throws a TypeError that names the option that is wrong.
 */
export function parseQemuArguments(args: readonly string[]): QemuOptions {
  const end = endOfOptions(args);
  const command = args.slice(args[end] === '--' ? end + 1 : end);
  const { values } = parseArgs({ args: args.slice(0, end), options: OPTIONS });
  const machine = oneOf('--machine', values.machine, MACHINES);
  const mode = values.help ? 'help' : values.clean ? 'clean' : values.build ? 'build' : 'run';
  if (mode !== 'run' && mode !== 'help' && command.length > 0) {
    throw new TypeError(`--${mode} runs no command`);
  }
  const seconds = number('--timeout', values.timeout, /^\d+(\.\d+)?$/);
  if (seconds === 0) throw new TypeError('--timeout must be more than 0 seconds');
  // Node's timers end there; they would fire at once beyond it.
  if (seconds !== undefined && seconds > 2_147_483)
    throw new TypeError('--timeout must be at most 2147483 seconds');
  return {
    machine,
    node: nodeVersion(values.node),
    share: values.share ?? process.cwd(),
    tas: values.ta ?? [],
    storage: values.storage,
    env: Object.fromEntries((values.env ?? []).map(variable)),
    user: values.user,
    nodeModules: values['node-modules'] ?? false,
    memory: number('--memory', values.memory, /^\d+$/),
    cpus: number('--cpus', values.cpus, /^\d+$/),
    timeout: seconds === undefined ? undefined : Math.ceil(seconds * 1000),
    verbose: values.verbose ?? false,
    mode,
    rebuild: values.rebuild ?? false,
    install: values.install ?? false,
    command,
  };
}

/** Where the first word is that is neither an option nor an option's value. */
function endOfOptions(args: readonly string[]): number {
  let at = 0;
  for (let word = args[at]; word?.startsWith('-') && word !== '--'; word = args[at]) {
    const option = Object.entries(OPTIONS).find(([name]) => word === `--${name}`)?.[1];
    at += option?.type === 'string' ? 2 : 1;
  }
  return Math.min(at, args.length);
}

function oneOf<T extends string>(
  option: string,
  value: string | undefined,
  allowed: readonly T[],
): T | undefined {
  if (value !== undefined && !allowed.includes(value as T)) {
    throw new TypeError(`${option} must be one of ${allowed.join(', ')}, but is '${value}'`);
  }
  return value as T | undefined;
}

function nodeVersion(value: string | undefined): NodeVersion {
  const version = oneOf('--node', value, NODE_VERSIONS.map(String));
  return NODE_VERSIONS.find((known) => String(known) === version) ?? DEFAULT_NODE;
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
  const { node, memory, cpus } = options;
  // What cannot work is said before ten minutes of building, and before a cache is emptied.
  const machines = options.machine ? [options.machine] : options.mode === 'build' ? MACHINES : [undefined];
  if (options.mode !== 'clean') {
    for (const machine of machines) checkOptions({ machine, node, memory, cpus });
    if (options.nodeModules) lockedFiles(options.share);
  }
  if (options.mode === 'run') {
    const { share, tas, user, env } = options;
    checkBootOptions({ share, tas, user, env });
  }
  if (options.install) installHostPackages();
  if (options.mode === 'clean') {
    await cleanCache({ signal });
    return 0;
  }
  if (options.rebuild) await renewCache({ node, signal });
  if (options.mode === 'build') {
    for (const machine of machines) {
      await prepareMachine({ machine, node, memory, cpus, signal });
    }
    if (options.nodeModules) await prepareNodeModules(options.share, { signal });
    process.stdout.write(`${cacheFolder()}\n`);
    return 0;
  }
  const machine = await prepareMachine({ machine: options.machine, node, memory, cpus, signal });
  const nodeModules = options.nodeModules ? await prepareNodeModules(options.share, { signal }) : undefined;
  const { command, share, tas, storage, user, env, timeout, verbose } = options;
  return runCommand({
    machine,
    command,
    share,
    tas,
    storage,
    user,
    env,
    timeout,
    verbose,
    nodeModules,
    interruption,
  });
}
