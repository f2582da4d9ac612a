import { expectAssignable, expectError, expectType } from 'tsd';
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
  type SharedMemory,
  type TeeDevice,
  type TeeOrigin,
  type Value,
} from 'node-optee';

const tee = TeeContext.open();
expectType<TeeContext>(TeeContext.open('/dev/tee1'));
expectType<TeeContext>(TeeContext.open({ path: '/dev/tee0', threads: 4, temporaryMemory: 0 }));
expectError(TeeContext.open({ treads: 4 }));
expectType<TeeDevice[]>(TeeContext.list());
expectType<'optee' | 'amdtee' | 'tstee' | 'qtee' | 'unknown'>(tee.version.implementation);
expectType<boolean>(tee.version.capabilities.nullMemref);

// What each parameter brings back.
const shm = tee.allocSharedMemory(4096);
expectType<Parameter<undefined>>(value.in(1));
expectType<Parameter<Value>>(value.out());
expectType<Parameter<Value>>(value.inout(1, 2));
expectType<Parameter<undefined>>(buffer.in(new Uint8Array(1)));
expectType<Parameter<Uint8Array>>(buffer.out(1));
expectType<Parameter<Uint8Array>>(buffer.inout(Buffer.alloc(1)));
expectType<Parameter<undefined>>(buffer.null('inout'));
expectType<Parameter<undefined>>(shm.in());
expectType<Parameter<number>>(shm.out({ offset: 0, size: 16 }));
expectType<Parameter<number>>(shm.inout({ size: 16 }));
expectError(value.in('1'));
expectError(buffer.in(new ArrayBuffer(1)));
expectError(buffer.null('both'));
expectType<undefined>(undefined as Output<undefined>);
expectType<Value | undefined>({} as Output<Parameter<Value> | undefined>);

// Results are typed by the tuple that went in, without `as const`.
async function results(): Promise<void> {
  const session = await tee.openSession('8aaaf200-2450-11e4-abe2-0002a5d5c51b');
  expectType<Session<[]>>(session);
  expectType<[]>(session.outputs);
  expectType<[Value, Uint8Array, number, undefined]>(
    await session.invoke(1, [value.inout(41, 0), buffer.out(32), shm.out(), undefined]),
  );
  expectType<[undefined, Value]>(session.invokeSync(1, [value.in(1), value.out()]));
  expectType<[]>(await session.invoke(1));
  expectType<[]>(session.invokeSync(1, []));
  const some = [value.out()];
  expectType<Value[]>(await session.invoke(1, some));
  const maybe = Math.random() > 2 ? value.out() : undefined;
  expectType<[Value | undefined]>(await session.invoke(1, [maybe]));
  const any: Params = [value.out()];
  expectType<Outputs<Params>>(await session.invoke(1, any));
  const fixed = [value.out(), buffer.in(new Uint8Array(1))] as const;
  expectType<[Value, undefined]>(await session.invoke(1, fixed));
  expectError(session.invoke(1, [1]));
  expectError(session.invoke('1'));
  expectError(session.invokeSync(1, [], { signal: new AbortController().signal }));
  await session.invoke(1, [], { signal: AbortSignal.timeout(10), wipe: true });

  // An opening's outputs are the session's.
  const opened = await tee.openSession('8aaaf200-2450-11e4-abe2-0002a5d5c51b', {
    login: Login.group(1000),
    params: [buffer.out(16), value.in(1)],
  });
  expectType<[Uint8Array, undefined]>(opened.outputs);
  const sync = tee.openSessionSync(new Uint8Array(16), { login: Login.user, params: [value.out()] });
  expectType<[Value]>(sync.outputs);
  expectAssignable<Session>(session);
  expectAssignable<Session>(opened);
  expectError(tee.openSession('8aaaf200-2450-11e4-abe2-0002a5d5c51b', { login: 1 }));

  // Closing
  expectType<Promise<void>>(session.close());
  expectAssignable<Disposable & AsyncDisposable>(session);
}
void results();

// Memory
expectType<ArrayBuffer | undefined>(shm.buffer);
expectType<Uint8Array>(shm.read(0, 1));
expectType<SharedMemory>(tee.registerSharedMemory(new Uint8Array(new SharedArrayBuffer(1))));
const heap = DmaHeap.open('protected,secure-video');
expectType<string[]>(DmaHeap.list());
expectType<DmaBuf>(heap.alloc(1));
expectType<DmaBuf>(DmaBuf.fromFd(3, { own: true }));
expectType<ArrayBuffer>(heap.alloc(1).map());
expectType<SharedMemory>(tee.registerDmaBuf(heap.alloc(1)));
expectType<SharedMemory>(tee.registerDmaBuf(3));
expectError(heap.alloc(1).sync('begin', 'read'));

// Closing
expectType<Promise<void>>(tee.close());
expectType<void>(shm.close());
expectAssignable<Disposable & AsyncDisposable>(tee);
expectAssignable<Disposable>(shm);
expectAssignable<Disposable>(heap);

// Errors
declare const error: TeeError;
expectType<string>(error.code);
expectType<TeeOrigin>(error.origin);
expectType<number | undefined>(error.command);
expectType<boolean | undefined>(error.staleCancel);
expectAssignable<Error>(error);
declare const system: TeeSystemError;
expectType<number>(system.errno);
expectType<string | undefined>(system.path);

// Only the package makes these.
// @ts-expect-error
new Login('x', 1);
// @ts-expect-error
new DmaBuf();
// @ts-expect-error
new TeeContext();
