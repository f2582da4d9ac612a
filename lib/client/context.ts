import { debuglog } from 'node:util';
import { aborted, failure, settled, type CallOptions, type Caller } from './call.js';
import {
  checkDevicePath,
  devicePaths,
  noDevice,
  openError,
  versionOf,
  type TeeDevice,
  type TeeVersion,
} from './devices.js';
import { DmaBuf } from './dma-buf.js';
import { closedError, invalidArgType, notSupported, TeeSystemError } from './errors.js';
import { Login } from './login.js';
import { watch } from './lost-handles.js';
import { native, Packet, RequestFlags, Status } from './native.js';
import type { ContextData, ContextHandle, Native, Outputs, SessionHandle } from './native.js';
import { copyParams, NO_PARAMS, pack, unpack, type Params } from './parameters.js';
import { checkCallOptions, checkSyncOptions, ended, Session } from './session.js';
import { SharedMemory } from './shared-memory.js';
import { formatUuid, parseUuid } from './uuid.js';
import { checkBoolean, checkInteger, checkOptions } from './validate.js';

const debug = debuglog('node-optee');

/** How a device is opened. */
export interface TeeContextOptions {
  /**
   * The device, like `/dev/tee0`; without it the first that speaks GlobalPlatform. One that is named is opened also
   * where it does not, for its `version`; its calls fail.
   */
  path?: string | undefined;
  /**
   * How many calls can be in the TEE at the same time, 1 to 256, each on a thread of its own that exists while it
   * is needed; 8 unless told otherwise. More calls wait. OP-TEE itself runs CFG_NUM_THREADS calls at a time (2 on
   * many boards) and needs one of them to take a cancel: where an abort must reach a TA soon, stay below that.
   */
  threads?: number | undefined;
  /**
   * How many bytes of memory for temporary buffers stay registered with the TEE at most, 0 to 1 GiB; 8 MiB unless
   * told otherwise. What finds no room there is registered for its one call.
   */
  temporaryMemory?: number | undefined;
  /** @internal False: allocate shared memory in the kernel, as where the TEE cannot register any. */
  registration?: boolean | undefined;
}

/** How a session is opened. */
export interface OpenSessionOptions<P extends Params = Params> extends CallOptions {
  /** Who the client is to the TA; `Login.public` unless told otherwise. */
  login?: Login | undefined;
  /** Up to four parameters for the TA's TA_OpenSessionEntryPoint; their outputs are the session's `outputs`. */
  params?: P | undefined;
}

const DEFAULT_THREADS = 8;
const MAX_THREADS = 256;
const DEFAULT_TEMPORARY_MEMORY = 8 << 20;
const MAX_TEMPORARY_MEMORY = 1 << 30;

/**
 * An open TEE device. Sessions and shared memory belong to the context that made them and close with it. Each
 * worker thread opens its own.
 */
export class TeeContext {
  /** The TEE behind the device, what it can do, and the device's path. */
  readonly version: TeeVersion;

  readonly #n: Native;
  readonly #registration: boolean;
  #handle: ContextHandle | 0;
  #closing: Promise<void> | undefined;

  private constructor(n: Native, path: string, data: ContextData, registration: boolean) {
    this.version = versionOf(path, data);
    this.#n = n;
    this.#registration = registration && this.version.capabilities.registeredMemory;
    const handle = data.context;
    this.#handle = handle;
    watch(
      this,
      () => `A TeeContext of ${path}`,
      () => n.closeContext(handle) !== 0,
    );
  }

  /**
   * Opens a device.
   * @param options its path, or options
   * @throws TeeSystemError: ENOENT where there is no driver, EACCES without permission, … with a hint;
   *   ERR_TEE_NOT_SUPPORTED where there are devices, but none that speaks GlobalPlatform
   */
  static open(options: string | TeeContextOptions = {}): TeeContext {
    if (typeof options !== 'string') checkOptions(options, 'options');
    const {
      path,
      threads = DEFAULT_THREADS,
      temporaryMemory = DEFAULT_TEMPORARY_MEMORY,
      registration = true,
    } = typeof options === 'string' ? { path: options } : options;
    checkInteger(threads, 'options.threads', 1, MAX_THREADS);
    checkInteger(temporaryMemory, 'options.temporaryMemory', 0, MAX_TEMPORARY_MEMORY);
    checkBoolean(registration, 'options.registration');
    const n = native();
    const tryOpen = (device: string): TeeContext | TeeSystemError => {
      const data = n.openContext(device, threads, temporaryMemory, registration);
      return 'errno' in data ? openError(device, data) : new TeeContext(n, device, data, registration);
    };
    if (path !== undefined) {
      const opened = tryOpen(checkDevicePath(path, typeof options === 'string' ? 'path' : 'options.path'));
      if (opened instanceof TeeSystemError) throw opened;
      return opened;
    }
    return firstGlobalPlatform(tryOpen);
  }

  /**
   * Every /dev/tee[0-9]+: its version, or why it could not be opened. Never a teepriv device, which is
   * tee-supplicant's only slot.
   */
  static list(): TeeDevice[] {
    const n = native();
    return devicePaths().map((path) => {
      const data = n.openContext(path, 1, 0, true);
      if ('errno' in data) return { path, error: openError(path, data) };
      n.closeContext(data.context);
      return { path, version: versionOf(path, data) };
    });
  }

  /** Was it closed? */
  get closed(): boolean {
    return this.#handle === 0;
  }

  /**
   * Opens a session with a Trusted Application. OP-TEE loads the TA first where it is not there yet, for which it
   * needs tee-supplicant: without it this waits.
   *
   * With `signal`: aborted, this rejects at once. The kernel cannot cancel an opening that is under way, so it goes
   * on, and the session is closed when it arrives.
   *
   * @param uuid the TA's: a string, or its 16 bytes as they are written
   * @throws (rejects with) TeeError, TeeSystemError, AbortError; TypeError or RangeError for a bad argument;
   *   ERR_TEE_CLOSED, ERR_TEE_WRONG_CONTEXT, ERR_TEE_NOT_SUPPORTED
   */
  openSession<const P extends Params = []>(
    uuid: string | Uint8Array,
    options?: OpenSessionOptions<P>,
  ): Promise<Session<P>>;
  openSession(uuid: string | Uint8Array, options: OpenSessionOptions = {}): Promise<Session> {
    try {
      const signal = checkCallOptions(options);
      const { bytes, caller, login, params, temporary } = this.#pack(uuid, options, signal);
      const n = this.#n;
      const id = temporary
        ? n.openSession(
            bytes,
            login.client,
            params[0]?.bytes,
            params[1]?.bytes,
            params[2]?.bytes,
            params[3]?.bytes,
          )
        : n.openSession(bytes, login.client);
      if (id === 0) throw failure(n, n.packet, 0, undefined, 0, caller, undefined, params);
      if (debug.enabled) debug('open %d: session with TA %s (%s)', id, caller.uuid, login);
      return settled(n, id, caller, undefined, params, signal, (_, at, given, outputs, first) =>
        this.#arrived(n.records, at, given, outputs, first, caller),
      );
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * The same, blocking this thread until the TA has answered. Cannot be aborted.
   * @throws as `openSession` rejects
   */
  openSessionSync<const P extends Params = []>(
    uuid: string | Uint8Array,
    options?: Omit<OpenSessionOptions<P>, 'signal'>,
  ): Session<P>;
  openSessionSync(uuid: string | Uint8Array, options: Omit<OpenSessionOptions, 'signal'> = {}): Session {
    checkSyncOptions(options);
    if (debug.enabled) debug('openSync: session with TA %s', uuid);
    const { bytes, caller, login, params } = this.#pack(uuid, options);
    const n = this.#n;
    const outputs = n.openSessionSync(
      bytes,
      login.client,
      params[0]?.bytes,
      params[1]?.bytes,
      params[2]?.bytes,
      params[3]?.bytes,
    );
    const packet = n.packet;
    if (packet[Packet.status] !== Status.answered || packet[Packet.result] !== 0) {
      throw failure(n, packet, 0, outputs, 0, caller, undefined, params);
    }
    return this.#arrived(packet, 0, params, outputs, 0, caller);
  }

  #arrived(
    numbers: Float64Array,
    at: number,
    params: Params,
    outputs: Outputs | undefined,
    first: number,
    caller: Caller,
  ): Session {
    const n = this.#n;
    const handle = numbers[at + Packet.handle] as SessionHandle;
    try {
      return Session.make(n, this, handle, caller, unpack(n, numbers, at, params, outputs, first));
    } catch (error) {
      n.closeSession(handle);
      throw error;
    }
  }

  #pack(
    uuid: string | Uint8Array,
    options: OpenSessionOptions,
    signal?: AbortSignal,
  ): { bytes: Uint8Array; caller: Caller; login: Login; params: Params; temporary: boolean } {
    const handle = this.#open();
    const bytes = parseUuid(uuid);
    const { login = Login.public, params: given = NO_PARAMS, wipe } = options;
    if (!(login instanceof Login)) throw invalidArgType('options.login', 'a Login', login);
    const params = copyParams(given);
    const early = signal?.aborted === true; // last of what can be code of somebody's own
    const { path, capabilities } = this.version;
    const { globalPlatform, nullMemref } = capabilities;
    const caller: Caller = { uuid: formatUuid(bytes), path, globalPlatform, login };
    const n = this.#n;
    const temporary = pack(n, params, this, nullMemref);
    if (signal !== undefined && early) throw aborted(signal, caller, undefined, params);
    n.packet[Packet.handle] = handle;
    n.packet[Packet.number] = login.method;
    n.packet[Packet.flags] = wipe === true ? RequestFlags.wipe : RequestFlags.none;
    return { bytes, caller, login, params, temporary };
  }

  /**
   * Allocates memory that this process and the TEE both see, zeroed.
   * @param size in bytes, 1 to 2^32 - 1; how much a TEE takes at once is its own matter
   * @throws TeeSystemError, ERR_TEE_CLOSED
   */
  allocSharedMemory(size: number): SharedMemory {
    return SharedMemory.alloc(this.#n, this, this.#open(), size);
  }

  /**
   * Shares memory of the caller's own with the TEE. Whole pages are shared: what lies beside the view in its first
   * and last page can be reached by the TEE as well.
   * @param view a Uint8Array over a SharedArrayBuffer of fixed length. (An ArrayBuffer can be moved or freed
   *   while the TEE still writes to it; `allocSharedMemory` gives one that cannot.)
   * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE; ERR_TEE_NOT_SUPPORTED where the TEE takes no memory
   *   of its clients; TeeSystemError, ERR_TEE_CLOSED
   */
  registerSharedMemory(view: Uint8Array): SharedMemory {
    const handle = this.#open();
    if (!this.#registration) {
      throw notSupported(
        `The TEE behind ${this.version.path} does not take memory of its clients (capability registeredMemory); ` +
          'use allocSharedMemory',
      );
    }
    return SharedMemory.register(this.#n, this, handle, view);
  }

  /**
   * Registers a dma-buf with the TEE (TEE_IOC_SHM_REGISTER_FD, Linux 6.18 and later).
   * @param buf a DmaBuf, or the descriptor of a dma-buf from any other library. It stays the caller's and may be
   *   closed right afterwards.
   * @throws RangeError ERR_OUT_OF_RANGE, TypeError ERR_INVALID_ARG_VALUE if it is no dma-buf, ERR_TEE_NOT_SUPPORTED if
   *   this kernel cannot do it, TeeSystemError: EBADF if it is not open, EINVAL if the kernel does not take this one
   */
  registerDmaBuf(buf: DmaBuf | number): SharedMemory {
    return SharedMemory.registerDmaBuf(this.#n, this, this.#open(), buf);
  }

  #open(): ContextHandle {
    if (this.#handle === 0) throw closedError(`the TeeContext of ${this.version.path}`);
    return this.#handle;
  }

  /**
   * Closes the device, its sessions and its shared memory. They cannot be used any more at once; calls that were
   * made before run to their end first. An opening that was given up is not waited for: it keeps the device, and
   * what it shares, until it ends.
   * @returns resolves when all else is done; the same promise each time
   */
  close(): Promise<void> {
    if (this.#closing === undefined) {
      const id = this.#handle === 0 ? 0 : this.#n.closeContext(this.#handle);
      this.#handle = 0;
      const { path } = this.version;
      this.#closing =
        id === 0 ? Promise.resolve() : ended(this.#n, id, path, `closing the TeeContext of ${path}`);
    }
    return this.#closing;
  }

  /** Starts to close it and does not wait. */
  [Symbol.dispose](): void {
    this.close().catch((error: unknown) => debug('close of a context: %s', error));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** @internal For tests and measurements: what it holds at this moment; undefined when it is closed. */
  statistics(): ReturnType<Native['contextStatistics']> {
    return this.#handle === 0 ? undefined : this.#n.contextStatistics(this.#handle);
  }
}

/** Opens device after device until one speaks GlobalPlatform. */
function firstGlobalPlatform(tryOpen: (path: string) => TeeContext | TeeSystemError): TeeContext {
  const tried: (TeeSystemError | TeeVersion)[] = [];
  for (const path of devicePaths()) {
    const opened = tryOpen(path);
    if (opened instanceof TeeSystemError) {
      tried.push(opened);
    } else if (opened.version.capabilities.globalPlatform) {
      return opened;
    } else {
      tried.push(opened.version);
      opened[Symbol.dispose]();
    }
  }
  throw noDevice(tried);
}
