import { isSharedArrayBuffer } from 'node:util/types';
import { checkDmaBuf, DmaBuf, isOpen } from './dma-buf.js';
import {
  describeErrno,
  invalidArgType,
  invalidArgValue,
  noMemory,
  notSupported,
  TeeSystemError,
} from './errors.js';
import { Handle, keepWhile } from './handle.js';
import { memoryHint, visibleDmaHeaps } from './hints.js';
import { made } from './jobs.js';
import { ParamKind, readSharedMemory } from './native.js';
import type {
  ContextHandle,
  Failure,
  Native,
  SharedMemoryData,
  SharedMemoryHandle,
  Ticket,
} from './native.js';
import { Parameter, type Shared } from './parameters.js';
import {
  bufferOf,
  byteLengthOf,
  checkBytes,
  checkFd,
  checkInteger,
  checkOptions,
  checkRange,
  U32_MAX,
} from './validate.js';

/** A part of shared memory. */
export interface Range {
  /** In bytes, 0 unless told otherwise. */
  offset?: number | undefined;
  /** In bytes; all that follows the offset unless told otherwise. */
  size?: number | undefined;
}

/** The context that memory belongs to. */
interface Owner {
  readonly n: Native;
  /** The device's. */
  readonly path: string;
  readonly context: Handle<ContextHandle>;
  /** The TeeContext, which lives as long as its memory: else the garbage collector would close both. */
  readonly tee: object;
}

type Origin = 'allocated' | 'registered' | 'dma-buf';

const EBADF = 9;
const EINVAL = 22;

/**
 * Memory that stays shared with the TEE over many calls. Made by `allocSharedMemory`, `registerSharedMemory` and
 * `registerDmaBuf` of a TeeContext; can be used by sessions of that context only.
 */
export class SharedMemory {
  /** The kernel's id of it, valid on this context only. */
  readonly id: number;
  /** In bytes: as asked; of a dma-buf its whole. */
  readonly size: number;

  readonly #owner: Owner;
  readonly #origin: Origin;
  readonly #fd: number;
  readonly #shared: Shared & { readonly handle: Handle<SharedMemoryHandle, boolean> };
  #buffer: ArrayBuffer | undefined;

  private constructor(owner: Owner, origin: Origin, data: SharedMemoryData) {
    const { n, context } = owner;
    this.id = data.id;
    this.size = data.size;
    this.#owner = owner;
    this.#origin = origin;
    this.#fd = data.fd;
    const close = (memory: SharedMemoryHandle): boolean => n.close(memory);
    const what = `SharedMemory of ${data.size} bytes`;
    const handle = new Handle(this, what, data.memory, close, context as unknown as Handle);
    this.#shared = { handle, isDmaBuf: origin === 'dma-buf', owner: this };
  }

  /** @internal @param sync blocking; else a promise is returned */
  static alloc(owner: Owner, size: number, sync: boolean): SharedMemory | Promise<SharedMemory> {
    const ticket = owner.n.allocSharedMemory(owner.context.use(), checkSize(size), sync);
    const asked = `allocSharedMemory of ${size} bytes`;
    return SharedMemory.#make(owner, 'allocated', ticket, (failed) =>
      memoryError(failed, owner, asked, size),
    );
  }

  /** @internal As `alloc`. */
  static register(owner: Owner, view: Uint8Array, sync: boolean): SharedMemory | Promise<SharedMemory> {
    const size = checkView(view);
    const ticket = owner.n.registerSharedMemory(owner.context.use(), view, sync);
    const asked = `registerSharedMemory of ${size} bytes`;
    return SharedMemory.#make(owner, 'registered', ticket, (failed) =>
      memoryError(failed, owner, asked, size),
    );
  }

  /** @internal As `alloc`. */
  static registerDmaBuf(
    owner: Owner,
    buf: DmaBuf | number,
    sync: boolean,
  ): SharedMemory | Promise<SharedMemory> {
    const fd = descriptorOf(buf, owner.path);
    const ticket = owner.n.registerDmaBuf(owner.context.use(), fd, sync);
    return SharedMemory.#make(owner, 'dma-buf', ticket, (failed) => dmaBufError(owner, fd, failed));
  }

  static #make(
    owner: Owner,
    origin: Origin,
    ticket: Ticket,
    errorOf: (failed: Failure) => Error,
  ): SharedMemory | Promise<SharedMemory> {
    return made(owner.n, ticket, readSharedMemory, (data) => {
      owner.context.use(); // it was closed meanwhile, and what was made with it
      if ('errno' in data) throw errorOf(data);
      return new SharedMemory(owner, origin, data);
    });
  }

  /** Was it, or its context, closed? */
  get closed(): boolean {
    return this.#shared.handle.closed;
  }

  /**
   * The tee_shm descriptor, for passing on; it stays this object's own, which closes it. -1 when this is closed.
   */
  get fd(): number {
    return this.closed ? -1 : this.#fd;
  }

  /**
   * The shared pages themselves, of allocated memory: what the TA writes appears here and the other way round.
   * Has a byteLength of 0 after close. Undefined for registered memory (the caller has it already) and dma-bufs
   * (see `DmaBuf.map`), and where the runtime does not allow buffers over memory from outside: use `read` and `write`.
   */
  get buffer(): ArrayBuffer | undefined {
    if (this.closed && this.#origin === 'allocated') return (this.#buffer ??= new ArrayBuffer(0));
    if (this.#buffer === undefined && this.#origin === 'allocated') {
      this.#buffer = this.#owner.n.sharedMemoryBuffer(this.#shared.handle.use());
      if (this.#buffer !== undefined) keepWhile(this.#buffer, this);
    }
    return this.#buffer;
  }

  /**
   * A copy of a part of it.
   * @param offset in bytes
   * @param length in bytes; all that follows the offset unless told otherwise
   * @throws RangeError ERR_OUT_OF_RANGE; ERR_TEE_NOT_SUPPORTED for dma-bufs; ERR_TEE_CLOSED
   */
  read(offset = 0, length?: number): Uint8Array {
    const handle = this.#reachable();
    const count = checkRange(offset, length, this.size, 'offset', 'length');
    const bytes = this.#owner.n.readSharedMemory(handle, offset, count);
    if (bytes === undefined) throw noMemory(`a copy of ${count} bytes`);
    return bytes;
  }

  /**
   * Copies bytes into it.
   * @param offset where in it they go, in bytes
   * @throws as `read`
   */
  write(bytes: Uint8Array, offset = 0): void {
    const handle = this.#reachable();
    const length = byteLengthOf(checkBytes(bytes, 'bytes'));
    checkInteger(offset, 'offset', 0, this.size);
    checkInteger(length, 'bytes.byteLength', 0, this.size - offset);
    this.#owner.n.writeSharedMemory(handle, bytes, offset);
  }

  /** The handle of memory that the CPU can read and write. */
  #reachable(): SharedMemoryHandle {
    const handle = this.#shared.handle.use();
    if (!this.#shared.isDmaBuf) return handle;
    throw notSupported(
      'A registered dma-buf is not read or written through its registration: use map() and sync() of the DmaBuf, ' +
        'or, if it is protected memory, which no CPU code outside the TEE can reach, a TA',
    );
  }

  /** As a parameter that the TA only reads. Brings back nothing. */
  in(range?: Range): Parameter<undefined> {
    return this.#parameter(ParamKind.sharedIn, range);
  }

  /** As a parameter that the TA writes. Brings back the size that it reported, which can be more than there was room for. */
  out(range?: Range): Parameter<number> {
    return this.#parameter(ParamKind.sharedOut, range);
  }

  /** As a parameter that the TA reads and writes. Brings back the same. */
  inout(range?: Range): Parameter<number> {
    return this.#parameter(ParamKind.sharedInout, range);
  }

  #parameter<O>(kind: ParamKind, range: Range | undefined): Parameter<O> {
    this.#shared.handle.use();
    const shared = this.#shared;
    if (range === undefined) return Parameter.make<O>(kind, 0, this.size, undefined, shared);
    checkOptions(range, 'range');
    const { offset = 0, size: asked } = range;
    const size = checkRange(offset, asked, this.size, 'range.offset', 'range.size');
    return Parameter.make<O>(kind, offset, size, undefined, shared);
  }

  /**
   * Ends the sharing. It cannot be used any more at once, `buffer` becomes empty, and its pages are given back; what calls
   * under way still use is released when they are done. A buffer that was moved (`transfer()`, `postMessage`) stays
   * readable.
   */
  close(): void {
    this.#shared.handle.close();
    this.#buffer = undefined; // it is detached, or somebody has moved it
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function checkSize(size: unknown): number {
  return checkInteger(size, 'size', 1, U32_MAX);
}

/** Returns its size in bytes. */
function checkView(view: Uint8Array): number {
  checkBytes(view, 'view');
  const memory = bufferOf(view);
  if (!isSharedArrayBuffer(memory)) {
    throw invalidArgValue(
      'view',
      undefined,
      'must be over a SharedArrayBuffer: an ArrayBuffer can be moved or freed while the TEE still writes to it. ' +
        'allocSharedMemory gives an ArrayBuffer that the TEE shares',
    );
  }
  if ((memory as ArrayBufferLike & { growable?: boolean }).growable === true) {
    throw invalidArgValue(
      'view',
      undefined,
      'must be over a SharedArrayBuffer of fixed length, not a growable one',
    );
  }
  const size = byteLengthOf(view);
  if (size === 0) throw invalidArgValue('view', undefined, 'must not be empty');
  return size;
}

function descriptorOf(buf: DmaBuf | number, path: string): number {
  if (buf instanceof DmaBuf) return DmaBuf.use(buf, 'buf');
  if (typeof buf !== 'number') throw invalidArgType('buf', 'a DmaBuf or a file descriptor', buf);
  checkFd(buf, 'buf');
  if (!isOpen(buf)) {
    throw new TeeSystemError({
      errno: EBADF,
      syscall: 'ioctl',
      operation: REGISTER_FD,
      path,
      asked: `registerDmaBuf(${buf})`,
      hint: `no file is open as descriptor ${buf} in this process`,
    });
  }
  checkDmaBuf(buf, 'buf');
  return buf;
}

function memoryError(failed: Failure, { path }: Owner, asked: string, size: number): TeeSystemError {
  const hint = memoryHint(describeErrno(failed.errno).code, failed.operation, size);
  return new TeeSystemError({ ...failed, path, asked, hint });
}

const REGISTER_FD = 'TEE_IOC_SHM_REGISTER_FD';

/** The kernel says EINVAL to everything, so the reason is found by excluding the others. */
function dmaBufError({ n, path, context }: Owner, fd: number, failed: Failure): Error {
  if (failed.errno === EINVAL || describeErrno(failed.errno).code === 'ENOTTY') {
    if (!n.hasRegisterDmaBuf(context.use())) {
      return notSupported(
        `This kernel cannot register a dma-buf with a TEE: ${path} has no ${REGISTER_FD} (Linux 6.18 and later have it)`,
      );
    }
  }
  const heaps = visibleDmaHeaps().filter((name) => name.startsWith('protected,'));
  const hint =
    failed.errno === EINVAL
      ? 'it is a dma-buf, and this kernel has the call, but it accepts only dma-bufs of its ' +
        "TEE's own protected heaps" +
        (heaps.length > 0 ? `, which are here: ${heaps.join(', ')}` : ', of which there are none here')
      : undefined;
  return new TeeSystemError({ ...failed, path, asked: `registerDmaBuf(${fd})`, hint });
}
