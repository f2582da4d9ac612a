import { parseArgs } from 'node:util';
import { TeeContext } from '../client/context.js';
import type { TeeDevice } from '../client/devices.js';
import { NO_DRIVER, visibleDmaHeaps } from '../client/hints.js';

const USAGE = `Usage: node-optee list [--json]

The TEE devices of this machine, what each can do, and the dma-heaps. The status is 1 if no device can be used: none
that this user may open speaks GlobalPlatform.
`;

/** `node-optee list`. */
export function run(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: { json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
  });
  if (values.help === true) {
    process.stdout.write(USAGE);
    return Promise.resolve(0);
  }
  const devices = TeeContext.list();
  const heaps = visibleDmaHeaps();
  if (values.json === true) {
    const plain = devices.map(({ path, version, error }) => ({ path, version, error: error?.message }));
    process.stdout.write(`${JSON.stringify({ devices: plain, heaps }, null, 2)}\n`);
  } else {
    if (devices.length === 0) process.stderr.write(`${NO_DRIVER}\n`);
    for (const device of devices) process.stdout.write(`${deviceLine(device)}\n`);
    if (heaps.length > 0) process.stdout.write(`dma-heaps: ${heaps.join(' ')}\n`);
  }
  return Promise.resolve(devices.some(canBeUsed) ? 0 : 1);
}

/** Can this process open sessions with it? */
export function canBeUsed({ version }: TeeDevice): boolean {
  return version?.capabilities.globalPlatform === true;
}

/** What `list` prints of a device. */
export function deviceLine(device: TeeDevice): string {
  const { path, version, error } = device;
  if (version === undefined) return `${path}: ${error.message}`;
  const able = Object.entries(version.capabilities).flatMap(([name, has]) => (has ? [name] : []));
  const line = `${path}: ${version.implementation}, ${able.join(' ') || 'no capabilities'}`;
  return canBeUsed(device) ? line : `${line}; it cannot be used: it does not speak GlobalPlatform`;
}
