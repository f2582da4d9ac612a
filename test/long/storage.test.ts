// --storage: what TAs store stays, and stays whole.
import { dirname, join } from 'node:path';
import { beforeAll, expect, jest, test } from '@jest/globals';
import { Guest, prepareMachine } from 'node-optee/qemu';
import type { GuestError, Machine } from 'node-optee/qemu';
import { BUILD_TIMEOUT, CLI, GUEST_TIMEOUT, newFolder } from '../support/guest.js';
import { smallTa } from '../support/small-ta.js';
import { until } from '../support/until.js';

jest.setTimeout(GUEST_TIMEOUT);

const ROOT = dirname(dirname(CLI));
const UUID = '5f3c1d7e-91c4-4d0b-8a57-2e6b9f0d4c33';
const KILLS = 50;

let machine: Machine;
let tas: string[];
beforeAll(async () => {
  machine = await prepareMachine();
  // Command 0 writes the data in params[1] to the object params[0], whole or not at all; command 1 reads it.
  tas = [
    await smallTa(
      UUID,
      `static uint8_t data[16384];
      uint32_t id = params[0].value.a;
      TEE_ObjectHandle object = TEE_HANDLE_NULL;
      TEE_Result result;
      size_t size = sizeof(data);
      if (command == 0) {
        TEE_MemMove(data, params[1].memref.buffer, params[1].memref.size);
        result = TEE_CreatePersistentObject(TEE_STORAGE_PRIVATE, &id, sizeof(id),
            TEE_DATA_FLAG_ACCESS_WRITE | TEE_DATA_FLAG_OVERWRITE, TEE_HANDLE_NULL, data, params[1].memref.size, &object);
      } else {
        result = TEE_OpenPersistentObject(TEE_STORAGE_PRIVATE, &id, sizeof(id), TEE_DATA_FLAG_ACCESS_READ, &object);
        if (!result) result = TEE_ReadObjectData(object, data, sizeof(data), &size);
        if (!result) TEE_MemMove(params[1].memref.buffer, data, size);
        params[1].memref.size = size;
      }
      TEE_CloseObject(object);
      return result;`,
    ),
  ];
}, BUILD_TIMEOUT);

/** Says what each object has, then writes them for ever, each time with the next number in all of its bytes. */
const CLIENT = `
  const { TeeContext, buffer, value } = require('./dist/index.js');
  const tee = TeeContext.open();
  const session = tee.openSessionSync(process.argv[1]);
  const [count, size] = process.argv.slice(2).map(Number);
  const found = [];
  for (let id = 0; id < count; id++) {
    try {
      const [, data] = session.invokeSync(1, [value.in(id), buffer.out(16384)]);
      const numbers = new Set(new Uint32Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.length)));
      found.push(data.length === size && numbers.size === 1 ? [...numbers][0] : 'mixed: ' + data.length + ' ' + [...numbers]);
    } catch (error) {
      found.push(error.code === 'TEE_ERROR_ITEM_NOT_FOUND' ? 0 : error.code);
    }
  }
  console.log(JSON.stringify({ found }));
  if (process.argv[4] === 'read') process.exit();
  for (let number = Math.max(...found) + 1; ; number++) {
    for (let id = 0; id < count; id++) {
      session.invokeSync(0, [value.in(id), buffer.in(new Uint8Array(new Uint32Array(size / 4).fill(number).buffer))]);
      console.log(JSON.stringify({ id, number }));
    }
  }`;

const COUNT = 3;
const SIZE = 9000;
const client = (...more: string[]) => ['node', '-e', CLIENT, UUID, String(COUNT), String(SIZE), ...more];

const boot = (storage: string) => Guest.boot({ machine, share: ROOT, tas, storage });

test('what a TA stored is there after a reboot; two guests cannot have it at once', async () => {
  const storage = join(newFolder(), 'made/by the guest');
  const guest = await boot(storage);
  const writer = guest.spawn(client());
  let seen = '';
  writer.stdout.on('data', (chunk: Buffer) => (seen += chunk.toString()));
  await until(() => seen.includes('"number":2'));
  const error = (await boot(storage).catch((reason: unknown) => reason)) as GuestError;
  expect(error).toMatchObject({ code: 'ERR_GUEST_BOOT' });
  expect(error.message).toBe(`The guest did not come up. Another guest uses the storage ${storage}`);
  writer.kill('SIGKILL');
  await guest.close();
  const again = await boot(storage);
  const { stdout } = await again.run(client('read'));
  await again.close();
  const { found } = JSON.parse(stdout.toString()) as { found: number[] };
  expect(Math.min(...found)).toBeGreaterThanOrEqual(1);
});

test('without it nothing is kept', async () => {
  const guest = await Guest.boot({ machine, share: ROOT, tas });
  const { stdout } = await guest.run(client('read'));
  await guest.close();
  expect(JSON.parse(stdout.toString())).toEqual({ found: Array(COUNT).fill(0) });
});

test(
  `QEMU killed ${KILLS} times in the middle of writes: each object is the old or the new one`,
  async () => {
    const storage = newFolder();
    const expected: number[] = Array<number>(COUNT).fill(0);
    for (let kill = 0; kill <= KILLS; kill++) {
      const guest = await boot(storage);
      const writer = guest.spawn(client());
      writer.exit.catch(() => {});
      let partial = '';
      let found: number[] | undefined;
      let writes = 0;
      // Another moment each time.
      const enough = 1 + (kill % 5);
      for await (const chunk of writer.stdout) {
        const lines = (partial + String(chunk)).split('\n');
        partial = lines.pop() as string;
        for (const line of lines) {
          const told = JSON.parse(line) as { found?: number[]; id: number; number: number };
          if (told.found) {
            found = told.found;
            // One may be newer than what we heard of: the kill came in between.
            const newest = Math.max(...expected) + 1;
            found.forEach((number, id) => {
              expect(number).toBeGreaterThanOrEqual(expected[id] ?? 0);
              expect(number).toBeLessThanOrEqual(newest);
            });
            expected.splice(0, COUNT, ...found);
          } else {
            expected[told.id] = told.number;
            if (++writes === enough)
              setTimeout(() => process.kill(guest.pid as number, 'SIGKILL'), (kill * 7) % 60);
          }
        }
      }
      expect(found).toBeDefined();
      await guest.closed;
    }
  },
  BUILD_TIMEOUT,
);
