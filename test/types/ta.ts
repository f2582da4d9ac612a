import { expectAssignable, expectType } from './expect.js';
import { Login, TeeContext, type Session, type SharedMemory } from 'node-optee';
import {
  array,
  bool,
  defineTrustedApplication,
  enumeration,
  octets,
  slot,
  struct,
  u16,
  u32,
  u64,
  u8,
  type ClientOf,
  type InputOf,
  type TypeOf,
} from 'node-optee/ta';

const Mode = enumeration({ OFF: 0, ON: 1 });
const Point = struct('point', { x: u16, y: u16 });
const Config = struct('config', {
  level: u8,
  mode: Mode,
  limit: u64,
  name: octets(16),
  path: array(Point, 4),
});
expectType<{
  level: number;
  mode: 'OFF' | 'ON';
  limit: bigint;
  name: Uint8Array;
  path: { x: number; y: number }[];
}>().of({} as TypeOf<typeof Config>);
expectType<{
  readonly level: number;
  readonly mode: 'OFF' | 'ON';
  readonly limit: bigint;
  readonly name: Uint8Array;
  readonly path: readonly { readonly x: number; readonly y: number }[];
}>().of({} as InputOf<typeof Config>);
expectType<number>().of(Config.size);

const Notary = defineTrustedApplication({
  name: 'notary',
  uuid: '8aaaf200-2450-11e4-abe2-0002a5d5c51b',
  results: { NOTARY_LOCKED: 0x80000001 },
  open: [slot.value.in('version'), slot.value.out(u64('since'))],
  commands: {
    nothing: { id: 10 },
    count: { id: 0, slots: [slot.value.inout('count', 'step')] },
    seek: { id: 1, slots: [slot.value.in(u64('offset'))] },
    hash: { id: 2, slots: [slot.bytes.in('data', { max: 65536 }), slot.bytes.out('hash', { size: 32 })] },
    read: {
      id: 3,
      slots: [slot.value.in('offset'), slot.bytes.out('data', { max: 4096, initial: 16 })],
      repeatable: true,
    },
    configure: { id: 4, slots: [slot.struct.in('config', Config)] },
    configuration: { id: 14, slots: [slot.struct.out('config', Config)] },
    rename: { id: 5, slots: [slot.text.in('name', { max: 64 }), slot.text.out('before', { max: 64 })] },
    frame: { id: 6, slots: [slot.memory.inout('frame'), slot.memory.in('mask', { optional: true })] },
    set: { id: 7, slots: [slot.value.in(Mode('mode'), bool('force', { default: false }))] },
    note: { id: 8, slots: [slot.bytes.in('comment', { max: 10, optional: true })] },
    edit: {
      id: 9,
      slots: [slot.bytes.inout('data', { min: 1, max: 10 }), slot.text.inout('text', { max: 9 })],
    },
  },
});

const tee = TeeContext.open();

async function use(): Promise<void> {
  await using notary = await Notary.open(tee, {
    login: Login.user,
    signal: AbortSignal.timeout(1),
    version: 1,
  });
  expectAssignable<ClientOf<typeof Notary>>(notary);
  expectType<'notary'>().of(Notary.name);
  expectType<{ since: bigint }>().of(notary.outputs);
  expectType<Session>().of(notary.session);

  // Results by name, each with its type.
  expectType<{ count: number; step: number }>().of(await notary.count({ count: 41, step: 1 }));
  expectType<undefined>().of(await notary.nothing());
  expectType<undefined>().of(await notary.nothing({}, { wipe: true }));
  expectType<undefined>().of(await notary.seek({ offset: 1n }));
  expectType<{ hash: Uint8Array }>().of(await notary.hash({ data: Buffer.alloc(1) }));
  expectType<{ hash: Uint8Array }>().of(await notary.hash({ data: Buffer.alloc(1), hash: Buffer.alloc(32) }));
  expectType<{ data: Uint8Array }>().of(await notary.read({ offset: 0 }));
  expectType<{ data: Uint8Array }>().of(await notary.read({ offset: 0, data: 100 }));
  expectType<{ config: TypeOf<typeof Config> }>().of(await notary.configuration());
  expectType<{ before: string }>().of(await notary.rename({ name: 'x' }));
  expectType<{ data: Uint8Array; text: string }>().of(
    await notary.edit({ data: new Uint8Array(1), text: 'x' }),
  );
  const { signal } = new AbortController();
  await notary.set({ mode: 'ON' }, { signal, wipe: true });
  await notary.set({ mode: 'OFF', force: true });
  await notary.note();
  await notary.note({});
  await notary.note({ comment: new Uint8Array(1) });
  await notary.configure({
    config: { level: 1, mode: 'ON', limit: 1n, name: new Uint8Array(16), path: [{ x: 1, y: 2 }] },
  });
  const shm = {} as SharedMemory;
  expectType<{ frame: number }>().of(await notary.frame({ frame: shm }));
  expectType<{ frame: number }>().of(await notary.frame({ frame: { memory: shm, offset: 4 }, mask: shm }));

  // What does not fit.
  // @ts-expect-error
  await notary.count({ count: 41 });
  // @ts-expect-error
  await notary.count({ count: 41, step: 1, stop: 2 });
  // @ts-expect-error
  await notary.count({ count: '41', step: 1 });
  // @ts-expect-error
  await notary.count();
  // @ts-expect-error
  await notary.nothing({ count: 1 });
  // @ts-expect-error
  await notary.seek({ offset: 1 });
  // @ts-expect-error
  await notary.set({ mode: 'MAYBE' });
  // @ts-expect-error
  await notary.hash({ data: 'text' });
  // @ts-expect-error
  await notary.hash({ data: new Uint8Array(1), hash: 32 });
  // @ts-expect-error
  await notary.frame({ frame: new Uint8Array(1) });
  // @ts-expect-error
  await notary.configure({ config: { level: 1 } });
  // @ts-expect-error
  (await notary.count({ count: 41, step: 1 })).sum;
  // @ts-expect-error
  await notary.cuont({ count: 41, step: 1 });
  // @ts-expect-error
  await notary.nothing({}, { singal: signal });

  // Blocking.
  expectType<{ count: number; step: number }>().of(notary.sync.count({ count: 41, step: 1 }));
  // @ts-expect-error
  notary.sync.count({ count: 41, step: 1 }, { signal });
  expectAssignable<Disposable>(Notary.openSync(tee, { version: 1 }));
  // @ts-expect-error
  Notary.openSync(tee, { version: 1, signal });
  // @ts-expect-error
  Notary.openSync(tee);
  // @ts-expect-error
  Notary.openSync(tee, { version: '1' });

  // A pool.
  const pool = Notary.pool(tee, { max: 4, idle: 1000, version: 1 });
  expectType<{ count: number; step: number }>().of(await pool.count({ count: 41, step: 1 }, { signal }));
  expectType<number>().of(
    await pool.use(async (client) => (await client.count({ count: 1, step: 1 })).count, { signal }),
  );
  expectType<Promise<void>>().of(pool.close());
  expectType<number>().of(pool.statistics().idle);
  // @ts-expect-error
  Notary.pool(tee, { max: 4 });
}
void use();

// An opening without arguments.
const Plain = defineTrustedApplication({
  name: 'plain',
  uuid: '8aaaf200-2450-11e4-abe2-0002a5d5c51b',
  commands: { go: { id: 0 } },
});
void Plain.open(tee);
void Plain.open(tee, { login: Login.public });
void Plain.pool(tee, { max: 1 });
expectType<undefined>().of(Plain.openSync(tee).outputs);
// @ts-expect-error
void Plain.open(tee, { version: 1 });

// What no description can be.
const described = { name: 'x', uuid: '8aaaf200-2450-11e4-abe2-0002a5d5c51b' } as const;
const four = [slot.value.in('a'), slot.value.in('b'), slot.value.in('c'), slot.value.in('d')] as const;
defineTrustedApplication({ ...described, commands: { go: { id: 0, slots: four } } });
// @ts-expect-error: a fifth slot
defineTrustedApplication({ ...described, commands: { go: { id: 0, slots: [...four, slot.value.in('e')] } } });
defineTrustedApplication({
  ...described,
  commands: {
    // @ts-expect-error: two slots with the same name
    go: { id: 0, slots: [slot.value.in('a'), slot.text.in('a', { max: 1 })] },
  },
});
defineTrustedApplication({
  ...described,
  commands: {
    // @ts-expect-error: two commands with the same id
    go: { id: 1 },
    // @ts-expect-error: two commands with the same id
    come: { id: 1 },
  },
});
defineTrustedApplication({
  ...described,
  commands: {
    // @ts-expect-error: a name that every client has
    close: { id: 1 },
  },
});
defineTrustedApplication({
  ...described,
  commands: {
    // @ts-expect-error: no such property
    go: { id: 1, repeatble: true },
  },
});
// @ts-expect-error: no such property
defineTrustedApplication({ ...described, commands: {}, result: {} });
// @ts-expect-error: no id
defineTrustedApplication({ ...described, commands: { go: {} } });

// What no slot can be.
// @ts-expect-error: a u64 takes all of a value
slot.value.in(u64('a'), 'b');
// @ts-expect-error
slot.value.in('a', 'b', 'c');
// @ts-expect-error
slot.value.in(1);
// @ts-expect-error
slot.bytes.in('a');
// @ts-expect-error
slot.bytes.out('a', { size: 1, max: 2 });
// @ts-expect-error
slot.struct.in('a', u32);
// @ts-expect-error
struct('a', { b: 'u8' });
// @ts-expect-error
u8('a', { default: 'b' });
