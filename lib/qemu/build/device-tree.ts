import { join } from 'node:path';
import { partKey } from './cache.js';
import { FIRMWARE } from './firmware.js';
import { type Part, dataFile, partFolder, recipeOf } from './part.js';
import { Snapshot } from './snapshot.js';
import type { Toolchain } from './toolchain.js';

export const DEVICE_TREE = 'machine.dtb';

/**
 * QEMU's own device tree with the node of the protected range laid over it. QEMU writes the tree for the same
 * flags as those of the run, `-bios` and `-kernel` included: without them it adds a GPIO that a secure machine
 * does not have.
 */
export function deviceTreePart(
  machine: 'static' | 'dmabuf',
  hardware: { readonly memory: number; readonly cpus: number },
  toolchain: Toolchain,
  linux: Part,
  firmware: Part,
): Part {
  const overlay = `${machine}.dtso`;
  const data = new Snapshot(dataFile('device-tree'), [overlay]);
  return {
    name: `device-tree-${machine}`,
    title: `Device tree (${machine})`,
    needs: [],
    after: [linux, firmware],
    inputs: {
      recipe: recipeOf(__filename),
      hardware,
      tools: [toolchain.qemu, toolchain.dtc],
      linux: partKey(linux.inputs),
      firmware: partKey(firmware.inputs),
      overlay: data.text(overlay),
    },
    async build(folder, shop) {
      const base = join(shop.scratch, 'qemu.dtb');
      data.write(shop.scratch);
      const compiled = join(shop.scratch, 'overlay.dtbo');
      await shop.run('qemu-system-aarch64', [
        ...['-machine', `virt,secure=on,gic-version=3,dumpdtb=${base.replaceAll(',', ',,')}`],
        ...['-cpu', 'cortex-a57', '-smp', String(hardware.cpus), '-m', String(hardware.memory)],
        ...['-bios', join(partFolder(shop.cache, firmware), FIRMWARE)],
        ...['-kernel', join(partFolder(shop.cache, linux), 'Image')],
        ...['-nic', 'none', '-display', 'none'],
      ]);
      await shop.run('dtc', [
        '-q',
        '-@',
        '-I',
        'dts',
        '-O',
        'dtb',
        '-o',
        compiled,
        join(shop.scratch, overlay),
      ]);
      await shop.run('fdtoverlay', ['-i', base, '-o', join(folder, DEVICE_TREE), compiled]);
    },
  };
}
