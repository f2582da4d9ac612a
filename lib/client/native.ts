/**
 * The seam between TypeScript and the native addon: all that crosses it is stated here, and nothing else
 * imports the addon. It loads at the first call of {@link native}, so importing the package never needs it.
 *
 * Who does what: TypeScript checks arguments, names them in messages, builds parameters and makes Error
 * objects. C++ owns descriptors, mappings, threads and the order of calls. C++ trusts nothing it is given:
 * a wrong number, a foreign handle or a detached buffer ends in a {@link Status} or a {@link Failure}, never
 * in a crash; but it does not explain, so whatever a user can get wrong is checked before.
 *
 * **Handles** are plain numbers: a slot of the environment's table with its generation, so a closed handle
 * is never mistaken for a newer one, and the table knows what kind of object each is. They are valid in the
 * environment (and the copy of this module) that made them. The garbage collector does not see numbers: the
 * object that wraps one registers itself with `watch()` of `lost-handles.ts`.
 *
 * **The hot path** (open and invoke) takes its numbers from {@link Native.packet} and its bytes as arguments.
 * `packet` is one array for all calls, free again as soon as the function has returned. A blocking call
 * leaves its answer there; an asynchronous one answers by a record of the same layout in
 * {@link Native.records}, handed to the function that was put into {@link Native.settle}. Both are over
 * SharedArrayBuffers, which cannot be detached, so C++ need not ask anew where they are. Small outputs come in
 * {@link Functions.bytes}.
 *
 * @internal
 */
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

/**
 * What is at which index of {@link Native.packet}, and of each record in {@link Native.records} from the
 * record's own start. `in`: read by the call. `out`: written by the time that it has ended. What is not said to
 * be `out` has no meaning afterwards.
 */
export const enum Packet {
  /** out, records only: the call's id (the addon's ticket), as the function that started it returned it. */
  call = 0,
  /** in: the session (invoke) or the context (open). out, open: the new session, 0 if there is none. */
  handle = 1,
  /** in: the command (invoke) or the login method (open), 0 to 2^32 - 1. */
  number = 2,
  /** in: {@link RequestFlags}. out: {@link AnswerFlags}. */
  flags = 3,
  /** out: {@link Status}, or a positive errno. The indices below it are only valid as said there. */
  status = 4,
  /** out: which {@link Native.operations} failed (status is an errno), or which parameter (Status says so). */
  detail = 5,
  /** out, Status.answered: the TEE's 32-bit result, 0 is TEE_SUCCESS. */
  result = 6,
  /** out, Status.answered: the result's origin, as the kernel gave it. */
  origin = 7,
  /** in: how many parameters there are, 0 to 4. */
  count = 8,
  /** The first of them, {@link Param.stride} numbers each. There is room for four. */
  params = 9,
  /** The length of a packet and of a record. */
  length = 25,
}

/** A parameter, from its own start at `Packet.params + i * Param.stride`. */
export const enum Param {
  /** in: {@link ParamKind}. */
  kind = 0,
  /** Values: in and out, a. Shared memory: in, the offset in bytes. */
  a = 1,
  /**
   * Values: in and out, b. Memory: in, the size in bytes (not read where bytes are passed: the size is theirs); out,
   * the size as the TEE reported it, which can be more than was given.
   */
  b = 2,
  /**
   * Shared memory: in, its {@link SharedMemoryHandle}. Temporary out and inout: out, where in {@link Functions.bytes} the
   * output begins, or -1: then it is in the call's {@link Outputs}, if there is any.
   */
  memory = 3,
  stride = 4,
}

/** What is at which index of {@link Native.packet} when a function that makes shared memory has returned a handle. */
export const enum MemoryAnswer {
  /** The kernel's id, valid on this context only. */
  id = 9,
  /** The tee_shm descriptor, close-on-exec. Ours: it is closed by close() or soon after, never by the caller. */
  fd = 10,
  /** Bytes that can be used: what was asked, or less if the kernel said less. A dma-buf's own size. */
  size = 11,
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
  /**
   * The same with the output in the argument of the same index, which has the size: a blocking call has written it there
   * when it returns, that of an asynchronous one is fetched by {@link Functions.takeOutput}.
   */
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
  none = 0,
  /** Zero the call's temporary memory as soon as the outputs have been copied out of it. */
  wipe = 1,
}

export const enum AnswerFlags {
  none = 0,
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
  /** A number in the packet, or a buffer, is not what it should be; `detail` is the index in the packet. */
  argument = -2,
  /** Parameter `detail` (0 to 3) names shared memory that is closed, or never was one. Nothing was sent. */
  sharedMemoryClosed = -3,
  /** Parameter `detail` names shared memory of another context. Nothing was sent. */
  otherContext = -4,
  /** Parameter `detail` reaches beyond its shared memory. Nothing was sent. */
  outOfBounds = -5,
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

/** The fresh arrays of large temporary out and inout parameters, at the index of their parameter. */
export type Outputs = (Uint8Array | undefined)[];

/**
 * Called on the JavaScript thread when a call has ended. The record begins at `at` in {@link Native.records}
 * and is only there until the function returns. Outputs of record parameter i are at `outputs[first + i]`;
 * `outputs` is undefined where the whole batch has none. Must not throw.
 */
export type Settle = (at: number, outputs: Outputs | undefined, first: number) => void;

/** What {@link Functions.cancel} did. */
export const enum Cancelled {
  /** No such call is under way: it has ended, its record is on its way. */
  ended = 0,
  /**
   * The call had not begun: nothing was or will be sent for it, and it will have no record. The same for an
   * open in flight, which no kernel can cancel: its session is closed as soon as it arrives.
   */
  removed = 1,
  /** The call is in flight: CANCEL goes out from a thread of its own if it still is then. A record follows. */
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

/** The addon's functions. None blocks on the TEE unless it says so. */
export interface Functions {
  /** Small outputs, at `Param.memory`: of the call or the records that were answered last. */
  readonly bytes: Uint8Array;

  /** Name and system call of each operation, by the number that `Packet.detail` holds. */
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
   * Closes a context: its handle, and those of its sessions and shared memory, are unusable at once, and
   * ArrayBuffers over its shared memory are detached. Calls under way or queued are done first, then each
   * session's CLOSE_SESSION, then its memory, its temporary memory and its descriptor.
   * @returns the id of the call whose record (Status.answered, or an errno) tells that all is done; 0: no such context
   */
  closeContext(context: ContextHandle): number;

  /**
   * Opens a session with the packet's handle (the context), number (the login method), flags and params.
   * @param uuid the TA's UUID, 16 bytes in the order of its text
   * @param client clnt_uuid, 16 bytes: the group id in host order in the first 4 for a group login, else zeros
   * @param b0 the bytes of parameter 0 if it is temporaryIn, temporaryInout, intoOut or inPlace; what goes in is copied
   *   before it returns
   * @returns the call's id, valid until its record was settled or `cancel` has said `removed` (then it can be
   *   another's), or 0 if it was refused: then the packet has the status, and there is no record
   */
  openSession(
    uuid: Uint8Array,
    client: Uint8Array,
    b0?: Uint8Array,
    b1?: Uint8Array,
    b2?: Uint8Array,
    b3?: Uint8Array,
  ): number;

  /** The same, blocking. The answer is in the packet; what it returns are the outputs, if there are any. */
  openSessionSync(
    uuid: Uint8Array,
    client: Uint8Array,
    b0?: Uint8Array,
    b1?: Uint8Array,
    b2?: Uint8Array,
    b3?: Uint8Array,
  ): Outputs | undefined;

  /**
   * Invokes a command with the packet's handle (the session), number (the command), flags and params. Calls
   * of one session run in the order in which they were made, each when the one before has ended.
   * Arguments and result as for {@link openSession}.
   */
  invoke(b0?: Uint8Array, b1?: Uint8Array, b2?: Uint8Array, b3?: Uint8Array): number;

  /** The same, blocking: takes its place behind the session's asynchronous calls, which need no event loop. */
  invokeSync(b0?: Uint8Array, b1?: Uint8Array, b2?: Uint8Array, b3?: Uint8Array): Outputs | undefined;

  /**
   * Copies the output of an intoOut or inPlace, as far as the TA wrote it, while its record is being settled.
   * @param record which of the batch, from 0
   * @param param from 0
   * @returns false if there is none, or `into` has no room for it (any more)
   */
  takeOutput(record: number, param: number, into: Uint8Array): boolean;

  /**
   * Cancels one asynchronous open or invoke, also when its session or context is closing.
   * @param call its id, still valid
   */
  cancel(call: number): Cancelled;

  /**
   * Closes a session: its handle is unusable at once; calls under way or queued are done first, then
   * CLOSE_SESSION is sent.
   * @returns the id of the call whose record tells that it is done; 0: no such session
   */
  closeSession(session: SessionHandle): number;

  /**
   * Allocates shared memory: a memfd named node-optee, mapped shared and registered (SHM_REGISTER), or
   * SHM_ALLOC and its mapping where the TEE cannot register. Zeroed. Blocks while all of OP-TEE's threads are
   * busy, as the two below do.
   * @param size in bytes, 1 and up
   * @returns the handle, with a {@link MemoryAnswer} in the packet; or 0, with the reason there for {@link refusal}.
   *   The same for the two below
   */
  allocSharedMemory(context: ContextHandle, size: number): SharedMemoryHandle | 0;

  /**
   * Registers the bytes of a view over a SharedArrayBuffer (anything else is refused). The view is
   * held, and its memory kept, until the registration has ended and the calls that use it have, even when
   * the environment ends before.
   */
  registerSharedMemory(context: ContextHandle, view: Uint8Array): SharedMemoryHandle | 0;

  /**
   * Registers a dma-buf (SHM_REGISTER_FD).
   * @param fd stays the caller's and may be closed afterwards
   */
  registerDmaBuf(context: ContextHandle, fd: number): SharedMemoryHandle | 0;

  /**
   * An ArrayBuffer over the pages of allocated shared memory: the same one as long as it is alive. Undefined
   * for other memory, for a closed handle and where the runtime forbids external buffers. It is detached by
   * close(); the pages are unmapped when the garbage collector has taken it, or what it was transferred to.
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
  allocDmaBuf(heap: DmaHeapHandle, size: number): DmaBufData | Failure;

  /**
   * Makes a dma-buf's descriptor ours.
   * @param own true: this very descriptor, which gets close-on-exec and is closed with the handle, but only if
   *   this succeeds; false: a duplicate, the caller's stays the caller's
   */
  adoptDmaBuf(fd: number, own: boolean): DmaBufData | Failure;

  /** An ArrayBuffer over the whole dma-buf, detached and unmapped as that of shared memory. Undefined where the runtime forbids external buffers. */
  mapDmaBuf(buf: DmaBufHandle): ArrayBuffer | Failure | undefined;

  /** DMA_BUF_IOCTL_SYNC. `flags` is the kernel's: DMA_BUF_SYNC_READ 1, _WRITE 2, _START 0, _END 4. */
  syncDmaBuf(buf: DmaBufHandle, flags: number): Failure | undefined;

  /**
   * Closes shared memory, a dma-heap or a dma-buf: unusable at once, its ArrayBuffer detached, the descriptor
   * closed as soon as no call uses it any more: at once, or by another thread while calls are in the TEE.
   * @returns false if there was no such handle (any more)
   */
  close(handle: SharedMemoryHandle | DmaHeapHandle | DmaBufHandle): boolean;

  /** Looks at a descriptor of this process: is it open, and what does its link under /proc/self/fd say. */
  describeDescriptor(fd: number): { readonly open: boolean; readonly link?: string };

  /** Does this kernel have SHM_REGISTER_FD? (It answers EFAULT to a bad pointer where it does, EINVAL where not.) */
  hasRegisterDmaBuf(context: ContextHandle): boolean;

  /** Undefined if there is no such context (any more). */
  contextStatistics(context: ContextHandle): ContextStatistics | undefined;
}

export interface Native extends Functions {
  /** The numbers of the call to be made, and of the answer of a blocking one. Layout: {@link Packet}. */
  readonly packet: Float64Array;
  /** The records of calls that have ended, valid inside a {@link Settle}. */
  readonly records: Float64Array;
  /** What to do when a call has ended: put in right after the function that started it returned its id. */
  readonly settle: Settlers;
}

/** Of each call under way its {@link Settle}. Ids are small numbers, so an array is all that it takes. */
export class Settlers {
  readonly #settle: (Settle | undefined)[] = [];

  set(id: number, settle: Settle): void {
    this.#settle[id] = settle;
  }

  /** Takes it out. */
  take(id: number): Settle | undefined {
    const settle = this.#settle[id];
    this.#settle[id] = undefined;
    return settle;
  }
}

/** What the addon itself exports. */
interface Addon {
  /**
   * Makes a client of its own: handles, calls and records of one copy of this module (a test runner can load
   * several into one environment).
   * @param deliver called with how many records there are, and their outputs, four per record
   */
  attach(
    packet: Float64Array,
    records: Float64Array,
    deliver: (count: number, outputs: Outputs | undefined) => void,
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
  const numbers = (count: number): Float64Array =>
    new Float64Array(new SharedArrayBuffer(count * Float64Array.BYTES_PER_ELEMENT));
  const packet = numbers(Packet.length);
  const records = numbers(Packet.length * BATCH);
  const settle = new Settlers();
  const functions = addon.attach(packet, records, (count, outputs) => {
    for (let i = 0; i < count; i++) {
      const at = i * Packet.length;
      settle.take(records[at + Packet.call] as number)?.(at, outputs, i * 4);
    }
  });
  // In an object of its own: one that Node-API filled property by property is a hash table for V8.
  return { ...functions, packet, records, settle };
}

/** Why a function that makes shared memory returned 0. */
export function refusal(n: Native): Failure {
  const named = n.operations[n.packet[Packet.detail] as number];
  return {
    operation: named?.operation ?? 'unknown',
    syscall: named?.syscall ?? 'unknown',
    errno: n.packet[Packet.status] as number,
  };
}
