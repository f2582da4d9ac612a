import { DmaBuf } from './dma-buf.js';
import { closedError, describeErrno, invalidArgType, invalidArgValue, TeeSystemError } from './errors.js';
import { DMA_HEAP_FOLDER, namesIn, openHint } from './hints.js';
import { watch } from './lost-handles.js';
import { native } from './native.js';
import type { DmaHeapHandle, Native } from './native.js';
import { checkInteger } from './validate.js';

/** A heap from which dma-bufs are allocated: a file in /dev/dma_heap. */
export class DmaHeap {
  /** Its name, like `protected,secure-video`. */
  readonly name: string;

  readonly #n: Native;
  readonly #path: string;
  #handle: DmaHeapHandle | 0;

  private constructor(n: Native, name: string, path: string, handle: DmaHeapHandle) {
    this.name = name;
    this.#n = n;
    this.#path = path;
    this.#handle = handle;
    watch(
      this,
      () => `A DmaHeap (${name})`,
      () => n.close(handle),
    );
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
    const data = n.openDmaHeap(path);
    if ('errno' in data) {
      const hint = openHint(path, data.operation, describeErrno(data.errno).code);
      throw new TeeSystemError({ ...data, path, hint });
    }
    return new DmaHeap(n, name, path, data.heap);
  }

  /** Was it closed? */
  get closed(): boolean {
    return this.#handle === 0;
  }

  /**
   * Allocates a dma-buf.
   * @param size in bytes, at least 1; the kernel rounds it up to whole pages
   * @returns the dma-buf, which the caller closes
   * @throws TypeError ERR_INVALID_ARG_TYPE; RangeError ERR_OUT_OF_RANGE; TeeSystemError: ENOMEM if the heap has no room;
   *   ERR_TEE_CLOSED
   */
  alloc(size: number): DmaBuf {
    if (this.#handle === 0) throw closedError(`the DmaHeap ${this.name}`);
    checkInteger(size, 'size', 1, Number.MAX_SAFE_INTEGER);
    const data = this.#n.allocDmaBuf(this.#handle, size);
    if ('errno' in data) {
      const full = describeErrno(data.errno).code === 'ENOMEM';
      throw new TeeSystemError({
        ...data,
        path: this.#path,
        asked: `${size} bytes`,
        hint: full
          ? 'the heap has no room for that. Protected heaps are small, and a buffer goes back to its heap only when all its ' +
            'descriptors and registrations are closed, and nobody holds what map() returned'
          : undefined,
      });
    }
    return DmaBuf.make(this.#n, data);
  }

  /** Closes the heap. Its dma-bufs stay usable. */
  close(): void {
    if (this.#handle === 0) return;
    this.#n.close(this.#handle);
    this.#handle = 0;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
