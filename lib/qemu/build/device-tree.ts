import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { partKey } from './cache.js';
import { addNode, type FdtNode } from './fdt.js';
import { FIRMWARE } from './firmware.js';
import { STATIC_POOL } from './optee.js';
import { type Part, partFolder, recipeOf } from './part.js';
import type { Toolchain } from './toolchain.js';

export const DEVICE_TREE = 'machine.dtb';

const MODES = {
  /** The protected pool is OP-TEE's alone, the kernel must not map it. */
  static: { 'no-map': true },
  /** The same range as a CMA heap, so that the CPU can see what the TEE wrote. */
  dmabuf: { compatible: 'shared-dma-pool', reusable: true },
} as const;

/** The node of the protected range, for a root of two cells for an address and two for a size. */
export function reservedMemory(machine: 'static' | 'dmabuf'): FdtNode {
  const { base, size } = STATIC_POOL;
  return {
    properties: { '#address-cells': [2], '#size-cells': [2], ranges: true },
    children: {
      [`sdp@${base.toString(16)}`]: { properties: { reg: [0, base, 0, size], ...MODES[machine] } },
    },
  };
}

/**
 * QEMU's own device tree with the node of the protected range added. QEMU writes the tree for the same
 * flags as those of the run, `-bios` and `-kernel` included: without them it adds a GPIO that a secure machine
 * does not have.
 *
 * It needs nothing but QEMU, and is made on each host for the QEMU that is there: one of another version can have
 * hardware that this one lacks.
 */
export function deviceTreePart(
  machine: 'static' | 'dmabuf',
  hardware: { readonly memory: number; readonly cpus: number },
  toolchain: Toolchain,
  linux: Part,
  firmware: Part,
): Part {
  const node = reservedMemory(machine);
  return {
    name: `device-tree-${machine}`,
    title: `Device tree (${machine})`,
    needs: [],
    after: [linux, firmware],
    // Whoever asks for a machine has QEMU.
    hostPackages: [],
    inputs: {
      recipe: recipeOf(__filename),
      hardware,
      tools: [toolchain.qemu],
      linux: partKey(linux.inputs),
      firmware: partKey(firmware.inputs),
      node,
    },
    async build(folder, shop) {
      const base = join(shop.scratch, 'qemu.dtb');
      await shop.run('qemu-system-aarch64', [
        ...['-machine', `virt,secure=on,gic-version=3,dumpdtb=${base.replaceAll(',', ',,')}`],
        ...['-cpu', 'cortex-a57', '-smp', String(hardware.cpus), '-m', String(hardware.memory)],
        ...['-bios', join(partFolder(shop.cache, firmware), FIRMWARE)],
        ...['-kernel', join(partFolder(shop.cache, linux), 'Image')],
        ...['-nic', 'none', '-display', 'none'],
      ]);
      writeFileSync(join(folder, DEVICE_TREE), addNode(readFileSync(base), 'reserved-memory', node));
    },
  };
}
