// The test TA through a description of it.
import { tracingChannel } from 'node:diagnostics_channel';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from '@jest/globals';
import { AbortError, TeeError, value, type InvokeTrace } from 'node-optee';
import type { ClientOf } from 'node-optee/ta';
import { Memory, TestTa } from '../support/described-ta.js';
import { census, expectNothingLeft, rejection, TEST_TA, until, useTee } from '../support/device.js';
import * as TA from '../support/test-ta.js';

const guest = useTee();
const OPENING = { one: 1, two: 2, kept: 'kept' };

async function withClient<T>(use: (client: ClientOf<typeof TestTa>) => T | Promise<T>): Promise<T> {
  const client = await TestTa.open(guest.tee, OPENING);
  try {
    return await use(client);
  } finally {
    await client.close();
  }
}

describe('opening', () => {
  test('brings back its outputs', () =>
    withClient((client) => {
      expect(client.outputs).toEqual({ one: 2, two: 4, reversed: 'tpek' });
      expect(client.session.uuid).toBe(TEST_TA);
      expect(client.closed).toBe(false);
    }));

  test('that fails names the TA, and its own result', async () => {
    const error = await rejection<TeeError>(TestTa.open(guest.tee, { ...OPENING, result: 0x80000001 }));
    expect(error).toBeInstanceOf(TeeError);
    expect(error).toMatchObject({
      code: 'TEST_TA_LOCKED',
      result: 0x80000001,
      taName: 'test_ta',
      uuid: TEST_TA,
    });
    expect(error.message).toMatch(
      /^TEST_TA_LOCKED \(0x80000001\) from the TA for opening a session with test_ta, TA 346e/,
    );
    expect(error.commandName).toBeUndefined();
  });

  test('outputs that the description does not allow close the session', async () => {
    const before = census();
    const opening = { ...OPENING, kept: 'ä' }; // in reverse this is no UTF-8
    await expect(TestTa.open(guest.tee, opening)).rejects.toMatchObject({
      code: 'ERR_TEE_BAD_OUTPUT',
      message: expect.stringMatching(/^test_ta\.open\.reversed is no UTF-8/),
    });
    expect(() => TestTa.openSync(guest.tee, opening)).toThrow(
      expect.objectContaining({ code: 'ERR_TEE_BAD_OUTPUT' }),
    );
    await expectNothingLeft(before);
  });

  test('refuses what it does not know, before anything is opened', async () => {
    for (const [options, code, message] of [
      [{ ...OPENING, verison: 1 }, 'ERR_INVALID_ARG_VALUE', /^open has no argument verison/],
      [{ ...OPENING, one: '1' }, 'ERR_INVALID_ARG_TYPE', /^open\.one must be a number/],
      [{ ...OPENING, login: 1 }, 'ERR_INVALID_ARG_TYPE', /^options\.login must be a Login/],
      [undefined, 'ERR_INVALID_ARG_TYPE', /^open\.one must be a number, not undefined/],
    ] as const) {
      await expect(TestTa.open(guest.tee, options as never)).rejects.toMatchObject({
        code,
        message: expect.stringMatching(message),
      });
    }
    await expect(TestTa.open({} as never, OPENING)).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
  });

  test('blocking', async () => {
    const client = TestTa.openSync(guest.tee, OPENING);
    expect(client.outputs).toEqual({ one: 2, two: 4, reversed: 'tpek' });
    expect(client.sync.nothing()).toBeUndefined();
    await client.close();
    expect(client.closed).toBe(true);
    await expect(client.nothing()).rejects.toMatchObject({ code: 'ERR_TEE_CLOSED' });
    expect(() => client.sync.nothing()).toThrow(expect.objectContaining({ code: 'ERR_TEE_CLOSED' }));
  });

  test('an abort', async () => {
    const error = await rejection<AbortError>(
      TestTa.open(guest.tee, { ...OPENING, signal: AbortSignal.abort(new Error('why')) }),
    );
    expect(error).toMatchObject({ name: 'AbortError', taName: 'test_ta', cause: { message: 'why' } });
  });
});

describe('calls', () => {
  test('values', () =>
    withClient(async (client) => {
      const args = { a: 1, b: 2, one: 10, two: 20, wide: 0xffffffff_00000003n };
      const results = { one: 11, two: 22, sumOfA: 10, sumOfB: 25, wide: 5n };
      expect(await client.values(args)).toEqual(results);
      expect(client.sync.values(args)).toEqual(results);
      expect(await client.nothing()).toBeUndefined();
      expect(await client.nothing({}, { wipe: true })).toBeUndefined();
    }));

  test('run in their order, blocking ones and raw ones included', () =>
    withClient(async (client) => {
      const first = client.count({ count: 1, last: 0 });
      const raw = client.session.invoke(TA.TEST_TA_COUNT, [value.inout(2)]);
      expect(client.sync.count({ count: 3, last: 0 })).toEqual({ count: 3, last: 2 });
      expect(await first).toEqual({ count: 1, last: 0 });
      expect(await raw).toEqual([{ a: 2, b: 1 }]);
    }));

  test('bytes that go in are free at once', () =>
    withClient(async (client) => {
      const data = Uint8Array.of(1, 2, 3);
      const sum = client.checksum({ data });
      data.fill(0);
      expect(await sum).toMatchObject({ sum: 6 });
    }));

  test('texts', () =>
    withClient(async (client) => {
      for (const text of ['', 'a', 'größer 🙂', 'x'.repeat(4096)]) {
        expect(await client.copyText({ text })).toEqual({ copy: text });
      }
      // 20 bytes of room: the text, then zeros, of which the TA fills some.
      expect(client.sync.fillText({ text: 'ab', byte: 0x78, offset: 0, length: 20 })).toEqual({
        text: 'x'.repeat(20),
      });
      // This TA does not set the size, so zeros come back.
      expect(() => client.sync.fillText({ text: 'ab', byte: 0x78, offset: 1, length: 2 })).toThrow(
        expect.objectContaining({
          code: 'ERR_TEE_BAD_OUTPUT',
          message: expect.stringMatching(/fillText\.text has a NUL/),
        }),
      );
    }));

  test('structs', () =>
    withClient(async (client) => {
      const config = { level: 1, limit: 0x0102030405060708n, name: Buffer.from('abcde'), last: 0xff };
      const { config: changed } = await client.transform({ config });
      expect(changed).toEqual({
        level: 1 ^ 0xa5,
        limit: 0x0102030405060708n ^ 0xa5a5a5a5a5a5a5a5n,
        name: Uint8Array.from(Buffer.from('abcde'), (byte) => byte ^ 0xa5),
        last: 0xff ^ 0xa5,
      });
      expect(client.sync.transform({ config: changed }).config).toEqual({
        ...config,
        name: Uint8Array.from(config.name),
      });
    }));

  test('what is left out is a NULL buffer', () =>
    withClient(async (client) => {
      await client.remember({ a: 1, b: 2, more: Uint8Array.of(1) });
      const { params } = await client.remembered();
      expect(params.all).toMatchObject([
        { type: 'VALUE_INPUT', a: 1, b: 2 },
        { type: 'MEMREF_INPUT', flags: TA.TEST_TA_PARAM_NULL, a: 0 },
        { type: 'MEMREF_INOUT', flags: TA.TEST_TA_PARAM_NULL, a: 0 },
        { type: 'MEMREF_INOUT', a: 1 },
      ]);
    }));

  test('shared memory, or a part of it', async () => {
    const client = await Memory.open(guest.tee);
    const shm = await guest.tee.allocSharedMemory(8192);
    try {
      expect(await client.fill({ memory: shm, byte: 1 })).toEqual({ memory: 8192 });
      expect(client.sync.fill({ memory: { memory: shm, offset: 10, size: 5 }, byte: 2 })).toEqual({
        memory: 5,
      });
      expect(await client.fill({ memory: { memory: shm, offset: 8190 }, byte: 3 })).toEqual({ memory: 2 });
      expect(await client.checksum({ memory: shm })).toMatchObject({ sum: 8192 + 5 + 4 });
      expect([...shm.read(8, 4)]).toEqual([1, 1, 2, 2]);
      for (const [memory, name] of [
        [{ memory: shm, offset: 8193 }, 'fill.memory.offset'],
        [{ memory: shm, offset: 1, size: 8192 }, 'fill.memory.size'],
        [{ memory: shm, offset: 8192 }, 'fill.memory'],
      ] as const) {
        await expect(client.fill({ memory, byte: 1 })).rejects.toMatchObject({
          code: 'ERR_OUT_OF_RANGE',
          message: expect.stringMatching(new RegExp(`^${name} must be`)),
        });
      }
      shm.close();
      await expect(client.fill({ memory: shm, byte: 1 })).rejects.toMatchObject({ code: 'ERR_TEE_CLOSED' });
    } finally {
      shm.close();
      await client.close();
    }
  });
});

describe('room for outputs', () => {
  const written = (size: number): Uint8Array => Uint8Array.from({ length: size }, (_, i) => i % 251);

  test('where it is too small, a repeatable command is called again with as much as the TA asked for', () =>
    withClient(async (client) => {
      for (const size of [0, 16, 17, 4096]) {
        expect(await client.write({ size })).toEqual({ data: written(size) });
        expect(client.sync.write({ size })).toEqual({ data: written(size) });
      }
      expect(await client.write({ size: 300, data: 0 })).toEqual({ data: written(300) });
    }));

  test('at most its max, and not what the caller gave', () =>
    withClient(async (client) => {
      const error = await rejection<TeeError>(client.write({ size: 4097 }));
      expect(error).toMatchObject({
        code: 'TEE_ERROR_SHORT_BUFFER',
        taName: 'test_ta',
        commandName: 'write',
      });
      expect(error.message).toContain('write.data needs 4097 bytes');
      expect(() => client.sync.write({ size: 4097 })).toThrow(TeeError);
      const data = new Uint8Array(20);
      await expect(client.write({ size: 21, data })).rejects.toMatchObject({
        code: 'TEE_ERROR_SHORT_BUFFER',
      });
      const { data: same } = await client.write({ size: 19, data });
      expect(same).toHaveLength(19);
      expect(same.buffer).toBe(data.buffer);
    }));

  test('not where the command is not repeatable, and never of a wrong size', async () => {
    const client = await Memory.open(guest.tee);
    try {
      expect((await client.write({ size: 32 })).data).toEqual(written(32));
      await expect(client.write({ size: 33 })).rejects.toMatchObject({ code: 'TEE_ERROR_SHORT_BUFFER' });
      await expect(client.write({ size: 31 })).rejects.toMatchObject({
        code: 'ERR_TEE_BAD_OUTPUT',
        message: expect.stringMatching(/^memory\.write\.data has 31 bytes, and must have 32/),
      });
    } finally {
      await client.close();
    }
  });
});

describe('errors', () => {
  test('name the TA and the command, and its own results', () =>
    withClient(async (client) => {
      const error = await rejection<TeeError>(client.answer({ result: 0x80000001, size: 32 }));
      expect(error).toBeInstanceOf(TeeError);
      expect(error).toMatchObject({
        code: 'TEST_TA_LOCKED',
        result: 0x80000001,
        origin: 'trusted-app',
        taName: 'test_ta',
        commandName: 'answer',
        command: TA.TEST_TA_RESULT,
      });
      expect(error.message).toMatch(
        /^TEST_TA_LOCKED \(0x80000001\) from the TA for test_ta\.answer \(command 8 of TA 346e01a1-[^)]*\) with \[/,
      );
      expect(() => client.sync.answer({ result: 0x80000002, size: 0 })).toThrow(
        expect.objectContaining({ code: 'TEE_0x80000002', commandName: 'answer' }),
      );
      await expect(client.answer({ result: 0xffff0001, size: 0 })).rejects.toMatchObject({
        code: 'TEE_ERROR_ACCESS_DENIED',
      });
      // The TA's answer is ~result, no boolean.
      await expect(client.answer({ result: 0, size: 32 })).rejects.toMatchObject({
        code: 'ERR_TEE_BAD_OUTPUT',
      });
    }));

  test('of the raw session have the same names', () =>
    withClient(async ({ session }) => {
      await expect(session.invoke(TA.TEST_TA_RESULT, [value.in(0x80000001)])).rejects.toMatchObject({
        code: 'TEST_TA_LOCKED',
        commandName: 'answer',
      });
      const unknown = await rejection<TeeError>(session.invoke(0x999));
      expect(unknown).toMatchObject({ code: 'TEE_ERROR_NOT_SUPPORTED', taName: 'test_ta' });
      expect(unknown.message).toContain('for command 2457 of test_ta, TA 346e');
      expect(unknown.commandName).toBeUndefined();
    }));

  test('name the functions that awaited them', () =>
    withClient(async (client) => {
      async function caller(): Promise<void> {
        await client.answer({ result: 1, size: 0 });
      }
      expect((await rejection(caller())).stack).toMatch(/at (async )?caller /);
    }));

  test('wrong arguments are refused before anything is sent', () =>
    withClient(async (client) => {
      await expect(client.count({ count: '1', last: 0 } as never)).rejects.toMatchObject({
        code: 'ERR_INVALID_ARG_TYPE',
        message: expect.stringMatching(/^count\.count must be a number/),
      });
      const aborted = { signal: AbortSignal.abort() } as object;
      expect(() => client.sync.count({ count: 1, last: 1 }, aborted)).toThrow(
        expect.objectContaining({
          message: expect.stringMatching(/^options\.signal cannot abort a blocking call/),
        }),
      );
      expect(() => client.sync.count({ count: 1, last: 2 ** 32 })).toThrow(
        expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }),
      );
      await expect(client.count({ count: 1, last: 1 }, { signal: {} } as never)).rejects.toMatchObject({
        code: 'ERR_INVALID_ARG_TYPE',
        message: expect.stringMatching(/^options\.signal/),
      });
      expect(client.sync.count({ count: 7, last: 0 })).toEqual({ count: 1, last: 0 });
    }));

  test('a getter that makes a call of its own changes nobody’s numbers', () =>
    withClient(async (client) => {
      const args = {
        get count() {
          client.sync.values({ a: 9, b: 9, one: 9, two: 9, wide: 9n });
          return 5;
        },
        last: 0,
      };
      expect(await client.count(args)).toEqual({ count: 1, last: 0 });
      expect(client.sync.count(args)).toEqual({ count: 2, last: 5 });
    }));

  test('an abort', () =>
    withClient(async (client) => {
      const controller = new AbortController();
      const { signal } = controller;
      const waiting = rejection<AbortError>(client.wait({ milliseconds: 60_000 }, { signal }));
      await delay(100);
      controller.abort();
      const error = await waiting;
      expect(error).toMatchObject({ name: 'AbortError', taName: 'test_ta', commandName: 'wait' });
      expect(error.message).toContain('test_ta.wait (command 9 of TA 346e');
    }));
});

test('tracing has the name', () =>
  withClient(async (client) => {
    const seen: (string | undefined)[] = [];
    const channel = tracingChannel<InvokeTrace>('node-optee:invoke');
    const subscriber = { start: ({ name }: InvokeTrace) => void seen.push(name) } as never;
    channel.subscribe(subscriber);
    try {
      await client.nothing();
      client.sync.nothing();
      await client.session.invoke(TA.TEST_TA_COUNT, [value.inout(1)]);
      await client.session.invoke(TA.TEST_TA_OPEN_STATE, []).catch(() => undefined);
    } finally {
      channel.unsubscribe(subscriber);
    }
    expect(seen).toEqual(['test_ta.nothing', 'test_ta.nothing', 'test_ta.count', undefined]);
  }));

describe('a pool', () => {
  test('has the methods, on any free session', async () => {
    const pool = TestTa.pool(guest.tee, { max: 2, ...OPENING });
    expect(pool.statistics()).toMatchObject({ open: 0 });
    const data = Uint8Array.of(1, 2, 3);
    const calls = [1, 2, 3, 4].map(() => pool.checksum({ data }));
    data.fill(0);
    expect((await Promise.all(calls)).map(({ sum }) => sum)).toEqual([6, 6, 6, 6]);
    expect(
      await Promise.all([pool.wait({ milliseconds: 500 }), pool.wait({ milliseconds: 500 })]),
    ).toMatchObject([{ cancelled: 0 }, { cancelled: 0 }]);
    expect(await pool.nothing()).toBeUndefined();
    expect(await pool.write({ size: 100 })).toMatchObject({ data: { length: 100 } });
    expect(pool.statistics()).toMatchObject({ open: 2, idle: 2, opened: 2 });
    expect(pool.closed).toBe(false);
    await pool.close();
    expect(pool.closed).toBe(true);
    await expect(pool.nothing()).rejects.toMatchObject({ code: 'ERR_TEE_CLOSED' });
  });

  test('several calls on one session', async () => {
    const pool = TestTa.pool(guest.tee, { max: 1, ...OPENING });
    try {
      const counted = await pool.use(async (client) => {
        expect(client.outputs).toEqual({ one: 2, two: 4, reversed: 'tpek' });
        const other = pool.nothing({}, { signal: AbortSignal.timeout(20) });
        await expect(other).rejects.toMatchObject({ name: 'AbortError' });
        await client.count({ count: 1, last: 0 });
        return client.sync.count({ count: 2, last: 0 });
      });
      expect(counted).toEqual({ count: 2, last: 1 });
      await expect(pool.use(5 as never)).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
      await expect(pool.count({ count: -1, last: 0 })).rejects.toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
      const error = await rejection<TeeError>(pool.answer({ result: 0x80000001, size: 0 }));
      expect(error).toMatchObject({ code: 'TEST_TA_LOCKED', taName: 'test_ta', commandName: 'answer' });
    } finally {
      await pool.close();
    }
  });

  test('replaces a session whose TA has panicked', async () => {
    const pool = TestTa.pool(guest.tee, { max: 1, ...OPENING });
    try {
      await expect(pool.panic()).rejects.toMatchObject({
        code: 'TEE_ERROR_TARGET_DEAD',
        commandName: 'panic',
      });
      expect(await pool.count({ count: 1, last: 0 })).toEqual({ count: 1, last: 0 });
      await until(() => pool.statistics().closed === 1);
      expect(pool.statistics()).toMatchObject({ opened: 2, replaced: 1 });
    } finally {
      await pool.close();
    }
  });

  test('refuses options that it does not know', () => {
    expect(() => TestTa.pool(guest.tee, { ...OPENING, maximum: 3 } as never)).toThrow(
      expect.objectContaining({
        code: 'ERR_INVALID_ARG_VALUE',
        message: expect.stringMatching(/^open has no argument maximum/),
      }),
    );
    expect(() => TestTa.pool(guest.tee, { ...OPENING, max: 0 })).toThrow(
      expect.objectContaining({ code: 'ERR_OUT_OF_RANGE', message: expect.stringMatching(/^options\.max/) }),
    );
  });
});
