import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { Log, visible } from './log.js';
import type { Machine } from './machine.js';
import type { Mount } from './mounts.js';
import type { LogName } from './panic.js';

/** How QEMU ended. It says 0 after a panic, too. */
export interface QemuEnd {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  /** What QEMU wrote on its standard error, or why it could not be started. */
  readonly message: string;
}

export interface QemuOptions {
  readonly machine: Machine;
  readonly mounts: readonly Mount[];
  /** ext4 image, /dev/vdc in the guest. */
  readonly modules?: string;
  /** All of the kernel's messages on its console, at the cost of time. */
  readonly verbose: boolean;
  /** The guest's clocks count instructions. */
  readonly instructions?: boolean;
  /** Path of the socket for QMP. */
  readonly monitor?: string;
  /** Called with each line of the two logs as it comes; says whether to keep it. */
  readonly onLine: (log: LogName, line: string) => boolean;
}

/** The sockets that QEMU gets, by their descriptors. */
const AGENT = 3;
const KERNEL = 4;
const SECURE = 5;

/** A QEMU process. It ends with ours, however that ends. */
export class Qemu {
  readonly agent: Duplex;
  readonly kernelLog: Log;
  readonly secureLog: Log;
  /** Resolves when QEMU has ended and both logs are complete. */
  readonly ended: Promise<QemuEnd>;
  readonly #child: ChildProcess;

  constructor(options: QemuOptions) {
    this.kernelLog = new Log((line) => options.onLine('kernel', line));
    this.secureLog = new Log((line) => options.onLine('secure', line));
    // The kernel ends QEMU when we end, SIGKILL included. A session of its own keeps a terminal's signals away:
    // what they mean is for us to say.
    const argv = ['--pdeathsig', 'KILL', options.machine.qemu, ...qemuArguments(options)];
    const child = spawn('setpriv', argv, {
      stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe', 'pipe'],
      detached: true,
    });
    this.#child = child;
    this.agent = child.stdio[AGENT] as Duplex;
    this.#listen(KERNEL, this.kernelLog);
    this.#listen(SECURE, this.secureLog);
    let message = '';
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (chunk: Buffer) => (message = (message + chunk.toString()).slice(-16384)));
    this.ended = new Promise((resolve) => {
      let failure = '';
      child.on('error', (error) => (failure ||= error.message));
      child.on('close', (status, signal) => {
        this.kernelLog.end();
        this.secureLog.end();
        resolve({ status, signal, message: visible((failure || message).trim()) });
      });
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Whether QEMU keeps this process alive. It ends with this process in any case. At first it does. */
  keepAlive(yes: boolean): void {
    // Pipes of a child are sockets, whatever the types say.
    for (const handle of [this.#child, ...this.#child.stdio] as (Pick<Socket, 'ref' | 'unref'> | null)[])
      if (yes) handle?.ref();
      else handle?.unref();
  }

  /** Ends QEMU at once. */
  kill(): void {
    this.#child.kill('SIGKILL');
  }

  #listen(descriptor: number, log: Log): void {
    const socket = this.#child.stdio[descriptor] as Duplex;
    socket.on('data', (chunk: Buffer) => log.push(chunk));
    // A reset at QEMU's end: the end is told by the process itself.
    socket.on('error', () => {});
  }
}

/** Of every machine. */
export const KERNEL_ARGUMENTS: readonly string[] = [
  ...['console=ttyAMA0', 'root=/dev/vda', 'rw', 'init=/usr/lib/node-optee/agent'],
  // With -no-reboot a panic ends QEMU.
  ...['panic=-1', 'oops=panic'],
  // QEMU keeps what it translated by its address: programs that come to lie where others were start faster.
  'norandmaps',
  // There is nothing to be guessed from an emulated processor, and each entry into the kernel costs less.
  'mitigations=off',
];

/** What comes after the name of the program. */
export function qemuArguments(options: Omit<QemuOptions, 'onLine'>): string[] {
  const { machine, mounts, modules, verbose, monitor, instructions = false } = options;
  const kernelArguments = [
    ...KERNEL_ARGUMENTS,
    verbose ? 'ignore_loglevel' : 'loglevel=5',
    ...machine.kernelArguments,
  ];
  return [
    ...['-machine', 'virt,secure=on,gic-version=3', '-cpu', 'cortex-a57'],
    // One nanosecond for each instruction, on one thread of the host; nobody waits for a time that is to come.
    ...(instructions
      ? ['-accel', 'tcg,thread=single', '-icount', 'shift=0,sleep=off']
      : ['-accel', 'tcg,thread=multi']),
    ...['-smp', String(machine.cpus), '-m', String(machine.memory)],
    ...['-bios', machine.firmware, '-kernel', machine.kernel, '-append', kernelArguments.join(' ')],
    ...(machine.deviceTree === undefined ? [] : ['-dtb', machine.deviceTree]),
    ...['-nic', 'none', '-display', 'none', '-monitor', 'none'],
    ...(monitor === undefined ? [] : ['-qmp', `unix:${escape(monitor)},server=on,wait=off`]),
    ...['-no-reboot', '-no-user-config', '-rtc', 'base=utc'],
    ...socket('kernel', KERNEL),
    ...['-serial', 'chardev:kernel'],
    ...socket('secure', SECURE),
    ...['-serial', 'chardev:secure'],
    ...disk('root', machine.rootfs, 'snapshot=on'),
    ...disk('node', machine.node, 'readonly=on'),
    ...(modules === undefined ? [] : disk('modules', modules, 'readonly=on')),
    ...['-device', 'virtio-rng-pci', '-device', 'virtio-serial-pci'],
    ...socket('agent', AGENT),
    ...['-device', 'virtserialport,chardev=agent,name=node-optee.agent'],
    ...mounts.flatMap(share),
  ];
}

function socket(id: string, descriptor: number): string[] {
  return ['-chardev', `socket,id=${id},fd=${descriptor}`];
}

/** Disks are /dev/vda, vdb, vdc in this order. */
function disk(id: string, path: string, mode: string): string[] {
  return [
    ...['-drive', `if=none,id=${id},format=raw,${mode},file=${escape(path)}`],
    ...['-device', `virtio-blk-pci,drive=${id}`],
  ];
}

function share(mount: Mount): string[] {
  const mode = mount.readOnly ? ',readonly=on' : '';
  // Files belong to whom they belong on the host; a share may span several file systems.
  const backend = `local,id=${mount.tag},path=${escape(mount.path)},security_model=none,multidevs=remap${mode}`;
  return ['-fsdev', backend, '-device', `virtio-9p-pci,fsdev=${mount.tag},mount_tag=${mount.tag}`];
}

/** A comma ends a value, and two are one. */
function escape(path: string): string {
  return path.replaceAll(',', ',,');
}
