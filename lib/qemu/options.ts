/** What a guest is told from outside, and its checks: whatever is wrong is said before anything is built or started. */
import { statSync } from 'node:fs';
import { Readable } from 'node:stream';
import type { Writable } from 'node:stream';
import { isUint8Array } from 'node:util/types';
import { invalidArgType, invalidArgValue } from '../client/errors.js';
import { checkBoolean, checkInteger, checkKnown, checkSignal, checkString } from '../client/validate.js';
import { checkOptions } from './build/index.js';
import type { Progress } from './build/index.js';
import type { GdbOptions } from './gdb.js';
import type { Machine, MachineName, NodeVersion } from './machine.js';
import { shareTarget, taMounts } from './mounts.js';
import type { TaMounts } from './mounts.js';
import type { TerminalSize } from './protocol.js';

/** Node's timers end there. */
const LONGEST = 0x7fffffff;

/** Those of `qemu/rootfs/etc/group`. */
const VIDEO_GID = 44;
const TEE_GID = 500;

export interface BootOptions {
  /** What to boot: a machine that is built, or the name of one that is built first if need be. `dynamic` */
  readonly machine?: Machine | MachineName | undefined;
  /** Node.js in the guest, where `machine` is a name. 24 */
  readonly node?: NodeVersion | undefined;
  /** MiB, where `machine` is a name. */
  readonly memory?: number | undefined;
  /** Processors, where `machine` is a name. */
  readonly cpus?: number | undefined;
  /** Gets told of a build's steps, where `machine` is a name. */
  readonly progress?: Progress | undefined;
  /** Folder of the host that is mounted in the guest at the same path, and where commands start. */
  readonly share?: string | undefined;
  /** Folders whose `*.ta` files the guest's OP-TEE can load. */
  readonly tas?: readonly string[] | undefined;
  /**
   * Folder of the host that keeps tee-supplicant's storage, which is what TAs store, over boots; it is made where it is
   * not there. One guest at a time can have it. Without it nothing is kept.
   */
  readonly storage?: string | undefined;
  /** Who runs commands: a user of this name in the groups `tee` and `video`, with the owner of the share. `root` */
  readonly user?: string | undefined;
  /** ext4 image that is mounted at `node_modules` in the share. */
  readonly nodeModules?: string | undefined;
  /** Variables for all commands. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  /**
   * The guest's clocks count instructions, a nanosecond for each: what is measured is the same each time, whatever else
   * the host does. Slower, and of no use for what depends on time.
   */
  readonly instructions?: boolean | undefined;
  /** Where QEMU listens with its machine protocol (QMP), a Unix socket's path: to look at the machine itself. */
  readonly monitor?: string | undefined;
  /** Starts QEMU's gdb server, and writes a file of commands for gdb: see `guest.gdb`. Nothing limits the time of the boot. */
  readonly gdb?: GdbOptions | undefined;
  /** Gets both logs line by line, each line with the log's name before it. */
  readonly verbose?: Writable | undefined;
  /** Ends the guest, during the boot and after it. */
  readonly signal?: AbortSignal | undefined;
}

export interface CommandOptions {
  /** Variables beside those of the guest. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** A folder in the guest. The share, or the user's home. */
  readonly cwd?: string | undefined;
  /** `root`, or the guest's user, which is also the default. */
  readonly user?: string | undefined;
}

export interface SpawnOptions extends CommandOptions {
  /** Whether the command's standard input comes from `stdin`; otherwise it is empty. true */
  readonly stdin?: boolean | undefined;
  /** Whether standard error goes where standard output goes, so that what was written first comes first. false */
  readonly merged?: boolean | undefined;
  /** A terminal of this size instead of pipes. */
  readonly terminal?: TerminalSize | undefined;
}

export interface RunOptions extends CommandOptions {
  /** Standard input. Empty by default. */
  readonly stdin?: string | Uint8Array | Readable | undefined;
  /** Milliseconds, up to 2147483647. The command is ended after that, and the promise rejects. */
  readonly timeout?: number | undefined;
  /** Ends the command; the promise rejects at once with an AbortError. */
  readonly signal?: AbortSignal | undefined;
}

export interface User {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  readonly home: string;
}

export const ROOT: User = { name: 'root', uid: 0, gid: 0, groups: [], home: '/root' };

/** What `Guest.boot` makes of its options. */
export interface BootPlan {
  /** Where the share is mounted. */
  readonly target: string | undefined;
  readonly tas: TaMounts;
  readonly user: User;
}

const BOOT_OPTIONS = [
  ...[
    'machine',
    'node',
    'memory',
    'cpus',
    'progress',
    'share',
    'tas',
    'storage',
    'user',
    'nodeModules',
    'env',
  ],
  ...['instructions', 'monitor', 'gdb', 'verbose', 'signal'],
];
const COMMAND_OPTIONS = ['env', 'cwd', 'user'];
const SPAWN_OPTIONS = [...COMMAND_OPTIONS, 'stdin', 'merged', 'terminal'];
const RUN_OPTIONS = [...COMMAND_OPTIONS, 'stdin', 'timeout', 'signal'];

/**
 * Checks the options of `Guest.boot`.
 * @throws TypeError or RangeError that names the option; the share and folders of TAs are looked at, too
 */
export function checkBootOptions(options: BootOptions): BootPlan {
  checkKnown(options, 'options', BOOT_OPTIONS);
  const { machine, node, memory, cpus, progress, share, tas = [], nodeModules, env } = options;
  if (typeof machine === 'object') checkMachine(machine);
  else checkOptions({ machine, node, memory, cpus });
  checkProgress(progress);
  if (!Array.isArray(tas)) throw invalidArgType('tas', 'an array of folders', tas);
  tas.forEach((folder, index) => checkString(folder, `tas[${index}]`));
  for (const name of ['share', 'storage', 'nodeModules', 'monitor', 'user'] as const)
    if (options[name] !== undefined) checkString(options[name], name);
  if (options.instructions !== undefined) checkBoolean(options.instructions, 'instructions');
  if (options.signal !== undefined) checkSignal(options.signal, 'signal');
  checkGdb(options.gdb);
  if (options.verbose !== undefined && typeof options.verbose?.write !== 'function')
    throw invalidArgType('verbose', 'a Writable', options.verbose);
  checkEnv(env);
  if (nodeModules !== undefined && share === undefined)
    throw invalidArgValue('nodeModules', nodeModules, 'needs a share');
  const target = share === undefined ? undefined : shareTarget(share);
  return { target, tas: taMounts(tas), user: userOf(options.user, target) };
}

/** Checks what `guest.spawn` gets. */
export function checkSpawnOptions(argv: readonly string[], options: SpawnOptions): void {
  checkKnown(options, 'options', SPAWN_OPTIONS);
  const { stdin, merged, terminal } = options;
  checkCommand(argv, options);
  if (stdin !== undefined) checkBoolean(stdin, 'stdin');
  if (merged !== undefined) checkBoolean(merged, 'merged');
  if (terminal === undefined) return;
  checkKnown(terminal, 'terminal', ['rows', 'columns']);
  checkInteger(terminal.rows, 'terminal.rows', 1, 0xffff);
  checkInteger(terminal.columns, 'terminal.columns', 1, 0xffff);
}

/** Checks what `guest.run` gets. */
export function checkRunOptions(argv: readonly string[], options: RunOptions): void {
  checkKnown(options, 'options', RUN_OPTIONS);
  const { stdin, timeout, signal } = options;
  checkCommand(argv, options);
  if (timeout !== undefined) checkInteger(timeout, 'timeout', 0, LONGEST);
  if (signal !== undefined) checkSignal(signal, 'signal');
  if (
    stdin !== undefined &&
    typeof stdin !== 'string' &&
    !isUint8Array(stdin) &&
    !(stdin instanceof Readable)
  )
    throw invalidArgType('stdin', 'a string, a Uint8Array or a Readable', stdin);
}

function checkCommand(argv: unknown, { env, cwd, user }: CommandOptions): void {
  if (!Array.isArray(argv)) throw invalidArgType('argv', 'an array of strings', argv);
  checkEnv(env);
  if (cwd !== undefined) checkString(cwd, 'cwd');
  if (user !== undefined) checkString(user, 'user');
}

/** What `prepareMachine` returned; whatever else it is, QEMU would complain about in its own words. */
function checkMachine(machine: Machine): void {
  if (machine === null) throw invalidArgType('machine', 'a machine or its name', machine);
  for (const name of ['name', 'qemu', 'firmware', 'kernel', 'rootfs', 'node'] as const)
    checkString(machine[name], `machine.${name}`);
}

function checkGdb(gdb: GdbOptions | undefined): void {
  if (gdb === undefined) return;
  if (gdb === null) throw invalidArgType('gdb', 'an object', gdb);
  checkKnown(gdb, 'gdb', ['port', 'wait', 'onListening']);
  const { port, wait, onListening } = gdb;
  if (port !== undefined) checkInteger(port, 'gdb.port', 0, 0xffff);
  if (wait !== undefined) checkBoolean(wait, 'gdb.wait');
  if (onListening !== undefined && typeof onListening !== 'function')
    throw invalidArgType('gdb.onListening', 'a function', onListening);
}

function checkProgress(progress: unknown): void {
  const methods = Object(progress) as Partial<Progress>;
  const isWhole = [methods.start, methods.end, methods.fail, methods.note].every(
    (method) => typeof method === 'function',
  );
  if (progress !== undefined && !isWhole) throw invalidArgType('progress', 'a Progress', progress);
}

function checkEnv(env: unknown): void {
  if (env !== undefined && (typeof env !== 'object' || env === null || Array.isArray(env)))
    throw invalidArgType('env', 'an object', env);
  for (const [name, value] of Object.entries(env ?? {})) checkString(value, `env.${name}`);
}

/** With the numbers of the share's owner, so that what is written belongs to them on the host. */
function userOf(name: string | undefined, share: string | undefined): User {
  if (name === undefined || name === ROOT.name) return ROOT;
  if (!/^[a-z_][a-z0-9_-]{0,31}$/.test(name))
    throw invalidArgValue('user', name, 'must be a name of small letters, digits, - and _');
  const owner = share === undefined ? undefined : statSync(share);
  const uid = owner?.uid || 1000;
  const gid = owner?.gid || uid;
  return { name, uid, gid, groups: [gid, VIDEO_GID, TEE_GID], home: `/home/${name}` };
}
