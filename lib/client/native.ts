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
 * **A call** is one native function, which takes its numbers from {@link Native.request} and its bytes as arguments: they
 * are written and read with nothing in between that could run code of a user's. What it brings back is an {@link Answer}.
 * What ends at once writes {@link Native.answer}, which the next such function overwrites: it is read as a whole before
 * code of a user's can run, be it a setter of `Array.prototype` (so there are no `push` and no `map` here). The answers of
 * jobs come together in a delivery, in places of their own that nothing else writes.
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

/** Where in a request's numbers what is. */
export const enum RequestPlace {
  /** Of the session; of an opening that of the context. */
  handle = 0,
  /** The command; the login method. */
  number = 1,
  /** {@link RequestFlags} */
  flags = 2,
  /** How many parameters there are. */
  count = 3,
  /** Of the first parameter: its {@link ParamKind}, */
  kind = 4,
  /** a value's a; of memory the offset, */
  a = 5,
  /** a value's b; of memory the size, */
  b = 6,
  /** and the handle of its shared memory. */
  memory = 7,
  /** Of the second one, and so on. */
  next = 8,
  /** How many numbers a request has. */
  length = 20,
}

/** Where in an answer's numbers what is. */
export const enum Place {
  /** The job's ticket, as the function that started it returned it. Not of blocking calls. */
  ticket = 0,
  /** {@link Status}, or a positive errno. */
  status = 1,
  /** Which {@link Operation} failed (status is an errno), or which parameter or argument (Status says so). */
  detail = 2,
  /** Status.answered: the TEE's 32-bit result, 0 is TEE_SUCCESS. */
  result = 3,
  /** Status.answered: the result's origin, as the kernel gave it. */
  origin = 4,
  /** {@link AnswerFlags} */
  flags = 5,
  /** The handle of what was opened or made; 0 if there is none. */
  made = 6,
  /** Of a call: two numbers for each parameter. Else what describes the thing that was made. */
  data = 7,
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
  /**
   * This call ended with TEE_ERROR_CANCEL although no CANCEL was sent for it, right after a call of the same session for
   * which one was sent and which had ended otherwise: the flag was most likely still set.
   */
  staleCancel = 1,
  /** A CANCEL was sent for this call, which ended otherwise: the session's flag may be set. */
  cancelPending = 2,
}

/** How a call ended. Positive numbers are errno values: the system refused, `detail` names the operation. */
export const enum Status {
  /** The TEE answered: result, origin, values and sizes are valid, whatever the result is. */
  answered = 0,
  /** The session or the context is closed or closing, or was never one. Nothing was sent. */
  closed = -1,
  /** An argument is not what it should be; `detail` is its index: of a call, its place in the request, or behind these. */
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

/** What a system call was for. */
export const enum Operation {
  none = 0,
  open = 1,
  version = 2,
  shmAlloc = 3,
  shmRegister = 4,
  shmRegisterFd = 5,
  openSession = 6,
  invoke = 7,
  closeSession = 8,
  malloc = 9,
  /** The look at the machine's memory, and at that of the cgroup, before more is taken. */
  memAvailable = 10,
  memoryCgroup = 11,
  memfdCreate = 12,
  ftruncate = 13,
  mmap = 14,
  /** A thread could not be made. */
  thread = 15,
  dup = 16,
  /** EBUSY: the descriptor has an owner in this process. */
  adopt = 17,
  lseek = 18,
  dmaHeapAlloc = 19,
  dmaBufSync = 20,
  /** There are no more handles. */
  handle = 21,
}

/** Of each operation: its name in errors, and its system call. */
const NAMES: Record<Operation, readonly [operation: string, syscall: string]> = {
  [Operation.none]: ['none', ''],
  [Operation.open]: ['open', 'open'],
  [Operation.version]: ['TEE_IOC_VERSION', 'ioctl'],
  [Operation.shmAlloc]: ['TEE_IOC_SHM_ALLOC', 'ioctl'],
  [Operation.shmRegister]: ['TEE_IOC_SHM_REGISTER', 'ioctl'],
  [Operation.shmRegisterFd]: ['TEE_IOC_SHM_REGISTER_FD', 'ioctl'],
  [Operation.openSession]: ['TEE_IOC_OPEN_SESSION', 'ioctl'],
  [Operation.invoke]: ['TEE_IOC_INVOKE', 'ioctl'],
  [Operation.closeSession]: ['TEE_IOC_CLOSE_SESSION', 'ioctl'],
  [Operation.malloc]: ['malloc', 'malloc'],
  [Operation.memAvailable]: ['MemAvailable', 'memfd_create'],
  [Operation.memoryCgroup]: ['memory cgroup', 'memfd_create'],
  [Operation.memfdCreate]: ['memfd_create', 'memfd_create'],
  [Operation.ftruncate]: ['ftruncate', 'ftruncate'],
  [Operation.mmap]: ['mmap', 'mmap'],
  [Operation.thread]: ['thread', 'clone'],
  [Operation.dup]: ['F_DUPFD_CLOEXEC', 'fcntl'],
  [Operation.adopt]: ['adopt', ''],
  [Operation.lseek]: ['lseek', 'lseek'],
  [Operation.dmaHeapAlloc]: ['DMA_HEAP_IOCTL_ALLOC', 'ioctl'],
  [Operation.dmaBufSync]: ['DMA_BUF_IOCTL_SYNC', 'ioctl'],
  [Operation.handle]: ['handle', ''],
};

const EINVAL = 22;

/** A system call that failed. `errno` is positive here. */
export interface Failure {
  /** 'TEE_IOC_SHM_REGISTER', 'open', 'memfd_create', …; 'argument N': the addon was misused, which is a bug of ours. */
  readonly operation: string;
  /** 'open', 'ioctl', 'mmap', … */
  readonly syscall: string;
  readonly errno: number;
}

/** The words for what an answer says of a failure. */
export function failureOf(status: number, detail: number): Failure {
  if (status < 0) return { operation: `argument ${detail}`, syscall: '', errno: EINVAL };
  const [operation, syscall] = NAMES[detail as Operation];
  return { operation, syscall, errno: status };
}

/** What a function or a job brought back. */
export class Answer {
  readonly #numbers: Float64Array;
  readonly #outputs: (Uint8Array | undefined)[];
  readonly #first: number;

  /** @param index 0: of what ends at once; 1 and up: of a delivery */
  constructor(records: Float64Array, outputs: (Uint8Array | undefined)[], index: number) {
    const first = index * Place.length;
    this.#numbers = records.subarray(first, first + Place.length);
    this.#outputs = outputs;
    this.#first = index * 4;
  }

  /** @param place of {@link Place} */
  number(place: Place): number {
    return this.#numbers[place] as number;
  }

  /** What went wrong; undefined if nothing did. */
  get failure(): Failure | undefined {
    const status = this.number(Place.status);
    return status === Status.answered ? undefined : failureOf(status, this.number(Place.detail));
  }

  /** What describes the thing that was made. */
  data(index: number): number {
    return this.#numbers[Place.data + index] as number;
  }

  /** A value's a. Of an intoOut or inPlace: 1 if there was room for the output. */
  a(param: number): number {
    return this.#numbers[Place.data + 2 * param] as number;
  }

  /** A value's b; a memory's size as the TEE reported it, which can be more than there was room for. */
  b(param: number): number {
    return this.#numbers[Place.data + 1 + 2 * param] as number;
  }

  /** Takes the new array of a temporary output, cut to what the TA wrote. Undefined if there was no memory for it. */
  takeBytes(param: number): Uint8Array | undefined {
    const bytes = this.#outputs[this.#first + param];
    this.#outputs[this.#first + param] = undefined;
    return bytes;
  }
}

/** Reads the answer of a job that has ended; must not throw. Returns what tells the user. */
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

/** A new context's handle and what is behind it, of TEE_IOC_VERSION. */
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

/** What {@link Functions.openContext} has opened. */
export const readContext = (answer: Answer): ContextData | Failure =>
  answer.failure ?? {
    context: answer.number(Place.made) as ContextHandle,
    implementationId: answer.data(0),
    implementationCapabilities: answer.data(1),
    generalCapabilities: answer.data(2),
  };

/** What a function that makes shared memory, or its job, has made. */
export const readSharedMemory = (answer: Answer): SharedMemoryData | Failure =>
  answer.failure ?? {
    memory: answer.number(Place.made) as SharedMemoryHandle,
    id: answer.data(0),
    fd: answer.data(1),
    size: answer.data(2),
  };

/** The same of a dma-buf. */
export const readDmaBuf = (answer: Answer): DmaBufData | Failure =>
  answer.failure ?? {
    buf: answer.number(Place.made) as DmaBufHandle,
    fd: answer.data(1),
    size: answer.data(2),
  };

/** What {@link Functions.contextStatistics} has found. */
export const readStatistics = (answer: Answer): ContextStatistics | undefined =>
  answer.failure !== undefined
    ? undefined
    : {
        sessions: answer.data(0),
        threads: answer.data(1),
        temporarySlots: answer.data(2),
        temporaryBytes: answer.data(3),
        temporaryRegistrations: answer.data(4),
      };

type Bytes = Uint8Array | undefined;
/** Its numbers are in {@link Native.request}; bytes are what a temporary buffer of the same index takes in, or goes into. */
type Call<Result, More extends unknown[] = []> = (
  bytes0: Bytes,
  bytes1: Bytes,
  bytes2: Bytes,
  bytes3: Bytes,
  ...more: More
) => Result;

/**
 * A job under way: 1 and up, valid until its answer came or `abort` has said `removed` (then it can be another's). 0 is
 * none: of a function that can also do its work at once, or be refused, the answer is in {@link Native.answer} then.
 */
export type Ticket = number;

/**
 * The addon's functions. Those whose names end in Sync, and those with `sync` set, can wait for the TEE; no other does.
 * Those that return nothing write {@link Native.answer}.
 */
export interface Functions {
  /**
   * Opens a device (O_RDWR, close-on-exec) and asks TEE_IOC_VERSION.
   * @param threads how many calls may block in the TEE at the same time, 1 to 256
   * @param temporaryBytes how much memory for temporary buffers stays registered at most, 0 and up
   * @param registration false: SHM_ALLOC instead of SHM_REGISTER, even where the TEE could register
   */
  openContext(path: string, threads: number, temporaryBytes: number, registration: boolean): void;

  /**
   * Closes a context: its handle, and those of its sessions and shared memory, are unusable at once, and ArrayBuffers over
   * its shared memory are detached. Calls under way or queued are done first, then each session's CLOSE_SESSION, then its
   * memory, its temporary memory and its descriptor.
   * @returns the ticket of the job whose answer (Status.answered, or an errno) tells that all is done; 0: no such context
   */
  closeContext(context: ContextHandle): Ticket;

  /**
   * Opens a session. What goes in is copied before it returns.
   * @param uuid the TA's UUID, 16 bytes in the order of its text
   * @param client clnt_uuid, 16 bytes: the group id in host order in the first 4 for a group login, else zeros
   */
  openSession: Call<Ticket, [uuid: Bytes, client: Bytes]>;
  /** The same, blocking. */
  openSessionSync: Call<void, [uuid: Bytes, client: Bytes]>;

  /** Invokes a command. Calls of one session run in the order in which they were made, each when the one before has ended. */
  invoke: Call<Ticket>;
  /** The same, blocking: takes its place behind the session's asynchronous calls, which need no event loop. */
  invokeSync: Call<void>;

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
   * @param sync here and now, instead of on a thread
   */
  allocSharedMemory(context: ContextHandle, size: number, sync: boolean): Ticket;

  /**
   * Registers the bytes of a view over a SharedArrayBuffer (anything else is refused). The view is held, and its memory
   * kept, until the registration has ended and the calls that use it have, even when the environment ends before.
   */
  registerSharedMemory(context: ContextHandle, view: Uint8Array, sync: boolean): Ticket;

  /**
   * Registers a dma-buf (SHM_REGISTER_FD).
   * @param fd stays the caller's and may be closed afterwards
   */
  registerDmaBuf(context: ContextHandle, fd: number, sync: boolean): Ticket;

  /**
   * An ArrayBuffer over the pages of allocated shared memory: the same one as long as it is alive. Undefined for other
   * memory, for a closed handle and where the runtime forbids external buffers. close() detaches it and gives the pages
   * back, unless it was transferred: then they stay as long as anybody can see them.
   */
  sharedMemoryBuffer(memory: SharedMemoryHandle): ArrayBuffer | undefined;

  /** A copy of a part of allocated or registered memory; undefined if there is no memory for it. */
  readSharedMemory(memory: SharedMemoryHandle, offset: number, length: number): Uint8Array | undefined;

  /** Copies bytes into allocated or registered memory. */
  writeSharedMemory(memory: SharedMemoryHandle, bytes: Uint8Array, offset: number): boolean;

  /** Opens a dma-heap (O_RDONLY, close-on-exec). */
  openDmaHeap(path: string): void;

  /** Allocates a dma-buf (DMA_HEAP_IOCTL_ALLOC). `size` in bytes, 1 and up; the kernel rounds up to pages. */
  allocDmaBuf(heap: DmaHeapHandle, size: number, sync: boolean): Ticket;

  /**
   * Makes a dma-buf's descriptor ours.
   * @param own true: this very descriptor, which gets close-on-exec and is closed with the handle, but only if this
   *   succeeds; false: a duplicate, the caller's stays the caller's
   */
  adoptDmaBuf(fd: number, own: boolean): void;

  /** An ArrayBuffer over the whole dma-buf, as that of shared memory. Undefined also where it failed. */
  mapDmaBuf(buf: DmaBufHandle): ArrayBuffer | undefined;

  /** DMA_BUF_IOCTL_SYNC. `flags` is the kernel's: DMA_BUF_SYNC_READ 1, _WRITE 2, _START 0, _END 4. */
  syncDmaBuf(buf: DmaBufHandle, flags: number): void;

  /**
   * Closes shared memory, a dma-heap or a dma-buf: unusable at once, its ArrayBuffer detached, the descriptor closed as
   * soon as no call uses it any more: at once, or by another thread while calls are in the TEE.
   * @returns false if there was no such handle (any more)
   */
  close(handle: SharedMemoryHandle | DmaHeapHandle | DmaBufHandle): boolean;

  /** Detaches all ArrayBuffers that were not transferred; the memory itself stays. */
  detachBuffers(): void;

  /** Does this kernel have SHM_REGISTER_FD? (It answers EFAULT to a bad pointer where it does, EINVAL where not.) */
  hasRegisterDmaBuf(context: ContextHandle): boolean;

  /** Counts what a context holds. */
  contextStatistics(context: ContextHandle): void;
}

export interface Native extends Functions {
  /** The numbers of the next call, by {@link RequestPlace}: written right before it. */
  readonly request: Float64Array;
  /** Of what ended at once: valid until another function of the addon is called. */
  readonly answer: Answer;
  /** What reads the answer of each job under way, by its ticket: put in right after the job was started. */
  readonly settle: Map<Ticket, Settle>;
}

/** What the addon itself exports. */
interface Addon {
  /**
   * Makes a client of its own: handles, jobs and answers of one copy of this module (a test runner can load several into
   * one environment).
   * @param request the numbers of a call, and
   * @param records those of answers, over SharedArrayBuffers, which cannot be detached, so C++ need not ask anew where
   *   they are
   * @param outputs the answers' new arrays, four places each. It has something at each index, so that none is looked for
   *   in its prototype
   * @param deliver called with how many answers there are, from the second one on
   * @param mostBytes of an ArrayBuffer in this runtime
   */
  attach(
    request: Float64Array,
    records: Float64Array,
    outputs: (Uint8Array | undefined)[],
    deliver: (count: number) => void,
    mostBytes: number,
  ): Functions;
}

/** How many answers there is room for: one of what ends at once, the others of a delivery. */
const ANSWERS = 65;

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
  const numbers = (count: number): Float64Array =>
    new Float64Array(new SharedArrayBuffer(count * Float64Array.BYTES_PER_ELEMENT));
  const request = numbers(RequestPlace.length);
  const records = numbers(ANSWERS * Place.length);
  const outputs = new Array<Uint8Array | undefined>(ANSWERS * 4).fill(undefined);
  const answers = Array.from({ length: ANSWERS }, (_, index) => new Answer(records, outputs, index));
  const settle = new Map<Ticket, Settle>();
  const tell = new TellInOrder();
  const deliver = (count: number): void => {
    for (let i = 1; i <= count; i++) {
      const answer = answers[i] as Answer;
      const ticket = answer.number(Place.ticket);
      const read = settle.get(ticket);
      settle.delete(ticket);
      if (read !== undefined) tell.add(read(answer));
    }
    tell.next();
  };
  const functions = addon.attach(request, records, outputs, deliver, constants.MAX_LENGTH);
  // From here on no buffer can be moved, so the pages of all others can go with the thread.
  if (!isMainThread) process.once('exit', () => functions.detachBuffers());
  // In an object of its own: one that Node-API filled property by property is a hash table for V8.
  return { ...functions, request, answer: answers[0] as Answer, settle };
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
