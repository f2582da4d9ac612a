import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync } from 'node:fs';
import type { Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import type { Duplex } from 'node:stream';
import { Log, visible } from './log.js';
import type { Machine } from './machine.js';
import { diskError, gdbPort, listenToMonitor } from './monitor.js';
import type { AskMonitor } from './monitor.js';
import type { Mount } from './mounts.js';
import { HandedOver, overlayFolder } from './owner.js';
import type { Owner } from './owner.js';
import { stopWithUs } from './suspension.js';
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
  /** What the process shows of itself, in ps for instance: whose guest it is. */
  readonly name: string;
  readonly mounts: readonly Mount[];
  /** A folder that only one QEMU at a time may use: it is locked for as long as this one lives. */
  readonly exclusive?: string;
  /** ext4 image, /dev/vdc in the guest. */
  readonly modules?: string;
  /** All of the kernel's messages on its console, at the cost of time. */
  readonly verbose: boolean;
  /** The guest's clocks count instructions. */
  readonly instructions?: boolean;
  /** Path of the socket for QMP. */
  readonly monitor?: string;
  /** gdb's server: its port, 0 for any; whether the processors wait for it. */
  readonly gdb?: { readonly port: number; readonly wait: boolean };
  /** Who QEMU runs as, where that is not this process's user. */
  readonly owner?: Owner;
  /** Called where the host could not read or write a disk of the guest, in words. The guest may stand still. */
  readonly onDiskError: (problem: string) => void;
  /** Called with each line of the two logs as it comes; says whether to keep it. */
  readonly onLine: (log: LogName, line: string) => boolean;
}

/** The status where `exclusive` is somebody else's. QEMU itself never has it. */
export const IN_USE = 77;

/** The sockets that QEMU gets, by their descriptors. */
const AGENT = 3;
const KERNEL = 4;
const SECURE = 5;
const MONITOR = 6;
const FIRST_FREE = 7;

/** A QEMU process. It ends with ours, however that ends. */
export class Qemu {
  readonly agent: Duplex;
  readonly kernelLog: Log;
  readonly secureLog: Log;
  /** Resolves when QEMU has ended and both logs are complete. */
  readonly ended: Promise<QemuEnd>;
  readonly #child: ChildProcess;
  readonly #ask: AskMonitor;

  constructor(options: QemuOptions) {
    this.kernelLog = new Log((line) => options.onLine('kernel', line));
    this.secureLog = new Log((line) => options.onLine('secure', line));
    // The kernel ends QEMU when we end, SIGKILL included. A session of its own keeps a terminal's signals away:
    // what they mean is for us to say.
    const { owner } = options;
    const user = owner ? ['--reuid', String(owner.uid), '--regid', String(owner.gid), '--clear-groups'] : [];
    const files = new HandedOver(FIRST_FREE);
    const words = qemuArguments(owner ? handOver(options, files) : options);
    const lock = ['flock', '--nonblock', '--no-fork', '-E', String(IN_USE), options.exclusive ?? ''];
    const [program = '', ...argv] = [
      ...(options.exclusive === undefined ? [] : lock),
      ...['setpriv', ...user, '--no-new-privs', '--pdeathsig', 'KILL'],
      ...[options.machine.qemu, ...words],
    ];
    const child = spawn(program, argv, {
      stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe', 'pipe', 'pipe', ...files.descriptors],
      detached: true,
    });
    files.descriptors.forEach(closeSync);
    this.#child = child;
    const forget = stopWithUs(child.pid);
    // Where this process has no descriptor left there are no pipes at all; `error` says so.
    const socket = (descriptor: number): Duplex => (child.stdio?.[descriptor] as Duplex) ?? new PassThrough();
    this.agent = socket(AGENT);
    listen(socket(KERNEL), this.kernelLog);
    listen(socket(SECURE), this.secureLog);
    this.#ask = listenToMonitor(socket(MONITOR), (event) => {
      const problem = diskError(event);
      if (problem !== undefined) options.onDiskError(`${problem} (it writes in ${overlayFolder()})`);
    });
    let message = '';
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (chunk: Buffer) => (message = (message + chunk.toString()).slice(-16384)));
    this.ended = new Promise((resolve) => {
      let failure = '';
      const end = (status: number | null, signal: NodeJS.Signals | null): void => {
        forget();
        this.kernelLog.end();
        this.secureLog.end();
        resolve({ status, signal, message: visible((failure || message).trim()) });
      };
      child.on('error', (error) => {
        failure ||= error.message;
        // Without pipes there is no `close`.
        if (!child.stdio) end(null, null);
      });
      child.on('close', end);
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Whether QEMU keeps this process alive. It ends with this process in any case. At first it does. */
  keepAlive(yes: boolean): void {
    // Pipes of a child are sockets, whatever the types say.
    for (const handle of [this.#child, ...(this.#child.stdio ?? [])] as (Pick<
      Socket,
      'ref' | 'unref'
    > | null)[])
      if (yes) handle?.ref();
      else handle?.unref();
  }

  /** The port of gdb's server; never resolves where QEMU ends before it listens. */
  async gdbPort(): Promise<number> {
    return gdbPort(await this.#ask('query-chardev')) ?? 0;
  }

  /** Ends QEMU at once. */
  kill(): void {
    this.#child.kill('SIGKILL');
  }
}

function listen(socket: Duplex, log: Log): void {
  socket.on('data', (chunk: Buffer) => log.push(chunk));
  // A reset at QEMU's end: the end is told by the process itself.
  socket.on('error', () => {});
}

/** The same with paths that QEMU can open, whoever it runs as. */
function handOver<T extends Omit<QemuOptions, 'onLine' | 'onDiskError'>>(options: T, files: HandedOver): T {
  const { machine, mounts, modules } = options;
  const { deviceTree } = machine;
  return {
    ...options,
    machine: {
      ...machine,
      firmware: files.path(machine.firmware),
      kernel: files.path(machine.kernel),
      rootfs: files.path(machine.rootfs),
      node: files.path(machine.node),
      ...(deviceTree === undefined ? {} : { deviceTree: files.path(deviceTree) }),
    },
    mounts: mounts.map((mount) => ({ ...mount, path: files.path(mount.path) })),
    ...(modules === undefined ? {} : { modules: files.path(modules) }),
  };
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

/** The virtio devices of one guest, each in a place of its own: disks get their names in that order. */
class VirtioBus {
  #next = 0;

  /** @param device without its ending, and its properties */
  add(device: string, properties = ''): string[] {
    const place = `bus=virtio-mmio-bus.${this.#next++}`;
    return ['-device', [`${device}-device`, place, ...(properties ? [properties] : [])].join(',')];
  }
}

/** What comes after the name of the program. */
export function qemuArguments(options: Omit<QemuOptions, 'onLine' | 'onDiskError'>): string[] {
  const { machine, name, mounts, modules, verbose, monitor, gdb, instructions = false } = options;
  const kernelArguments = [
    ...KERNEL_ARGUMENTS,
    verbose ? 'ignore_loglevel' : 'loglevel=5',
    ...machine.kernelArguments,
  ];
  const bus = new VirtioBus();
  return [
    ...['-name', `guest=${escape(name)}`],
    ...['-machine', 'virt,secure=on,gic-version=3', '-cpu', 'cortex-a57'],
    // One nanosecond for each instruction, on one thread of the host; nobody waits for a time that is to come.
    ...(instructions
      ? ['-accel', 'tcg,thread=single', '-icount', 'shift=0,sleep=off']
      : ['-accel', 'tcg,thread=multi']),
    ...['-smp', String(machine.cpus), '-m', String(machine.memory)],
    ...['-bios', machine.firmware, '-kernel', machine.kernel, '-append', kernelArguments.join(' ')],
    ...(machine.deviceTree === undefined ? [] : ['-dtb', machine.deviceTree]),
    // Virtio as it is since 2016.
    ...['-global', 'virtio-mmio.force-legacy=false'],
    ...['-nic', 'none', '-display', 'none', '-monitor', 'none'],
    ...(monitor === undefined ? [] : ['-qmp', `unix:${escape(monitor)},server=on,wait=off`]),
    // The port alone would be open to the network.
    ...(gdb === undefined ? [] : ['-gdb', `tcp:127.0.0.1:${gdb.port}`, ...(gdb.wait ? ['-S'] : [])]),
    ...['-no-reboot', '-no-user-config', '-rtc', 'base=utc'],
    // What an emulator needs no system calls for, a guest that has broken out of it does not get.
    ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    ...socket('monitor', MONITOR),
    ...['-mon', 'chardev=monitor,mode=control'],
    ...socket('kernel', KERNEL),
    ...['-serial', 'chardev:kernel'],
    ...socket('secure', SECURE),
    ...['-serial', 'chardev:secure'],
    ...disk(bus, 'root', machine.rootfs, 'snapshot=on'),
    ...disk(bus, 'node', machine.node, 'readonly=on'),
    ...(modules === undefined ? [] : disk(bus, 'modules', modules, 'readonly=on')),
    ...bus.add('virtio-rng'),
    ...bus.add('virtio-serial'),
    ...socket('agent', AGENT),
    ...['-device', 'virtserialport,chardev=agent,name=node-optee.agent'],
    ...mounts.flatMap((mount) => share(bus, mount)),
  ];
}

function socket(id: string, descriptor: number): string[] {
  return ['-chardev', `socket,id=${id},fd=${descriptor}`];
}

/** Disks are /dev/vda, vdb, vdc in this order. */
function disk(bus: VirtioBus, id: string, path: string, mode: string): string[] {
  return [
    ...['-drive', `if=none,id=${id},format=raw,${mode},file=${escape(path)}`],
    ...bus.add('virtio-blk', `drive=${id}`),
  ];
}

function share(bus: VirtioBus, mount: Mount): string[] {
  const mode = mount.readOnly ? ',readonly=on' : '';
  // Files belong to whom they belong on the host; a share may span several file systems.
  const backend = `local,id=${mount.tag},path=${escape(mount.path)},security_model=none,multidevs=remap${mode}`;
  return ['-fsdev', backend, ...bus.add('virtio-9p', `fsdev=${mount.tag},mount_tag=${mount.tag}`)];
}

/** A comma ends a value, and two are one. */
function escape(path: string): string {
  return path.replaceAll(',', ',,');
}
