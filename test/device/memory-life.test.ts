// Memory that outlives its maker, memory in a loop, and more memory than there is.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { DmaHeap, TeeContext } from 'node-optee';
import { census, child, kernelWarnings, lastLine, machine, rejection, useTee } from '../support/device.js';

const guest = useTee();

test('a buffer that was moved stays readable after its worker has ended, and others do not stay', async () => {
  const result = await child('moved', ['6'], { timeout: 120_000 });
  expect(lastLine(result)).toEqual({
    first: [8192 * 7, 8192 * 8],
    again: [8192 * 7, 8192 * 8],
    mappings: 2, // the moved ones
  });
}, 180_000);

describe('a loop that opens, fills and closes does not grow', () => {
  test.each(['at once', 'yield'])(
    '%s',
    async (yields) => {
      // Without a bound 1,500 rounds of this are more than the machine has.
      const rounds = machine === 'dynamic' ? '1500' : '300';
      const result = await child('closed-memory', [rounds, yields], { timeout: 240_000 });
      const { highest, mappings } = lastLine(result) as { highest: number; mappings: number };
      expect(highest).toBeLessThan(200);
      expect(mappings).toBeLessThan(200);
    },
    300_000,
  );
});

test('more memory than there is: an error that says who has not so much, and no OOM killer', async () => {
  const before = await kernelWarnings();
  const available = Number(/^MemAvailable:\s+(\d+)/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1]) * 1024;
  for (const size of [available, available - (16 << 20)]) {
    for (const error of [
      await rejection(guest.tee.allocSharedMemory(size)),
      await rejection(guest.tee.registerSharedMemory(new Uint8Array(new SharedArrayBuffer(size)))),
    ]) {
      expect(error).toMatchObject({ name: 'TeeSystemError', code: 'ENOMEM', operation: 'MemAvailable' });
      expect(error.message).toContain('this machine has not so much memory available');
    }
    const heap = DmaHeap.open('system');
    expect(await rejection(heap.alloc(size))).toMatchObject({ code: 'ENOMEM', operation: 'MemAvailable' });
    heap.close();
  }
  // What the machine has, but the TEE cannot take.
  const error = await rejection(guest.tee.allocSharedMemory(256 << 20));
  expect(error).toMatchObject({ name: 'TeeSystemError', operation: 'TEE_IOC_SHM_REGISTER' });
  expect(error.message).toContain('more than the TEE can take at once');
  // The arrays above can lie side by side, and a fork that copies more than the machine has in one piece is refused.
  global.gc?.();
  expect(await kernelWarnings()).toEqual(before);
}, 120_000);

test('a worker that ends does not wait for memory whose registration has not begun', async () => {
  const result = await child('queued-memory', [], { timeout: 120_000 });
  expect(lastLine(result)).toEqual({ makers: 4, back: 0 });
}, 150_000);

test('when a close is told, nothing of what was being made is left', async () => {
  const before = census();
  for (let i = 0; i < 50; i++) {
    const tee = TeeContext.open();
    const made = [tee.allocSharedMemory(4096), tee.allocSharedMemory(100)].map((memory) =>
      memory.then(
        () => 'made',
        (error: { code: string }) => error.code,
      ),
    );
    if (i % 2 === 0) await new Promise(setImmediate);
    await tee.close();
    expect(census()).toEqual(before);
    for (const outcome of await Promise.all(made)) expect(['made', 'ERR_TEE_CLOSED']).toContain(outcome);
  }
});
