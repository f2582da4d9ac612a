import { isSharedArrayBuffer } from 'node:util/types';
import type { TeeContext } from './context.js';
import { DmaBuf } from './dma-buf.js';
import {
  closedError,
  describeErrno,
  invalidArgType,
  invalidArgValue,
  noMemory,
  notSupported,
  TeeSystemError,
} from './errors.js';
import { TEE_IS_FULL, visibleDmaHeaps } from './hints.js';
import { keepWhile, watch } from './lost-handles.js';
import { MemoryAnswer, ParamKind, refusal } from './native.js';
import type { ContextHandle, Failure, Native, SharedMemoryHandle } from './native.js';
import { Parameter } from './parameters.js';
import { checkBytes, checkFd, checkInteger, checkOptions, checkRange, U32_MAX } from './validate.js';

/** A part of shared memory. */
export interface Range {
  /** In bytes, 0 unless told otherwise. */
  offset?: number | undefined;
  /** In bytes; all that follows the offset unless told otherwise. */
  size?: number | undefined;
}

type Origin = 'allocated' | 'registered' | 'dma-buf';

/** In one private field: each that an object has is a good part of what making one costs (docs/performance.md). */
interface Own {
  readonly n: Native;
  readonly origin: Origin;
  fd: number;
  handle: SharedMemoryHandle | 0;
  buffer: ArrayBuffer | undefined;
}

const EBADF = 9;
const EINVAL = 22;

/**
 * Memory that stays shared with the TEE over many calls. Made by `allocSharedMemory`, `registerSharedMemory` and
 * `registerDmaBuf` of a TeeContext; can be used by sessions of that context only.
 */
export class SharedMemory {
  /** The context that it belongs to. */
  readonly context: TeeContext;
  /** The kernel's id of it, valid on this context only. */
  readonly id: number;
  /** In bytes: as asked; of a dma-buf its whole. */
  readonly size: number;

  readonly #own: Own;

  private constructor(n: Native, context: TeeContext, origin: Origin, handle: SharedMemoryHandle) {
    const size = n.packet[MemoryAnswer.size] as number;
    this.context = context;
    this.id = n.packet[MemoryAnswer.id] as number;
    this.size = size;
    this.#own = { n, origin, fd: n.packet[MemoryAnswer.fd] as number, handle, buffer: undefined };
    watch(
      this,
      () => `A SharedMemory of ${size} bytes`,
      () => n.close(handle),
    );
  }

  /** @internal */
  static alloc(n: Native, context: TeeContext, handle: ContextHandle, size: number): SharedMemory {
    checkInteger(size, 'size', 1, U32_MAX);
    const memory = n.allocSharedMemory(handle, size);
    if (memory === 0) throw memoryError(refusal(n), context, `allocSharedMemory of ${size} bytes`, size);
    return new SharedMemory(n, context, 'allocated', memory);
  }

  /** @internal */
  static register(n: Native, context: TeeContext, handle: ContextHandle, view: Uint8Array): SharedMemory {
    checkBytes(view, 'view');
    const memory = view.buffer as ArrayBufferLike & { growable?: boolean };
    if (!isSharedArrayBuffer(memory)) {
      throw invalidArgValue(
        'view',
        undefined,
        'must be over a SharedArrayBuffer: an ArrayBuffer can be moved or freed while the TEE still writes to it. ' +
          'allocSharedMemory gives an ArrayBuffer that the TEE shares',
      );
    }
    if ((memory as { growable?: boolean }).growable === true) {
      throw invalidArgValue(
        'view',
        undefined,
        'must be over a SharedArrayBuffer of fixed length, not a growable one',
      );
    }
    if (view.byteLength === 0) throw invalidArgValue('view', undefined, 'must not be empty');
    const size = view.byteLength;
    const registered = n.registerSharedMemory(handle, view);
    if (registered === 0)
      throw memoryError(refusal(n), context, `registerSharedMemory of ${size} bytes`, size);
    return new SharedMemory(n, context, 'registered', registered);
  }

  /** @internal */
  static registerDmaBuf(
    n: Native,
    context: TeeContext,
    handle: ContextHandle,
    buf: DmaBuf | number,
  ): SharedMemory {
    let fd: number;
    if (buf instanceof DmaBuf) {
      if (buf.closed) throw closedError('buf, a DmaBuf,');
      fd = buf.fd;
    } else if (typeof buf === 'number') {
      fd = checkFd(buf, 'buf');
      checkIsDmaBuf(n, fd, context.version.path);
    } else {
      throw invalidArgType('buf', 'a DmaBuf or a file descriptor', buf);
    }
    const memory = n.registerDmaBuf(handle, fd);
    if (memory === 0) throw dmaBufError(n, context, handle, fd, refusal(n));
    return new SharedMemory(n, context, 'dma-buf', memory);
  }

  /** Was it, or its context, closed? */
  get closed(): boolean {
    return this.#own.handle === 0 || this.context.closed;
  }

  /**
   * The tee_shm descriptor, for passing on; it stays this object's own, which closes it. -1 when this is closed.
   */
  get fd(): number {
    return this.closed ? -1 : this.#own.fd;
  }

  /**
   * The shared pages themselves, of allocated memory: what the TA writes appears here and the other way round.
   * Has a byteLength of 0 after close. Undefined for registered memory (the caller has it already) and dma-bufs
   * (see `DmaBuf.map`), and where the runtime does not allow buffers over memory from outside: use `read` and `write`.
   */
  get buffer(): ArrayBuffer | undefined {
    const own = this.#own;
    if (own.buffer === undefined && own.origin === 'allocated') {
      own.buffer = this.closed ? new ArrayBuffer(0) : own.n.sharedMemoryBuffer(this.handle);
      if (own.buffer !== undefined) keepWhile(own.buffer, this);
    }
    return own.buffer;
  }

  /**
   * A copy of a part of it.
   * @param offset in bytes
   * @param length in bytes; all that follows the offset unless told otherwise
   * @throws RangeError ERR_OUT_OF_RANGE; ERR_TEE_NOT_SUPPORTED for dma-bufs; ERR_TEE_CLOSED
   */
  read(offset = 0, length?: number): Uint8Array {
    const handle = reachable(this);
    const count = checkRange(offset, length, this.size, 'offset', 'length');
    const bytes = this.#own.n.readSharedMemory(handle, offset, count);
    if (typeof bytes === 'number') throw closedError(this.description);
    if (bytes === undefined) throw noMemory(`a copy of ${count} bytes`);
    return bytes;
  }

  /**
   * Copies bytes into it.
   * @param offset where in it they go, in bytes
   * @throws as `read`
   */
  write(bytes: Uint8Array, offset = 0): void {
    const handle = reachable(this);
    checkBytes(bytes, 'bytes');
    checkInteger(offset, 'offset', 0, this.size);
    if (bytes.byteLength > this.size - offset) {
      checkInteger(bytes.byteLength, 'bytes.byteLength', 0, this.size - offset);
    }
    if (this.#own.n.writeSharedMemory(handle, bytes, offset) !== 0) throw closedError(this.description);
  }

  /** As a parameter that the TA only reads. Brings back nothing. */
  in(range?: Range): Parameter<undefined> {
    return parameter(ParamKind.sharedIn, this, range);
  }

  /** As a parameter that the TA writes. Brings back how many bytes it wrote. */
  out(range?: Range): Parameter<number> {
    return parameter(ParamKind.sharedOut, this, range);
  }

  /** As a parameter that the TA reads and writes. Brings back how many bytes it left. */
  inout(range?: Range): Parameter<number> {
    return parameter(ParamKind.sharedInout, this, range);
  }

  /** @internal */
  get description(): string {
    return `the ${this.#own.origin} SharedMemory of ${this.size} bytes`;
  }

  /** @internal */
  get handle(): SharedMemoryHandle {
    return this.#own.handle as SharedMemoryHandle;
  }

  /** @internal */
  get isDmaBuf(): boolean {
    return this.#own.origin === 'dma-buf';
  }

  /**
   * Ends the sharing. It cannot be used any more at once, and `buffer` becomes empty; what calls under way still use
   * is released when they are done.
   */
  close(): void {
    const own = this.#own;
    if (own.handle === 0) return;
    own.n.close(own.handle);
    own.handle = 0;
    own.fd = -1;
    own.buffer = undefined; // its pages stay as long as somebody has it
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function parameter<O>(kind: ParamKind, memory: SharedMemory, range: Range | undefined): Parameter<O> {
  if (memory.closed) throw closedError(memory.description);
  if (range === undefined) return Parameter.make<O>(kind, 0, memory.size, undefined, memory);
  checkOptions(range, 'range');
  const offset = range.offset ?? 0;
  const size = checkRange(offset, range.size, memory.size, 'range.offset', 'range.size');
  return Parameter.make<O>(kind, offset, size, undefined, memory);
}

/** The handle of memory that the CPU can read and write. */
function reachable(memory: SharedMemory): SharedMemoryHandle {
  if (memory.closed) throw closedError(memory.description);
  if (memory.isDmaBuf) {
    throw notSupported(
      'A registered dma-buf is not read or written through its registration: use map() and sync() of the DmaBuf, ' +
        'or, if it is protected memory, which no CPU code outside the TEE can reach, a TA',
    );
  }
  return memory.handle;
}

/** From here on the size is a likely reason. */
const LARGE = 4 << 20;

function memoryError(failed: Failure, context: TeeContext, asked: string, size: number): TeeSystemError {
  const { code } = describeErrno(failed.errno);
  let hint: string | undefined;
  const refused = code === 'ENOMEM' || (code === 'EINVAL' && failed.operation === 'TEE_IOC_SHM_REGISTER');
  if (refused && size >= LARGE) {
    hint =
      failed.operation === 'TEE_IOC_SHM_ALLOC'
        ? 'this TEE takes its shared memory from physically contiguous pages, of which there is seldom more than 4 MiB'
        : 'that is more than the TEE can take at once; use smaller pieces';
  } else if (refused && code === 'EINVAL') {
    hint = TEE_IS_FULL;
  } else if (code === 'ENOMEM') {
    hint = 'the kernel or the TEE is out of memory, or this process may not lock more (ulimit -l)';
  }
  return new TeeSystemError({ ...failed, path: context.version.path, asked, hint });
}

const REGISTER_FD = 'TEE_IOC_SHM_REGISTER_FD';

function checkIsDmaBuf(n: Native, fd: number, path: string): void {
  const { open, link } = n.describeDescriptor(fd);
  if (!open) {
    throw new TeeSystemError({
      errno: EBADF,
      syscall: 'ioctl',
      operation: REGISTER_FD,
      path,
      asked: `registerDmaBuf(${fd})`,
      hint: `no file is open as descriptor ${fd} in this process`,
    });
  }
  if (link !== undefined && !link.startsWith('/dmabuf:')) {
    throw invalidArgValue('buf', undefined, `must be a dma-buf, but descriptor ${fd} is ${link}`);
  }
}

/** The kernel says EINVAL to everything, so the reason is found by excluding the others. */
function dmaBufError(
  n: Native,
  context: TeeContext,
  handle: ContextHandle,
  fd: number,
  failed: Failure,
): Error {
  const path = context.version.path;
  if (failed.errno === EINVAL || describeErrno(failed.errno).code === 'ENOTTY') {
    checkIsDmaBuf(n, fd, path);
    if (!n.hasRegisterDmaBuf(handle)) {
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
