import { debuglog } from 'node:util';
import {
  readOptions,
  runCall,
  startCall,
  type Callee,
  type CallOptions,
  type Finish,
  type Request,
} from './call.js';
import {
  checkDevicePath,
  devicePaths,
  noDevice,
  openError,
  versionOf,
  type TeeDevice,
  type TeeVersion,
} from './devices.js';
import { NAMES, type TaNames } from './described.js';
import type { DmaBuf } from './dma-buf.js';
import { notSupported, TeeSystemError } from './errors.js';
import { Handle } from './handle.js';
import { Login, type LoginIdentity } from './login.js';
import { closed } from './jobs.js';
import { native, readContext, readStatistics } from './native.js';
import type { ContextData, ContextHandle, ContextStatistics, Native, Ticket } from './native.js';
import { NO_PARAMS, readParams, type Params, type Spec } from './parameters.js';
import { readPoolOptions, SessionPool, type ClosedWithContext, type SessionPoolOptions } from './pool.js';
import { openSessions, Session } from './session.js';
import { SharedMemory } from './shared-memory.js';
import { formatUuid, parseUuid } from './uuid.js';
import { checkBoolean, checkInteger, checkKnown } from './validate.js';

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
  /** @internal What the TA and its commands are called. */
  [NAMES]?: TaNames | undefined;
}

/** How a session is opened, all of it read from its caller. */
interface OpeningOptions {
  readonly login: Login;
  readonly params: readonly Spec[];
  readonly wipe: boolean;
  readonly names: TaNames | undefined;
}

/** What opens a session, all of it read from its caller. */
interface Opening {
  readonly callee: Callee;
  readonly uuid: Uint8Array;
  readonly login: LoginIdentity;
  readonly params: readonly Spec[];
  readonly wipe: boolean;
}

const OPTIONS = ['path', 'threads', 'temporaryMemory', 'registration'];
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
  readonly #handle: Handle<ContextHandle, Ticket>;
  readonly #pools = new Set<ClosedWithContext>();
  #closing: Promise<void> | undefined;

  private constructor(n: Native, path: string, data: ContextData, registration: boolean) {
    this.version = versionOf(path, data);
    this.#n = n;
    this.#registration = registration && this.version.capabilities.registeredMemory;
    const close = (context: ContextHandle): Ticket => n.closeContext(context);
    this.#handle = new Handle(this, `TeeContext of ${path}`, data.context, close);
  }

  /**
   * Opens a device.
   * @param options its path, or options
   * @throws TeeSystemError: ENOENT where there is no driver, EACCES without permission, … with a hint;
   *   ERR_TEE_NOT_SUPPORTED where there are devices, but none that speaks GlobalPlatform
   */
  static open(options: string | TeeContextOptions = {}): TeeContext {
    if (typeof options !== 'string') checkKnown(options, 'options', OPTIONS);
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
      n.openContext(device, threads, temporaryMemory, registration);
      const data = readContext(n.answer);
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
      n.openContext(path, 1, 0, true);
      const data = readContext(n.answer);
      if ('errno' in data) return { path, error: openError(path, data) };
      n.closeContext(data.context);
      return { path, version: versionOf(path, data) };
    });
  }

  /** Was it closed? */
  get closed(): boolean {
    return this.#handle.closed;
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
      const read = readOptions(options, false);
      const request = this.#request(uuid, options, read.wipe);
      if (debug.enabled) debug('openSession: TA %s', request.callee.uuid);
      return startCall(this.#n, request, read.signal, this.#arrived(request.callee));
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
  openSessionSync(uuid: string | Uint8Array, options: OpenSessionOptions = {}): Session {
    const { wipe } = readOptions(options, true);
    const request = this.#request(uuid, options, wipe);
    if (debug.enabled) debug('openSessionSync: TA %s', request.callee.uuid);
    return runCall(this.#n, request, this.#arrived(request.callee));
  }

  #request(uuid: string | Uint8Array, options: OpenSessionOptions, wipe: boolean): Request {
    const { login = Login.public, params = NO_PARAMS, [NAMES]: names } = options;
    const bytes = parseUuid(uuid);
    const read = readParams(params, this.version.capabilities.nullMemref);
    return this.#openRequest(this.#opening(bytes, { login, params: read, wipe, names }));
  }

  #opening(uuid: Uint8Array, { login, params, wipe, names }: OpeningOptions): Opening {
    const { path, capabilities } = this.version;
    const { globalPlatform } = capabilities;
    const callee: Callee = { uuid: formatUuid(uuid), path, globalPlatform, names };
    return { callee, uuid, login: Login.read(login, 'options.login'), params, wipe };
  }

  #openRequest({ callee, uuid, login, params, wipe }: Opening): Request {
    const context = this.#handle.use();
    const open = { context, uuid, login, openSessions: openSessions(callee.uuid) };
    return { callee, params, wipe, invoke: undefined, open };
  }

  #arrived(callee: Callee): Finish<Session> {
    return (session, outputs) =>
      Session.make({
        n: this.#n,
        callee,
        number: session,
        outputs,
        nullMemref: this.version.capabilities.nullMemref,
        context: this.#handle as unknown as Handle,
        contextClosed: () => this.close(),
      });
  }

  /**
   * Makes a pool of sessions with a Trusted Application, for many calls at the same time. Nothing is opened before the
   * first request. Close the pool when it is no longer needed; it closes with its context at the latest.
   * @param uuid the TA's: a string, or its 16 bytes as they are written
   * @throws TypeError or RangeError for a bad argument; ERR_TEE_CLOSED, ERR_TEE_NOT_SUPPORTED
   */
  pool<const P extends Params = []>(
    uuid: string | Uint8Array,
    options?: SessionPoolOptions<P>,
  ): SessionPool<P>;
  pool(uuid: string | Uint8Array, options: SessionPoolOptions = {}): SessionPool {
    const { nullMemref } = this.version.capabilities;
    const bytes = parseUuid(uuid);
    const read = readPoolOptions(options, nullMemref);
    const opening = this.#opening(bytes, read);
    const { callee } = opening;
    this.#handle.use();
    const open = async (): Promise<Session> => {
      if (debug.enabled) debug('pool: opening a session with TA %s', callee.uuid);
      return startCall(this.#n, this.#openRequest(opening), undefined, this.#arrived(callee));
    };
    const context = this.#handle as unknown as Handle;
    return SessionPool.make({
      uuid: callee.uuid,
      options: read,
      nullMemref,
      open,
      context,
      pools: this.#pools,
    });
  }

  /**
   * Allocates memory that this process and the TEE both see, zeroed.
   * @param size in bytes, 1 to 2^32 - 1; how much a TEE takes at once is its own matter
   * @throws (rejects with) TeeSystemError: ENOMEM where the machine, its cgroup or the TEE has no room, and the message says
   *   which; ERR_TEE_CLOSED; TypeError or RangeError for a bad argument
   */
  async allocSharedMemory(size: number): Promise<SharedMemory> {
    return SharedMemory.alloc(this.#owner(), size, false);
  }

  /**
   * The same, blocking: while all threads of the TEE are busy, this waits for one.
   * @throws as `allocSharedMemory` rejects
   */
  allocSharedMemorySync(size: number): SharedMemory {
    return SharedMemory.alloc(this.#owner(), size, true) as SharedMemory;
  }

  /**
   * Shares memory of the caller's own with the TEE. Whole pages are shared: what lies beside the view in its first
   * and last page can be reached by the TEE as well.
   * @param view a Uint8Array over a SharedArrayBuffer of fixed length. (An ArrayBuffer can be moved or freed
   *   while the TEE still writes to it; `allocSharedMemory` gives one that cannot.)
   * @throws (rejects with) TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE; ERR_TEE_NOT_SUPPORTED where the TEE takes
   *   no memory of its clients; TeeSystemError: EINVAL or ENOMEM where the TEE has no room, ENOMEM where the machine or its
   *   cgroup has none for pages of the view that are not there yet; ERR_TEE_CLOSED
   */
  async registerSharedMemory(view: Uint8Array): Promise<SharedMemory> {
    return SharedMemory.register(this.#owner(), this.#registrable(view), false);
  }

  /**
   * The same, blocking.
   * @throws as `registerSharedMemory` rejects
   */
  registerSharedMemorySync(view: Uint8Array): SharedMemory {
    return SharedMemory.register(this.#owner(), this.#registrable(view), true) as SharedMemory;
  }

  #registrable(view: Uint8Array): Uint8Array {
    if (this.#registration) return view;
    throw notSupported(
      `The TEE behind ${this.version.path} does not take memory of its clients (capability registeredMemory); ` +
        'use allocSharedMemory',
    );
  }

  /**
   * Registers a dma-buf with the TEE (TEE_IOC_SHM_REGISTER_FD, Linux 6.18 and later).
   * @param buf a DmaBuf, or the descriptor of a dma-buf from any other library. It stays the caller's and may be
   *   closed right afterwards.
   * @throws (rejects with) RangeError ERR_OUT_OF_RANGE, TypeError ERR_INVALID_ARG_VALUE if it is no dma-buf,
   *   ERR_TEE_NOT_SUPPORTED if this kernel cannot do it, TeeSystemError: EBADF if it is not open, EINVAL if the kernel does
   *   not take this one
   */
  async registerDmaBuf(buf: DmaBuf | number): Promise<SharedMemory> {
    return SharedMemory.registerDmaBuf(this.#owner(), buf, false);
  }

  /**
   * The same, blocking.
   * @throws as `registerDmaBuf` rejects
   */
  registerDmaBufSync(buf: DmaBuf | number): SharedMemory {
    return SharedMemory.registerDmaBuf(this.#owner(), buf, true) as SharedMemory;
  }

  #owner(): { n: Native; path: string; context: Handle<ContextHandle>; tee: TeeContext } {
    this.#handle.use();
    return { n: this.#n, path: this.version.path, context: this.#handle, tee: this };
  }

  /**
   * Closes the device, its sessions, their pools and its shared memory. They cannot be used any more at once; calls that were
   * made before run to their end first. An opening that was given up is not waited for: it keeps the device, and
   * what it shares, until it ends.
   * @returns resolves when all else is done; the same promise each time
   */
  close(): Promise<void> {
    try {
      return this.#closing ?? this.#close();
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #close(): Promise<void> {
    const { path } = this.version;
    const closing = closed(this.#n, this.#handle.close() ?? 0, path, `closing the TeeContext of ${path}`);
    // Before the pools are closed: their sessions ask for it.
    this.#closing = closing;
    for (const sessions of this.#pools) void sessions.close();
    this.#pools.clear();
    return closing;
  }

  /** Starts to close it and does not wait. */
  [Symbol.dispose](): void {
    this.close().catch((error: unknown) => debug('close of a context: %s', error));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** @internal For tests and measurements: what it holds at this moment; undefined when it is closed. */
  statistics(): ContextStatistics | undefined {
    if (this.#handle.closed) return undefined;
    this.#n.contextStatistics(this.#handle.use());
    return readStatistics(this.#n.answer);
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
