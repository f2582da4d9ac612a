import { DmaBuf } from './dma-buf.js';
import { describeErrno, invalidArgType, invalidArgValue, TeeSystemError } from './errors.js';
import { Handle } from './handle.js';
import { DMA_HEAP_FOLDER, memoryHint, namesIn, openHint } from './hints.js';
import { made } from './jobs.js';
import { native, Place, readDmaBuf } from './native.js';
import type { DmaBufData, DmaHeapHandle, Failure, Native } from './native.js';
import { checkInteger } from './validate.js';

/** A heap from which dma-bufs are allocated: a file in /dev/dma_heap. */
export class DmaHeap {
  /** Its name, like `protected,secure-video`. */
  readonly name: string;

  readonly #n: Native;
  readonly #path: string;
  readonly #handle: Handle<DmaHeapHandle, boolean>;

  private constructor(n: Native, name: string, path: string, handle: DmaHeapHandle) {
    this.name = name;
    this.#n = n;
    this.#path = path;
    this.#handle = new Handle(this, `DmaHeap ${name}`, handle, (heap) => n.close(heap));
  }

  /**
   * The names of this machine's heaps, sorted. Heaps of a TEE have names that begin with `protected,`.
   * @throws Node's own error if this process may not read /dev/dma_heap
   */
  static list(): string[] {
    return namesIn(DMA_HEAP_FOLDER).sort();
  }

  /**
   * Opens a heap.
   * @param name one of those that `list` returns
   * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE; TeeSystemError: ENOENT if there is no such heap (the
   *   message lists the heaps that exist), EACCES without permission
   */
  static open(name: string): DmaHeap {
    if (typeof name !== 'string') throw invalidArgType('name', 'a string', name);
    if (name === '' || name === '.' || name === '..' || /[/\0]/.test(name)) {
      throw invalidArgValue('name', name, `must be the name of a file in ${DMA_HEAP_FOLDER}`);
    }
    const n = native();
    const path = `${DMA_HEAP_FOLDER}/${name}`;
    n.openDmaHeap(path);
    const failed = n.answer.failure;
    if (failed !== undefined) {
      const hint = openHint(path, failed.operation, describeErrno(failed.errno).code);
      throw new TeeSystemError({ ...failed, path, hint });
    }
    return new DmaHeap(n, name, path, n.answer.number(Place.made) as DmaHeapHandle);
  }

  /** Was it closed? */
  get closed(): boolean {
    return this.#handle.closed;
  }

  /**
   * Allocates a dma-buf.
   * @param size in bytes, 1 and up; the kernel rounds it up to whole pages
   * @throws (rejects with) RangeError ERR_OUT_OF_RANGE; TeeSystemError: ENOMEM where the heap has no room, or of `system`
   *   heaps the machine or its cgroup; ERR_TEE_CLOSED
   */
  async alloc(size: number): Promise<DmaBuf> {
    return this.#alloc(size, false);
  }

  /**
   * The same, blocking: while all threads of the TEE are busy, this waits for one.
   * @throws as `alloc` rejects
   */
  allocSync(size: number): DmaBuf {
    return this.#alloc(size, true) as DmaBuf;
  }

  #alloc(size: number, sync: boolean): DmaBuf | Promise<DmaBuf> {
    const ticket = this.#n.allocDmaBuf(this.#handle.use(), checkSize(size), sync);
    return made(this.#n, ticket, readDmaBuf, (data) => this.#made(data, size));
  }

  #made(data: DmaBufData | Failure, size: number): DmaBuf {
    if (!('errno' in data)) return DmaBuf.make(this.#n, data);
    const { code } = describeErrno(data.errno);
    const full =
      'the heap has no room for that; protected heaps are small, and a buffer goes back only when every descriptor ' +
      'and registration of it is closed (and what map() returned, if it was transferred, is collected)';
    throw new TeeSystemError({
      ...data,
      path: this.#path,
      asked: `${size} bytes`,
      hint:
        code === 'ENOMEM' && data.operation === 'DMA_HEAP_IOCTL_ALLOC'
          ? full
          : memoryHint(code, data.operation, size),
    });
  }

  /** Closes the heap. Its dma-bufs stay usable. */
  close(): void {
    this.#handle.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function checkSize(size: unknown): number {
  return checkInteger(size, 'size', 1, Number.MAX_SAFE_INTEGER);
}
