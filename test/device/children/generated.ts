/**
 * Calls the TA of test/support/every-slot in the guest: each command as its client does, then any number of raw calls, most
 * of them wrong, each against what the description says. Prints JSON: what went wrong.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { buffer, TeeContext, TeeError, value, type SharedMemory } from 'node-optee';
import { descriptionOf, type CommandDescription, type SlotDescription } from '#lib/ta/description';
import type { FieldType, ScalarType } from '#lib/ta/layout';
import { Every } from '../../support/every-slot.js';

type Any = Record<string, unknown>;
type Methods = Record<string, (args?: Any) => Promise<Any>>;

const description = descriptionOf(Every);
assert(description !== undefined);

/** Any value of a type. */
function anyOf(type: FieldType): fc.Arbitrary<unknown> {
  switch (type.kind) {
    case 'u8':
      return fc.integer({ min: 0, max: 0xff });
    case 'u16':
      return fc.integer({ min: 0, max: 0xffff });
    case 'u32':
      return fc.integer({ min: 0, max: 0xffff_ffff });
    case 'u64':
      return fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn });
    case 'bool':
      return fc.boolean();
    case 'enumeration':
      return fc.constantFrom(...type.members.map(({ name }) => name));
    case 'octets':
      return fc.uint8Array({ minLength: type.length, maxLength: type.length });
    case 'array':
      return fc.array(anyOf(type.element), { minLength: type.length, maxLength: type.length });
    case 'struct':
      return fc.record(
        Object.fromEntries(type.struct.fields.map(({ name, type: own }) => [name, anyOf(own)])),
      );
  }
}

const plain = (given: unknown): unknown =>
  given instanceof Uint8Array
    ? [...given]
    : Array.isArray(given)
      ? given.map(plain)
      : typeof given === 'object' && given !== null
        ? Object.fromEntries(Object.entries(given).map(([name, each]) => [name, plain(each)]))
        : given;
const same = (actual: unknown, expected: unknown): void => assert.deepEqual(plain(actual), plain(expected));

/** Values of all types, both ways. */
async function bothWays(ta: Methods, runs: number): Promise<void> {
  for (const { name, slots } of description?.commands ?? []) {
    if (!/^(value|pair|struct|nested)/.test(name)) continue;
    const inputs: Record<string, fc.Arbitrary<unknown>> = {};
    for (const slot of slots) {
      if (slot.direction === 'out') continue;
      if (slot.kind === 'value') for (const field of slot.fields) inputs[field.name] = anyOf(field.type);
      if (slot.kind === 'struct') inputs[slot.name] = anyOf({ kind: 'struct', struct: slot.struct });
    }
    await fc.assert(
      fc.asyncProperty(fc.record(inputs), async (args) => {
        const back = await ta[name](args);
        if (name.startsWith('value')) same(back, { back: args['given'], both: args['both'] });
        else if (name.startsWith('pair')) {
          const { first, second, c, d } = args;
          same(back, { a: second, b: first, c: d, d: c });
        } else if (name === 'nested') same(back, { both: args['given'] });
        else {
          const both = args['both'] as { after: number };
          same(back, { back: args['given'], both: { ...both, after: (both.after + 1) & 0xff } });
        }
      }),
      { numRuns: runs },
    );
  }
}

/** Bytes, texts and shared memory. */
async function memories(ta: Methods, tee: TeeContext): Promise<void> {
  const call = (name: string, args?: Any): Promise<Any> => ta[name](args);
  const bytes = (size: number): Uint8Array => Uint8Array.from({ length: size }, (_, i) => i + 1);
  for (const size of [0, 1, 99, 100]) same(await call('bytes', { data: bytes(size) }), { back: bytes(size) });
  await assert.rejects(call('bytes', { data: bytes(5), back: 4 }), { code: 'TEE_ERROR_SHORT_BUFFER' });
  same(await call('bytes_range', { data: bytes(3), both: bytes(3) }), { both: [254, 253] });
  same(await call('bytes_fixed', { data: bytes(16), both: bytes(4) }), {
    back: bytes(16),
    both: [254, 253, 252, 251],
  });
  same(await call('bytes_optional'), { hasData: false, hasKey: false, size: 0 });
  same(await call('bytes_optional', { data: bytes(0), key: bytes(16) }), {
    hasData: true,
    hasKey: true,
    size: 0,
  });
  same(await call('text', { given: 'Zoë', both: 'ab' }), { back: 'Zoë', both: 'a' });
  same(await call('text', { given: 'x'.repeat(20), both: 'y'.repeat(9) }), {
    back: 'x'.repeat(20),
    both: 'y'.repeat(8),
  });
  same(await call('text', { given: '', both: '' }), { back: '', both: '' });
  same(await call('text_optional'), { isThere: false });
  same(await call('text_optional', { given: '' }), { isThere: true });
  await assert.rejects(call('text_unended'), { code: 'TEE_ERROR_GENERIC' });
  await assert.rejects(call('too_much'), (error: TeeError) => {
    same([error.code, (error.outputs[0] as { size: number }).size], ['TEE_ERROR_SHORT_BUFFER', 101]);
    return true;
  });
  await assert.rejects(call('own_result'), { code: 'EVERY_OWN' });
  same(await call('nothing'), undefined);
  same(await call('names', { params: 3, types: 4, given: bytes(1) }), { result: 3, command: 4 });
  const shm = await tee.allocSharedMemory(4096);
  shm.write(bytes(100), 0);
  const part = { memory: shm, offset: 0, size: 100 };
  same(await call('memory', { data: part, back: { memory: shm, offset: 200 } }), { back: 100 });
  same(shm.read(200, 101), [...bytes(100), 0]);
  same(await call('memory_range', { both: { memory: shm, offset: 200, size: 3 } }), { both: 2 });
  shm.close();
}

const [SUCCESS, BAD_PARAMETERS, SHORT_BUFFER, NOT_SUPPORTED] = [0, 0xffff0006, 0xffff0010, 0xffff000a];
const DIRECTIONS = ['in', 'out', 'inout'] as const;

/** A raw parameter: 'none', or what a value or memory has. */
type Raw =
  | { readonly kind: 'none' }
  | {
      readonly kind: 'value';
      readonly direction: SlotDescription['direction'];
      readonly a: number;
      readonly b: number;
    }
  | {
      readonly kind: 'memory';
      readonly direction: SlotDescription['direction'];
      readonly bytes: Uint8Array | undefined;
    };

const u32 = fc.oneof(
  fc.constantFrom(0, 1, 2, 7, 255, 256, 65535, 65536, 0xffff_ffff),
  fc.integer({ min: 0, max: 0xffff_ffff }),
);

const anyRaw = fc.oneof(
  fc.constant<Raw>({ kind: 'none' }),
  fc.record({
    kind: fc.constant('value' as const),
    direction: fc.constantFrom(...DIRECTIONS),
    a: u32,
    b: u32,
  }),
  fc.record({
    kind: fc.constant('memory' as const),
    direction: fc.constantFrom(...DIRECTIONS),
    bytes: fc.option(fc.uint8Array({ maxLength: 120 }), { nil: undefined }),
  }),
);

/** Something near to what a slot wants: mostly of its type, and of a size close to its limits. */
function near(slot: SlotDescription): fc.Arbitrary<Raw> {
  const { direction } = slot;
  if (slot.kind === 'value')
    return fc.record({
      kind: fc.constant('value' as const),
      direction: fc.constant(direction),
      a: u32,
      b: u32,
    });
  const [min, max] = limits(slot);
  const byte = fc.oneof(
    { weight: 5, arbitrary: fc.constantFrom(0, 1, 65) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 255 }) },
  );
  const sizes = [0, min - 1, min, max, max + 1].filter((size) => size >= 0 && size <= 200);
  const bytes = fc.oneof(
    fc.constantFrom(...sizes).chain((size) => fc.array(byte, { minLength: size, maxLength: size })),
    fc.array(byte, { maxLength: 120 }),
  );
  return fc.record({
    kind: fc.constant('memory' as const),
    direction: fc.constant(direction),
    bytes: fc.option(
      bytes.map((list) => Uint8Array.from(list)),
      { nil: undefined, freq: 8 },
    ),
  });
}

function limits(slot: Exclude<SlotDescription, { kind: 'value' }>): [min: number, max: number] {
  switch (slot.kind) {
    case 'struct':
      return [slot.direction === 'out' ? 0 : slot.struct.size, slot.struct.size];
    case 'text':
      return [slot.direction === 'inout' ? slot.max : 0, slot.max];
    case 'bytes':
      return [slot.direction === 'out' ? 0 : slot.min, slot.max];
    case 'memory':
      return [slot.min, slot.max];
  }
}

const isMember = (type: ScalarType, number: number): boolean => {
  switch (type.kind) {
    case 'u8':
      return number <= 0xff;
    case 'u16':
      return number <= 0xffff;
    case 'bool':
      return number <= 1;
    case 'enumeration':
      return type.members.some((member) => member.value === number);
    default:
      return true;
  }
};

/** Has it only what its type allows? */
function isSound(type: FieldType, view: DataView, at: number): boolean {
  switch (type.kind) {
    case 'bool':
      return view.getUint8(at) <= 1;
    case 'enumeration':
      return isMember(type, view.getUint32(at, true));
    case 'array': {
      const size =
        'struct' in type.element ? type.element.struct.size : type.element.kind === 'enumeration' ? 4 : 1;
      if (type.element.kind === 'array' || type.element.kind === 'u16') return true;
      return Array.from({ length: type.length }, (_, i) => isSound(type.element, view, at + i * size)).every(
        Boolean,
      );
    }
    case 'struct':
      return type.struct.fields.every((field) => isSound(field.type, view, at + field.offset));
    default:
      return true;
  }
}

/** What the dispatcher says of a parameter: undefined if nothing. */
function expectOf(slot: SlotDescription | undefined, raw: Raw): number | undefined {
  if (slot === undefined) return raw.kind === 'none' ? undefined : BAD_PARAMETERS;
  if (raw.kind !== (slot.kind === 'value' ? 'value' : 'memory')) return BAD_PARAMETERS;
  if ('direction' in raw && raw.direction !== slot.direction) return BAD_PARAMETERS;
  if (slot.kind === 'value') {
    if (slot.direction === 'out') return undefined;
    const { a, b } = raw as { a: number; b: number };
    const good = slot.fields.every(
      ({ type, place }) => place === 'ab' || isMember(type, place === 'a' ? a : b),
    );
    const unused = slot.fields.length === 1 && slot.fields[0]?.place === 'a' && b !== 0;
    return good && !unused ? undefined : BAD_PARAMETERS;
  }
  const { bytes } = raw as { bytes: Uint8Array | undefined };
  if (bytes === undefined) return 'optional' in slot && slot.optional ? undefined : BAD_PARAMETERS;
  const [min, max] = limits(slot);
  if (bytes.length < min || bytes.length > max) return BAD_PARAMETERS;
  const isFixed =
    slot.kind === 'struct' || slot.kind === 'text' || (slot.kind === 'bytes' && slot.min === slot.max);
  if (slot.direction === 'out') return isFixed && bytes.length < max ? SHORT_BUFFER : undefined;
  if (slot.kind === 'struct') {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return isSound({ kind: 'struct', struct: slot.struct }, view, 0) ? undefined : BAD_PARAMETERS;
  }
  if (slot.kind !== 'text') return undefined;
  const end = bytes.indexOf(0);
  if (end < 0) return undefined;
  if (slot.direction === 'in') return BAD_PARAMETERS;
  return bytes.subarray(end).every((byte) => byte === 0) ? undefined : BAD_PARAMETERS;
}

const CANARY = 0xa5;
const WINDOW = 512;

/** Raw calls. Memory of theirs lies in shared memory, with canaries around it. */
async function fuzz(tee: TeeContext, runs: number): Promise<Record<string, number>> {
  const commands = description?.commands ?? [];
  const counts: Record<string, number> = {};
  const shm = await tee.allocSharedMemory(4 * WINDOW);
  const session = await tee.openSession(Every.uuid, { params: [value.in(1), value.out()] });
  const one = fc.constantFrom(...commands).chain((command) => {
    const params = fc.tuple(...[0, 1, 2, 3].map((i) => paramOf(command.slots[i])));
    return fc.tuple(
      fc.oneof({ weight: 30, arbitrary: fc.constant(command.id) }, { weight: 1, arbitrary: u32 }),
      params,
    );
  });
  try {
    fc.assert(
      fc.property(one, ([id, raws]) => {
        const result = resultOf(() =>
          session.invokeSync(id, raws.map((raw, i) => toParam(raw, i, shm)) as never),
        );
        const command = commands.find((each) => each.id === id);
        const expected = expectedOf(command, raws);
        counts[result] = (counts[result] ?? 0) + 1;
        if (expected === SUCCESS)
          assert(result !== BAD_PARAMETERS && result !== NOT_SUPPORTED, `${command?.name}: ${result}`);
        else assert.equal(result, expected, command?.name);
        raws.forEach((raw, i) => checkCanaries(raw, i, shm));
      }),
      { numRuns: runs },
    );
  } finally {
    await session.close();
    shm.close();
  }
  return counts;
}

const paramOf = (slot: SlotDescription | undefined): fc.Arbitrary<Raw> =>
  slot === undefined
    ? fc.oneof(
        { weight: 15, arbitrary: fc.constant<Raw>({ kind: 'none' }) },
        { weight: 1, arbitrary: anyRaw },
      )
    : fc.oneof({ weight: 12, arbitrary: near(slot) }, { weight: 1, arbitrary: anyRaw });

function expectedOf(command: CommandDescription | undefined, raws: readonly Raw[]): number {
  if (command === undefined) return NOT_SUPPORTED;
  const all = raws.map((raw, i) => expectOf(command.slots[i], raw));
  return all.includes(BAD_PARAMETERS) ? BAD_PARAMETERS : all.includes(SHORT_BUFFER) ? SHORT_BUFFER : SUCCESS;
}

function toParam(raw: Raw, i: number, shm: SharedMemory): unknown {
  if (raw.kind === 'none') return undefined;
  if (raw.kind === 'value') return raw.direction === 'out' ? value.out() : value[raw.direction](raw.a, raw.b);
  if (raw.bytes === undefined) return buffer.null(raw.direction);
  const around = new Uint8Array(WINDOW).fill(CANARY);
  around.set(raw.bytes, WINDOW / 4);
  shm.write(around, i * WINDOW);
  return shm[raw.direction]({ offset: i * WINDOW + WINDOW / 4, size: raw.bytes.length });
}

/** What lies around a parameter's memory is as it was; so is all of an input. */
function checkCanaries(raw: Raw, i: number, shm: SharedMemory): void {
  if (raw.kind !== 'memory' || raw.bytes === undefined) return;
  const now = shm.read(i * WINDOW, WINDOW);
  const [start, end] = [WINDOW / 4, WINDOW / 4 + raw.bytes.length];
  assert(
    now.subarray(0, start).every((byte) => byte === CANARY),
    `before parameter ${i}`,
  );
  assert(
    now.subarray(end).every((byte) => byte === CANARY),
    `behind parameter ${i}`,
  );
  if (raw.direction === 'in') same(now.subarray(start, end), raw.bytes);
}

function resultOf(call: () => unknown): number {
  try {
    call();
    return SUCCESS;
  } catch (error) {
    if (!(error instanceof TeeError)) throw error;
    return error.result;
  }
}

async function main(runs: number): Promise<void> {
  const tee = TeeContext.open();
  try {
    for (const params of [[], [value.in(1)], [value.in(256), value.out()], [value.in(1, 1), value.out()]]) {
      await assert.rejects(tee.openSession(Every.uuid, { params: params as never }), {
        code: 'TEE_ERROR_BAD_PARAMETERS',
      });
    }
    const ta = (await Every.open(tee, { version: 41 } as never)) as unknown as Methods & { outputs: Any };
    same(ta.outputs, { opened: 42 });
    await bothWays(ta, 10);
    await memories(ta, tee);
    console.log(JSON.stringify(await fuzz(tee, runs)));
  } finally {
    await tee.close();
  }
}

void main(Number(process.argv[2]));
