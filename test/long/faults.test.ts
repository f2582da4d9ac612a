// Faults that a guest does not get over, or that need one of their own: each has its own.
import { dirname, join } from 'node:path';
import { beforeAll, expect, jest, test } from '@jest/globals';
import { buildTa, Guest, prepareDevKit, prepareMachine } from 'node-optee/qemu';
import type { Machine } from 'node-optee/qemu';
import { BUILD_TIMEOUT, CLI } from '../support/guest.js';

jest.setTimeout(600_000);

const ROOT = dirname(dirname(CLI));
const TA = join(ROOT, 'build', 'ta');

let machine: Machine;
beforeAll(async () => {
  machine = await prepareMachine();
  await buildTa({ dir: join(ROOT, 'test', 'ta'), devKit: await prepareDevKit(), out: TA });
}, BUILD_TIMEOUT);

/** What a program of test/device/children prints at its end. */
async function inGuest(name: string, ...args: string[]): Promise<unknown> {
  const guest = await Guest.boot({ machine, share: ROOT, tas: [TA], cpus: 2 });
  try {
    const program = join(ROOT, 'build', 'test', 'device', 'children', `${name}.js`);
    const { status, stdout, stderr } = await guest.run(['node', program, ...args], { timeout: 500_000 });
    if (status !== 0) throw new Error(`${name} ended with ${status}: ${stderr.toString()}`);
    return JSON.parse(stdout.toString().trim().split('\n').at(-1) ?? '') as unknown;
  } finally {
    await guest.close();
    process.stdout.write(
      guest.logs.kernel.match(/^.*(WARNING:|BUG:|Oops|Call trace).*$/gm)?.join('\n') ?? '',
    );
  }
}

test('the driver is unbound under an open session, and bound again: the same process goes on', async () => {
  expect(await inGuest('unbound')).toEqual({
    // The kernel waits for whoever has the device open.
    meanwhile: { waits: true, call: 42, open: 'ENOENT' },
    without: 'ENOENT',
    after: 42,
  });
});

test('tee-supplicant is killed during loads and storage: documented errors, and no object is neither old nor new', async () => {
  const rounds = 20;
  const { ends, wrong } = (await inGuest('killed-supplicant', String(rounds))) as {
    ends: Record<string, number>;
    wrong: number;
  };
  process.stdout.write(`[faults] ${rounds} kills: ${JSON.stringify(ends)}\n`);
  expect(wrong).toBe(0);
  expect(Object.values(ends).reduce((sum, one) => sum + one)).toBe(2 * rounds);
  for (const end of Object.keys(ends)) {
    expect(end).toMatch(
      /^(load|storage): (works|TEE_ERROR_(OUT_OF_MEMORY|COMMUNICATION|GENERIC|STORAGE_NOT_AVAILABLE|TARGET_DEAD|ITEM_NOT_FOUND|CORRUPT_OBJECT))$/,
    );
  }
});
