/** The three roads of a dma-buf into the TEE, each a machine of its own; `docs/guest.md` compares them. */
export const MACHINES = ['dynamic', 'static', 'dmabuf'] as const;
export type MachineName = (typeof MACHINES)[number];

/** Major versions of Node.js that the guest can run. */
export const NODE_VERSIONS = [20, 22, 24, 26] as const;
export type NodeVersion = (typeof NODE_VERSIONS)[number];

/** What QEMU needs to start a machine: paths of built parts, all in the cache. */
export interface Machine {
  readonly name: MachineName;
  /** `qemu-system-aarch64` or its absolute path. */
  readonly qemu: string;
  /** Firmware with OP-TEE and the kernel in it (`-bios`). */
  readonly firmware: string;
  /** The kernel's Image; the one that runs is in the firmware, QEMU wants it for `-append`. */
  readonly kernel: string;
  /** Words for the kernel's command line beyond those that every machine has. */
  readonly kernelArguments: readonly string[];
  /** Edited device tree (`-dtb`), for this memory and these processors; none on `dynamic`. */
  readonly deviceTree?: string;
  /** Root file system, ext4. Booted with `snapshot=on`: nothing is written back. */
  readonly rootfs: string;
  /** ext4 image with `bin/node`, mounted read-only at /opt/node. */
  readonly node: string;
  /** MiB. */
  readonly memory: number;
  readonly cpus: number;
  /** OP-TEE's TA development kit (`export-ta_arm64`) of this machine's OP-TEE. */
  readonly taDevKit: string;
  /** ELF files for a debugger: of Linux functions only, of OP-TEE lines, too. Its own TAs are not in them. */
  readonly symbols?: { readonly linux: string; readonly optee: string };
}
