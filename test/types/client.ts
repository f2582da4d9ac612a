import { expectAssignable, expectType } from './expect.js';
import {
  buffer,
  DmaBuf,
  DmaHeap,
  Login,
  TeeContext,
  TeeError,
  TeeSystemError,
  value,
  type Output,
  type Outputs,
  type Params,
  type Parameter,
  type Session,
  type SessionPool,
  type SessionPoolStatistics,
  type SharedMemory,
  type TeeDevice,
  type TeeOrigin,
  type Value,
} from 'node-optee';

const tee = TeeContext.open();
expectType<TeeContext>().of(TeeContext.open('/dev/tee1'));
expectType<TeeContext>().of(TeeContext.open({ path: '/dev/tee0', threads: 4, temporaryMemory: 0 }));
// @ts-expect-error
void TeeContext.open({ treads: 4 });
expectType<TeeDevice[]>().of(TeeContext.list());
expectType<'optee' | 'amdtee' | 'tstee' | 'qtee' | 'unknown'>().of(tee.version.implementation);
expectType<boolean>().of(tee.version.capabilities.nullMemref);

// What each parameter brings back.
const shm = tee.allocSharedMemorySync(4096);
expectType<Parameter<undefined>>().of(value.in(1));
expectType<Parameter<Value>>().of(value.out());
expectType<Parameter<Value>>().of(value.inout(1, 2));
expectType<Parameter<undefined>>().of(buffer.in(new Uint8Array(1)));
expectType<Parameter<Uint8Array>>().of(buffer.out(1));
expectType<Parameter<Uint8Array>>().of(buffer.inout(Buffer.alloc(1)));
expectType<Parameter<Uint8Array<ArrayBuffer>>>().of(buffer.into(new Uint8Array(1)));
expectType<Parameter<Buffer<ArrayBuffer>>>().of(buffer.inPlace(Buffer.alloc(1)));
expectType<Parameter<undefined>>().of(buffer.null('in'));
expectType<Parameter<number>>().of(buffer.null('inout'));
expectType<Parameter<undefined>>().of(shm.in());
expectType<Parameter<number>>().of(shm.out({ offset: 0, size: 16 }));
expectType<Parameter<number>>().of(shm.inout({ size: 16 }));
// @ts-expect-error
void value.in('1');
// @ts-expect-error
void buffer.in(new ArrayBuffer(1));
// @ts-expect-error
void buffer.null('both');
expectType<undefined>().of(undefined as Output<undefined>);
expectType<Value | undefined>().of({} as Output<Parameter<Value> | undefined>);

// Results are typed by the tuple that went in, without `as const`.
async function results(): Promise<void> {
  const session = await tee.openSession('8aaaf200-2450-11e4-abe2-0002a5d5c51b');
  expectType<Session<[]>>().of(session);
  expectType<[]>().of(session.outputs);
  expectType<[Value, Uint8Array, number, undefined]>().of(
    await session.invoke(1, [value.inout(41, 0), buffer.out(32), shm.out(), undefined]),
  );
  expectType<[undefined, Value]>().of(session.invokeSync(1, [value.in(1), value.out()]));
  expectType<[]>().of(await session.invoke(1));
  expectType<[]>().of(session.invokeSync(1, []));
  const some = [value.out()];
  expectType<Value[]>().of(await session.invoke(1, some));
  const maybe = Math.random() > 2 ? value.out() : undefined;
  expectType<[Value | undefined]>().of(await session.invoke(1, [maybe]));
  const any: Params = [value.out()];
  expectType<Outputs<Params>>().of(await session.invoke(1, any));
  const fixed = [value.out(), buffer.in(new Uint8Array(1))] as const;
  expectType<[Value, undefined]>().of(await session.invoke(1, fixed));
  // @ts-expect-error
  void session.invoke(1, [1]);
  // @ts-expect-error
  void session.invoke('1');
  // @ts-expect-error
  void session.invokeSync(1, [], { signal: new AbortController().signal });
  await session.invoke(1, [], { signal: AbortSignal.timeout(10), wipe: true });

  // An opening's outputs are the session's.
  const opened = await tee.openSession('8aaaf200-2450-11e4-abe2-0002a5d5c51b', {
    login: Login.group(1000),
    params: [buffer.out(16), value.in(1)],
  });
  expectType<[Uint8Array, undefined]>().of(opened.outputs);
  const sync = tee.openSessionSync(new Uint8Array(16), { login: Login.user, params: [value.out()] });
  expectType<[Value]>().of(sync.outputs);
  expectAssignable<Session>(session);
  expectAssignable<Session>(opened);
  // @ts-expect-error
  void tee.openSession('8aaaf200-2450-11e4-abe2-0002a5d5c51b', { login: 1 });

  // Closing
  expectType<Promise<void>>().of(session.close());
  expectAssignable<Disposable & AsyncDisposable>(session);
}
void results();

// A pool of sessions
async function pools(): Promise<void> {
  const uuid = '8aaaf200-2450-11e4-abe2-0002a5d5c51b';
  const pool = tee.pool(uuid);
  expectType<SessionPool<[]>>().of(pool);
  expectType<[Value, undefined]>().of(await pool.invoke(0, [value.inout(1), undefined]));
  expectType<[]>().of(await pool.invoke(0, [], { signal: AbortSignal.timeout(10), wipe: true }));
  expectType<number>().of(await pool.use(() => 1));
  expectType<string>().of(await pool.use(async ({ uuid: of }) => Promise.resolve(of)));
  expectType<[Value]>().of(await pool.use((session) => session.invoke(0, [value.out()])));
  await pool.use(() => undefined, { signal: AbortSignal.timeout(10) });
  expectType<SessionPoolStatistics>().of(pool.statistics());
  expectType<number>().of(pool.statistics().waiting);
  expectType<Promise<void>>().of(pool.close());
  expectAssignable<Disposable & AsyncDisposable>(pool);
  expectAssignable<SessionPool>(pool);
  const options = { max: 4, idle: Infinity, login: Login.user, wipe: true, replaceAfterCancel: true };
  const opened = tee.pool(new Uint8Array(16), { ...options, params: [buffer.out(16), value.in(1)] });
  expectType<[Uint8Array, undefined]>().of(await opened.use((session) => session.outputs));
  // @ts-expect-error
  void tee.pool(uuid, { maximum: 4 });
  // @ts-expect-error
  void tee.pool(uuid, { signal: AbortSignal.timeout(10) });
  // @ts-expect-error
  void pool.use(() => 1, { wipe: true });
  // @ts-expect-error
  void pool.invoke(0, [1]);
}
void pools();

// Memory
expectType<ArrayBuffer | undefined>().of(shm.buffer);
expectType<Uint8Array>().of(shm.read(0, 1));
expectType<SharedMemory>().of(tee.registerSharedMemorySync(new Uint8Array(new SharedArrayBuffer(1))));
const heap = DmaHeap.open('protected,secure-video');
expectType<string[]>().of(DmaHeap.list());
expectType<DmaBuf>().of(heap.allocSync(1));
expectType<DmaBuf>().of(DmaBuf.fromFd(3, { own: true }));
expectType<ArrayBuffer>().of(heap.allocSync(1).map());
expectType<SharedMemory>().of(tee.registerDmaBufSync(heap.allocSync(1)));
expectType<SharedMemory>().of(tee.registerDmaBufSync(3));
// @ts-expect-error
void heap.allocSync(1).sync('begin', 'read');

// Closing
expectType<Promise<void>>().of(tee.close());
expectType<void>().of(shm.close());
expectAssignable<Disposable & AsyncDisposable>(tee);
expectAssignable<Disposable>(shm);
expectAssignable<Disposable>(heap);

// Errors
declare const error: TeeError;
expectType<string>().of(error.code);
expectType<TeeOrigin>().of(error.origin);
expectType<number | undefined>().of(error.command);
expectType<boolean | undefined>().of(error.staleCancel);
expectAssignable<Error>(error);
declare const system: TeeSystemError;
expectType<number>().of(system.errno);
expectType<string | undefined>().of(system.path);

// Only the package makes these.
// @ts-expect-error
new Login('x', 1);
// @ts-expect-error
new DmaBuf();
// @ts-expect-error
new TeeContext();
