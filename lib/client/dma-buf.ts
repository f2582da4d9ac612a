import { constants } from 'node:buffer';
import { fstatSync, readlinkSync } from 'node:fs';
import {
  bufferTooLarge,
  closedError,
  describeErrno,
  invalidArgValue,
  notSupported,
  TeeSystemError,
} from './errors.js';
import { Handle, keepWhile } from './handle.js';
import { native, readDmaBuf } from './native.js';
import type { DmaBufData, DmaBufHandle, Failure, Native } from './native.js';
import { checkBoolean, checkFd, checkKnown, checkOneOf } from './validate.js';

const EBUSY = 16;

// DMA_BUF_SYNC_* of linux/dma-buf.h
const SYNC_ACCESS = { read: 1, write: 2, readwrite: 3 } as const;
const SYNC_PHASE = { start: 0, end: 4 } as const;

/** Is it an open descriptor of this process? */
export function isOpen(fd: number): boolean {
  try {
    fstatSync(fd);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'EBADF';
  }
  return true;
}

/** @throws TypeError ERR_INVALID_ARG_VALUE if an open descriptor is that of something else than a dma-buf */
export function checkDmaBuf(fd: number, name: string): void {
  let link;
  try {
    link = readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return; // without /proc the kernel says so, in fewer words
  }
  if (link.startsWith('/dmabuf:')) return;
  throw invalidArgValue(name, undefined, `must be a dma-buf, but descriptor ${fd} is ${link}`);
}

/** A buffer that devices share: memory behind a descriptor. From `DmaHeap.alloc` or `DmaBuf.fromFd`. */
export class DmaBuf {
  /** In bytes: the size that was asked, rounded up to whole pages by the kernel. */
  readonly size: number;

  readonly #n: Native;
  readonly #fd: number;
  readonly #handle: Handle<DmaBufHandle, boolean>;
  #map: ArrayBuffer | undefined;

  private constructor(n: Native, data: DmaBufData) {
    this.size = data.size;
    this.#n = n;
    this.#fd = data.fd;
    const close = (buf: DmaBufHandle): boolean => n.close(buf);
    this.#handle = new Handle(this, `DmaBuf of ${data.size} bytes`, data.buf, close);
  }

  /** @internal */
  static make(n: Native, data: DmaBufData): DmaBuf {
    return new DmaBuf(n, data);
  }

  /**
   * @internal Its descriptor.
   * @throws ERR_TEE_CLOSED
   */
  static use(buf: DmaBuf, name: string): number {
    if (buf.#handle.closed) throw closedError(`${name}, a ${buf.#handle.what},`);
    return buf.#fd;
  }

  /**
   * A DmaBuf for the dma-buf of another library.
   * @param fd the dma-buf's descriptor, of this process
   * @param options own: false (the default), it is duplicated and stays the caller's; true, this object takes it over
   *   and closes it, if this does not throw
   * @throws RangeError ERR_OUT_OF_RANGE; TypeError ERR_INVALID_ARG_VALUE if it is no dma-buf, or with `own` if it is
   *   another object's of this package; TeeSystemError: EBADF if it is not open
   */
  static fromFd(fd: number, options: { own?: boolean | undefined } = {}): DmaBuf {
    checkFd(fd, 'fd');
    checkKnown(options, 'options', ['own']);
    const { own = false } = options;
    checkBoolean(own, 'options.own');
    const n = native();
    if (isOpen(fd)) checkDmaBuf(fd, 'fd');
    n.adoptDmaBuf(fd, own);
    const data = readDmaBuf(n.answer);
    if ('errno' in data) {
      if (data.errno === EBUSY) {
        throw invalidArgValue(
          'fd',
          undefined,
          `is descriptor ${fd}, which another object of this package closes`,
        );
      }
      throw new TeeSystemError({ ...data, asked: `DmaBuf.fromFd(${fd})` });
    }
    return new DmaBuf(n, data);
  }

  /** Was it closed? */
  get closed(): boolean {
    return this.#handle.closed;
  }

  /** The descriptor, for passing on; it stays this object's own, which closes it. -1 when this is closed. */
  get fd(): number {
    return this.closed ? -1 : this.#fd;
  }

  /**
   * Maps it for the CPU, whole; the same ArrayBuffer each time, empty after close. Use it between `sync('start', …)` and
   * `sync('end', …)`, so that the CPU and the devices see the same bytes.
   * @throws TeeSystemError of mmap where it is protected memory, which no CPU code outside the TEE can reach;
   *   ERR_BUFFER_TOO_LARGE where it is larger than an ArrayBuffer can be (4 GiB on Node.js 20); ERR_TEE_NOT_SUPPORTED where
   *   the runtime does not allow buffers over memory from outside; ERR_TEE_CLOSED
   */
  map(): ArrayBuffer {
    if (this.#map !== undefined) return this.#map;
    const handle = this.#handle.use();
    if (this.size > constants.MAX_LENGTH) throw bufferTooLarge(`the DmaBuf of ${this.size} bytes`);
    const map = this.#n.mapDmaBuf(handle);
    if (map === undefined) {
      const failed = this.#n.answer.failure;
      if (failed !== undefined) throw this.#error(failed, 'map()');
      throw notSupported(
        'This runtime does not allow an ArrayBuffer over memory from outside, which map() needs',
      );
    }
    this.#map = map;
    keepWhile(map, this);
    return map;
  }

  /**
   * Says that the CPU's access begins or ends (DMA_BUF_IOCTL_SYNC).
   * @param phase when
   * @param access what the CPU does between the two
   * @throws TypeError ERR_INVALID_ARG_VALUE, TeeSystemError, ERR_TEE_CLOSED
   */
  sync(phase: 'start' | 'end', access: 'read' | 'write' | 'readwrite'): void {
    const flags = checkOneOf(phase, 'phase', SYNC_PHASE) | checkOneOf(access, 'access', SYNC_ACCESS);
    this.#n.syncDmaBuf(this.#handle.use(), flags);
    const failed = this.#n.answer.failure;
    if (failed !== undefined) throw this.#error(failed, `sync('${phase}', '${access}')`);
  }

  #error(failed: Failure, asked: string): TeeSystemError {
    const { code } = describeErrno(failed.errno);
    const protectedMemory = failed.syscall === 'mmap' && code !== 'ENOMEM';
    return new TeeSystemError({
      ...failed,
      asked: `${asked} of a DmaBuf of ${this.size} bytes`,
      hint: protectedMemory
        ? 'memory of a protected heap cannot be mapped: only the TEE and trusted devices reach it'
        : undefined,
    });
  }

  /**
   * Closes the descriptor; the ArrayBuffer of `map` becomes empty, unless it was moved: then it stays readable. What else
   * holds the dma-buf goes on holding it.
   */
  close(): void {
    this.#handle.close();
    this.#map = undefined; // it is detached, or somebody has moved it
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
