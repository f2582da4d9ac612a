/** The options of a pool, and parameters that are kept for later. */
import { expect, test } from '@jest/globals';
import { buffer, Login, value, type SessionPoolOptions } from 'node-optee';
import { ParamKind } from '#lib/client/native';
import { keepInputs, parametersOf, readParams } from '#lib/client/parameters';
import { readPoolOptions } from '#lib/client/pool';

function errorOf(options: unknown): { code?: string; message?: string } {
  try {
    readPoolOptions(options as SessionPoolOptions, true);
    return {};
  } catch (error) {
    return error as { code: string; message: string };
  }
}

test('what a pool is told, and what it does without', () => {
  expect(readPoolOptions({}, true)).toEqual({
    max: 4,
    idle: 30_000,
    login: Login.public,
    params: [],
    wipe: false,
    replaceAfterCancel: false,
  });
  const given = { max: 1, idle: 0, login: Login.user, wipe: true, replaceAfterCancel: true };
  expect(readPoolOptions(given, true)).toEqual({ ...given, params: [] });
  for (const idle of [1, 2 ** 31 - 1, Infinity]) expect(readPoolOptions({ idle }, true).idle).toBe(idle);
  expect(readPoolOptions({ max: 2 ** 32 - 1 }, true).max).toBe(2 ** 32 - 1);
});

test.each([
  [null, 'ERR_INVALID_ARG_TYPE', 'options'],
  [4, 'ERR_INVALID_ARG_TYPE', 'options'],
  [{ maximum: 4 }, 'ERR_INVALID_ARG_VALUE', 'options has no maximum'],
  [{ names: {} }, 'ERR_INVALID_ARG_VALUE', 'options has no names'],
  [{ signal: AbortSignal.abort() }, 'ERR_INVALID_ARG_VALUE', 'options has no signal'],
  [{ max: '4' }, 'ERR_INVALID_ARG_TYPE', 'options.max'],
  [{ max: 0 }, 'ERR_OUT_OF_RANGE', 'options.max'],
  [{ max: 1.5 }, 'ERR_OUT_OF_RANGE', 'options.max'],
  [{ max: Infinity }, 'ERR_OUT_OF_RANGE', 'options.max'],
  [{ idle: '1' }, 'ERR_INVALID_ARG_TYPE', 'options.idle'],
  [{ idle: -1 }, 'ERR_OUT_OF_RANGE', 'options.idle'],
  [{ idle: 0.5 }, 'ERR_OUT_OF_RANGE', 'options.idle'],
  [{ idle: NaN }, 'ERR_OUT_OF_RANGE', 'options.idle'],
  [{ idle: 2 ** 31 }, 'ERR_OUT_OF_RANGE', 'options.idle'],
  [{ wipe: 1 }, 'ERR_INVALID_ARG_TYPE', 'options.wipe'],
  [{ replaceAfterCancel: 1 }, 'ERR_INVALID_ARG_TYPE', 'options.replaceAfterCancel'],
  [{ params: 1 }, 'ERR_INVALID_ARG_TYPE', 'params'],
  [{ params: [1] }, 'ERR_INVALID_ARG_TYPE', 'params[0]'],
  [{ params: [undefined, buffer.into(new Uint8Array(1))] }, 'ERR_INVALID_ARG_VALUE', 'params[1] cannot'],
  [{ params: [buffer.inPlace(new Uint8Array(1))] }, 'ERR_INVALID_ARG_VALUE', 'params[0] cannot'],
])('%p is refused', (options, code, name) => {
  const error = errorOf(options);
  expect(error.code).toBe(code);
  expect(error.message?.startsWith(name)).toBe(true);
});

test('a NULL buffer where the TEE takes none', () => {
  expect(() => readPoolOptions({ params: [buffer.null('in')] }, false)).toThrow('capability nullMemref');
});

test('inputs are copied, outputs stay where they are', () => {
  class Odd extends Uint8Array {
    override get length(): number {
      return 1;
    }
    override get byteLength(): number {
      return 1;
    }
  }
  const bytes = [Uint8Array.of(1, 2), new Odd([3, 4]), Uint8Array.of(5, 6), Uint8Array.of(7, 8)] as const;
  const params = [
    buffer.in(bytes[0]),
    buffer.inout(bytes[1]),
    buffer.inPlace(bytes[2]),
    buffer.into(bytes[3]),
  ];
  const given = readParams(params, true);
  const kept = keepInputs(given);
  for (const one of bytes) one.fill(0);
  expect(kept.map((spec) => Array.from(spec.bytes ?? []))).toEqual([
    [1, 2],
    [3, 4],
    [5, 6],
    [0, 0],
  ]);
  expect(kept[3].bytes).toBe(bytes[3]);
  expect(kept.map(({ kind, b }) => [kind, b])).toEqual(given.map(({ kind, b }) => [kind, b]));
  expect(readParams(parametersOf(kept), true)).toEqual(kept);
  const [none, pair] = keepInputs(readParams([undefined, value.in(1, 2)], true));
  expect([none.kind, pair.a, pair.b]).toEqual([ParamKind.none, 1, 2]);
  expect(parametersOf([none])).toEqual([undefined]);
});
