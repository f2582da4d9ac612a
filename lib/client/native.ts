/**
 * The seam between TypeScript and the native addon: all that crosses it is stated here, and nothing else imports the
 * addon. It loads at the first call of {@link native}, so importing the package never needs it.
 *
 * Who does what: TypeScript checks arguments, names them in messages, builds parameters and makes Error objects. C++ owns
 * descriptors, mappings, threads and the order of calls. C++ trusts nothing it is given: a wrong number, a foreign handle
 * or a detached buffer ends in a {@link Status} or a {@link Failure}, never in a crash; but it does not explain, so
 * whatever a user can get wrong is checked before.
 *
 * **Handles** are plain numbers: a slot of the environment's table with its generation, so a closed handle is never
 * mistaken for a newer one, and the table knows what kind of object each is. They are valid in the environment (and the
 * copy of this module) that made them.
 *
 * **A call** takes all its numbers and bytes as arguments of one native function. What it brings back is an
 * {@link Answer}: at once for a blocking call, else in a {@link Settle}. An answer is valid only until code of a user's
 * runs, so it is read as a whole first.
 *
 * The enums have their twins in native/core/protocol.h; test/unit/protocol.test.ts compares them.
 *
 * @internal
 */
import { constants } from 'node:buffer';
import { isMainThread } from 'node:worker_threads';
import { loadAddon } from './addon.js';

declare const kind: unique symbol;
/** An open device: one open file, its sessions, its threads and its temporary memory. */
export type ContextHandle = number & { readonly [kind]: 'context' };
/** An open session. */
export type SessionHandle = number & { readonly [kind]: 'session' };
/** A registration of memory with the TEE: one tee_shm descriptor. */
export type SharedMemoryHandle = number & { readonly [kind]: 'shared memory' };
/** An open dma-heap. */
export type DmaHeapHandle = number & { readonly [kind]: 'dma-heap' };
/** A dma-buf descriptor that we own. */
export type DmaBufHandle = number & { readonly [kind]: 'dma-buf' };

/** Where in an answer's numbers what is. */
export const enum Place {
  /** The job's ticket, as the function that started it returned it. Not of blocking calls. */
  ticket = 0,
  /** {@link Status}, or a positive errno. */
  status = 1,
  /** Which {@link Functions.operations} failed (status is an errno), or which parameter or argument (Status says so). */
  detail = 2,
  /** Status.answered: the TEE's 32-bit result, 0 is TEE_SUCCESS. */
  result = 3,
  /** Status.answered: the result's origin, as the kernel gave it. */
  origin = 4,
  /** {@link AnswerFlags} */
  flags = 5,
  /** Of an opening: the new session, 0 if there is none. */
  session = 6,
  /** Two numbers for each parameter. */
  params = 7,
  /** How many numbers an answer has. */
  length = 15,
}

/** The low three bits are the kernel's TEE_IOCTL_PARAM_ATTR_TYPE_*. */
export const enum ParamKind {
  none = 0,
  valueIn = 1,
  valueOut = 2,
  valueInout = 3,
  /** A temporary buffer. in and inout: bytes are the function's argument of the same index. */
  temporaryIn = 5,
  temporaryOut = 6,
  temporaryInout = 7,
  /** The same with the output in the argument of the same index, which has the size. */
  intoOut = 0x0e,
  inPlace = 0x0f,
  /** The NULL memref; needs capability bit TEE_GEN_CAP_MEMREF_NULL, which is not looked at here. */
  nullIn = 0x15,
  nullOut = 0x16,
  nullInout = 0x17,
  sharedIn = 0x25,
  sharedOut = 0x26,
  sharedInout = 0x27,
}

export const enum RequestFlags {
  /** Zero the call's temporary memory as soon as the outputs have been copied out of it. */
  wipe = 1,
}

export const enum AnswerFlags {
  /** A CANCEL was sent to the TEE while this call was in flight. */
  cancelSent = 1,
  /**
   * This call ended with TEE_ERROR_CANCEL although none was sent for it, right after a call of the same
   * session for which one was sent and which had ended otherwise: the flag was most likely still set.
   */
  staleCancel = 2,
}

/** How a call ended. Positive numbers are errno values: the system refused, `detail` names the operation. */
export const enum Status {
  /** The TEE answered: result, origin, values and sizes are valid, whatever the result is. */
  answered = 0,
  /** The session or the context is closed or closing, or was never one. Nothing was sent. */
  closed = -1,
  /** An argument is not what it should be; `detail` is its index. */
  argument = -2,
  /** Parameter `detail` (0 to 3) names shared memory that is closed, or never was one. Nothing was sent. */
  sharedMemoryClosed = -3,
  /** Parameter `detail` names shared memory of another context. Nothing was sent. */
  otherContext = -4,
  /** Parameter `detail` reaches beyond its shared memory. Nothing was sent. */
  outOfBounds = -5,
  /** The bytes of parameter `detail` are not as many any more as when it was made. Nothing was sent. */
  bytesChanged = -6,
}

/** A system call that failed. `errno` is positive here. */
export interface Failure {
  /**
   * 'TEE_IOC_SHM_REGISTER', 'open', 'memfd_create', … ; 'argument' or 'argument NAME': the addon was misused (a bug of
   * ours); 'handle': it has no more handles.
   */
  readonly operation: string;
  /** 'open', 'ioctl', 'mmap', … */
  readonly syscall: string;
  readonly errno: number;
}

/** The new arrays of temporary outputs, at the index of their parameter. */
export type Outputs = (Uint8Array | undefined)[];

/** What a job brought back. Valid only until code of a user's runs. */
export class Answer {
  readonly #numbers: Float64Array;
  readonly #at: number;
  readonly #outputs: unknown[] | undefined;
  readonly #first: number;

  constructor(numbers: Float64Array, index = 0, outputs?: unknown[]) {
    this.#numbers = numbers;
    this.#at = index * Place.length;
    this.#outputs = outputs;
    this.#first = index * 4;
  }

  /** @param place of {@link Place} */
  number(place: Place): number {
    return this.#numbers[this.#at + place] as number;
  }

  /** Did the TEE answer with TEE_SUCCESS? */
  get succeeded(): boolean {
    return this.number(Place.status) === Status.answered && this.number(Place.result) === 0;
  }

  /** A value's a. Of an intoOut or inPlace: 1 if there was room for the output. */
  a(param: number): number {
    return this.#numbers[this.#at + Place.params + 2 * param] as number;
  }

  /** A value's b; a memory's size as the TEE reported it, which can be more than there was room for. */
  b(param: number): number {
    return this.#numbers[this.#at + Place.params + 2 * param + 1] as number;
  }

  /** A temporary output, cut to what the TA wrote. Undefined if there was no memory for it. */
  bytes(param: number): Uint8Array | undefined {
    return this.#outputs?.[this.#first + param] as Uint8Array | undefined;
  }

  /** What a job that is no call has made. */
  get made(): unknown {
    return this.#outputs?.[this.#first];
  }
}

/**
 * Reads the answer of a job that has ended; no code of a user's may run in it, and it must not throw. Returns what tells
 * the user.
 */
export type Settle = (answer: Answer) => Tell;

/** Tells the user. Returns true if the user knows only later; then `known` is called. */
export type Tell = (known: () => void) => boolean | void;

/** What {@link Functions.abort} did. */
export const enum Aborted {
  /** No such call is under way: it has ended, its answer is on its way. */
  ended = 0,
  /**
   * The call had not begun: nothing was or will be sent for it, and it has no answer. The same for an open in flight,
   * which no kernel can cancel: its session is closed as soon as it arrives.
   */
  removed = 1,
  /** The call is in flight: CANCEL goes out from a thread of its own if it still is then. An answer follows. */
  requested = 2,
}

/** A context's name and what is behind it, of TEE_IOC_VERSION. */
export interface ContextData {
  readonly context: ContextHandle;
  /** TEE_IMPL_ID_*, 1 is OP-TEE. */
  readonly implementationId: number;
  /** impl_caps: OP-TEE's TEE_OPTEE_CAP_*. */
  readonly implementationCapabilities: number;
  /** gen_caps: TEE_GEN_CAP_*. */
  readonly generalCapabilities: number;
}

export interface SharedMemoryData {
  readonly memory: SharedMemoryHandle;
  /** The kernel's id, valid on this context only. */
  readonly id: number;
  /** The tee_shm descriptor, close-on-exec. Ours: it is closed by close() or soon after, never by the caller. */
  readonly fd: number;
  /** Bytes that can be used: what was asked, or less if the kernel said less. A dma-buf's own size. */
  readonly size: number;
}

export interface DmaBufData {
  readonly buf: DmaBufHandle;
  /** The dma-buf's descriptor, close-on-exec, ours. */
  readonly fd: number;
  /** In bytes, as lseek to its end says. */
  readonly size: number;
}

/** For tests and measurements: what a context holds at this moment. */
export interface ContextStatistics {
  /** Sessions that are open in the TEE. */
  readonly sessions: number;
  /** Threads for calls that are alive now. */
  readonly threads: number;
  /** Pieces of temporary memory that are kept, in use ones included, and their bytes. */
  readonly temporarySlots: number;
  readonly temporaryBytes: number;
  /** How often temporary memory was registered with (or allocated by) the TEE since the context is open. */
  readonly temporaryRegistrations: number;
}

/** a and b of a value; offset and size of memory. Its bytes, or the handle of its shared memory. */
type Parameter = [a: number, b: number, memory: Uint8Array | SharedMemoryHandle | 0 | undefined];
/** @param kinds the {@link ParamKind} of each parameter in its byte, that of the first in the lowest one */
type Call<Handle, Result> = (
  handle: Handle,
  number: number,
  flags: RequestFlags | 0,
  kinds: number,
  ...rest: [...Parameter, ...Parameter, ...Parameter, ...Parameter, uuid?: Uint8Array, client?: Uint8Array]
) => Result;

/** 1 and up, valid until its answer came or `abort` has said `removed` (then it can be another's); 0 is none. */
export type Ticket = number;

/** The addon's functions. Those whose names end in Sync can wait for the TEE; no other does. */
export interface Functions {
  /** Name and system call of each operation, by the number that `Place.detail` holds. */
  readonly operations: readonly { readonly operation: string; readonly syscall: string }[];

  /**
   * Opens a device (O_RDWR, close-on-exec) and asks TEE_IOC_VERSION.
   * @param threads how many calls may block in the TEE at the same time, 1 to 256
   * @param temporaryBytes how much memory for temporary buffers stays registered at most, 0 and up
   * @param registration false: SHM_ALLOC instead of SHM_REGISTER, even where the TEE could register
   */
  openContext(
    path: string,
    threads: number,
    temporaryBytes: number,
    registration: boolean,
  ): ContextData | Failure;

  /**
   * Closes a context: its handle, and those of its sessions and shared memory, are unusable at once, and ArrayBuffers over
   * its shared memory are detached. Calls under way or queued are done first, then each session's CLOSE_SESSION, then its
   * memory, its temporary memory and its descriptor.
   * @returns the ticket of the job whose answer (Status.answered, or an errno) tells that all is done; 0: no such context
   */
  closeContext(context: ContextHandle): Ticket;

  /**
   * Opens a session. What goes in is copied before it returns.
   * @param number the login method
   * @param uuid the TA's UUID, 16 bytes in the order of its text
   * @param client clnt_uuid, 16 bytes: the group id in host order in the first 4 for a group login, else zeros
   * @returns the call's ticket; 0 if it was refused: then the first record has the status, and no answer follows
   */
  openSession: Call<ContextHandle, Ticket>;
  /** The same, blocking. The answer is in the first record; what it returns are its new arrays, if there are any. */
  openSessionSync: Call<ContextHandle, Outputs | undefined>;

  /**
   * Invokes a command. Calls of one session run in the order in which they were made, each when the one before has ended.
   * @param number the command
   * @returns as for {@link openSession}
   */
  invoke: Call<SessionHandle | 0, Ticket>;
  /** The same, blocking: takes its place behind the session's asynchronous calls, which need no event loop. */
  invokeSync: Call<SessionHandle | 0, Outputs | undefined>;

  /** Aborts one asynchronous open or invoke, also when its session or context is closing. */
  abort(call: Ticket): Aborted;

  /**
   * Closes a session: its handle is unusable at once; calls under way or queued are done first, then CLOSE_SESSION is sent.
   * @returns the ticket of the call whose answer tells that it is done; 0: no such session
   */
  closeSession(session: SessionHandle): Ticket;

  /**
   * Allocates shared memory: a memfd named node-optee, mapped shared and registered (SHM_REGISTER), or SHM_ALLOC and its
   * mapping where the TEE cannot register. Zeroed.
   * @param size in bytes, 1 and up
   * @returns a ticket, whose {@link Answer.made} is what the Sync form returns
   */
  allocSharedMemory(context: ContextHandle, size: number): Ticket | Failure;
  allocSharedMemorySync(context: ContextHandle, size: number): SharedMemoryData | Failure;

  /**
   * Registers the bytes of a view over a SharedArrayBuffer (anything else is refused). The view is held, and its memory
   * kept, until the registration has ended and the calls that use it have, even when the environment ends before.
   */
  registerSharedMemory(context: ContextHandle, view: Uint8Array): Ticket | Failure;
  registerSharedMemorySync(context: ContextHandle, view: Uint8Array): SharedMemoryData | Failure;

  /**
   * Registers a dma-buf (SHM_REGISTER_FD).
   * @param fd stays the caller's and may be closed afterwards
   */
  registerDmaBuf(context: ContextHandle, fd: number): Ticket | Failure;
  registerDmaBufSync(context: ContextHandle, fd: number): SharedMemoryData | Failure;

  /**
   * An ArrayBuffer over the pages of allocated shared memory: the same one as long as it is alive. Undefined for other
   * memory, for a closed handle and where the runtime forbids external buffers. close() detaches it and gives the pages
   * back, unless it was transferred: then they stay as long as anybody can see them.
   */
  sharedMemoryBuffer(memory: SharedMemoryHandle): ArrayBuffer | undefined;

  /**
   * A copy of a part of allocated or registered memory; a Status if it is closed or out of bounds, or `argument` if the
   * CPU cannot reach it; undefined if there is no memory for it.
   */
  readSharedMemory(
    memory: SharedMemoryHandle,
    offset: number,
    length: number,
  ): Uint8Array | Status | undefined;

  /** Copies bytes into allocated or registered memory. Returns 0, or a Status as above. */
  writeSharedMemory(memory: SharedMemoryHandle, bytes: Uint8Array, offset: number): Status;

  /** Opens a dma-heap (O_RDONLY, close-on-exec). */
  openDmaHeap(path: string): { readonly heap: DmaHeapHandle } | Failure;

  /** Allocates a dma-buf (DMA_HEAP_IOCTL_ALLOC). `size` in bytes, 1 and up; the kernel rounds up to pages. */
  allocDmaBuf(heap: DmaHeapHandle, size: number): Ticket | Failure;
  allocDmaBufSync(heap: DmaHeapHandle, size: number): DmaBufData | Failure;

  /**
   * Makes a dma-buf's descriptor ours.
   * @param own true: this very descriptor, which gets close-on-exec and is closed with the handle, but only if this
   *   succeeds (EBUSY: it has an owner in this process); false: a duplicate, the caller's stays the caller's
   */
  adoptDmaBuf(fd: number, own: boolean): DmaBufData | Failure;

  /** An ArrayBuffer over the whole dma-buf, as that of shared memory. */
  mapDmaBuf(buf: DmaBufHandle): ArrayBuffer | Failure | undefined;

  /** DMA_BUF_IOCTL_SYNC. `flags` is the kernel's: DMA_BUF_SYNC_READ 1, _WRITE 2, _START 0, _END 4. */
  syncDmaBuf(buf: DmaBufHandle, flags: number): Failure | undefined;

  /**
   * Closes shared memory, a dma-heap or a dma-buf: unusable at once, its ArrayBuffer detached, the descriptor closed as
   * soon as no call uses it any more: at once, or by another thread while calls are in the TEE.
   * @returns false if there was no such handle (any more)
   */
  close(handle: SharedMemoryHandle | DmaHeapHandle | DmaBufHandle): boolean;

  /** Detaches all ArrayBuffers that were not transferred; the memory itself stays. */
  detachBuffers(): void;

  /** Looks at a descriptor of this process: is it open, and what does its link under /proc/self/fd say. */
  describeDescriptor(fd: number): { readonly open: boolean; readonly link?: string };

  /** Does this kernel have SHM_REGISTER_FD? (It answers EFAULT to a bad pointer where it does, EINVAL where not.) */
  hasRegisterDmaBuf(context: ContextHandle): boolean;

  /** Undefined if there is no such context (any more). */
  contextStatistics(context: ContextHandle): ContextStatistics | undefined;
}

export interface Native extends Functions {
  /** Where the addon writes answers; the first one is that of a blocking call, or of one that was refused. */
  readonly records: Float64Array;
  /** What reads the answer of each job under way, by its ticket: put in right after the job was started. */
  readonly settle: Map<Ticket, Settle>;
}

/** What the addon itself exports. */
interface Addon {
  /**
   * Makes a client of its own: handles, jobs and records of one copy of this module (a test runner can load several into
   * one environment).
   * @param records over a SharedArrayBuffer, which cannot be detached, so C++ need not ask anew where it is
   * @param deliver called with how many records there are, and their outputs, four per record
   * @param mostBytes of an ArrayBuffer in this runtime
   */
  attach(
    records: Float64Array,
    deliver: (count: number, outputs: unknown[] | undefined) => void,
    mostBytes: number,
  ): Functions;
}

/** How many records one delivery holds at most. */
const BATCH = 64;

let loaded: Native | undefined;

/**
 * The addon, loaded at the first call.
 * @throws Error with the reason, and what to do, if it cannot be loaded; code ERR_DLOPEN_DISABLED, or
 *   ERR_TEE_ADDON_MISSING, or that of process.dlopen
 */
export function native(): Native {
  return (loaded ??= attach(loadAddon() as Addon));
}

function attach(addon: Addon): Native {
  const records = new Float64Array(
    new SharedArrayBuffer(BATCH * Place.length * Float64Array.BYTES_PER_ELEMENT),
  );
  const settle = new Map<Ticket, Settle>();
  const tell = new TellInOrder();
  const functions = addon.attach(
    records,
    (count, outputs) => {
      for (let i = 0; i < count; i++) {
        const answer = new Answer(records, i, outputs);
        const ticket = answer.number(Place.ticket);
        const read = settle.get(ticket);
        settle.delete(ticket);
        if (read !== undefined) tell.add(read(answer));
      }
      tell.next();
    },
    constants.MAX_LENGTH,
  );
  // From here on no buffer can be moved, so the pages of all others can go with the thread.
  if (!isMainThread) process.once('exit', () => functions.detachBuffers());
  // In an object of its own: one that Node-API filled property by property is a hash table for V8.
  return { ...functions, records, settle };
}

/** Users are told in the order of their calls: whoever comes behind an error waits until that one is known. */
class TellInOrder {
  #queue: Tell[] = [];
  #told = 0;
  #waits = false;
  readonly #known = (): void => {
    this.#waits = false;
    this.next();
  };

  add(tell: Tell): void {
    this.#queue.push(tell);
  }

  next(): void {
    while (!this.#waits && this.#told < this.#queue.length) {
      this.#waits = this.#queue[this.#told++]?.(this.#known) === true;
    }
    if (this.#told < this.#queue.length) return;
    this.#queue = [];
    this.#told = 0;
  }
}

/** The words for an errno of a call. */
export function failureOf(n: Native, errno: number, operation: number): Failure {
  return { ...(n.operations[operation] ?? { operation: 'unknown', syscall: 'unknown' }), errno };
}
