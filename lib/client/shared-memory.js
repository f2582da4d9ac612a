"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.SharedMemory = void 0;
const types_1 = require("node:util/types");
const dma_buf_js_1 = require("./dma-buf.js");
const errors_js_1 = require("./errors.js");
const handle_js_1 = require("./handle.js");
const hints_js_1 = require("./hints.js");
const jobs_js_1 = require("./jobs.js");
const parameters_js_1 = require("./parameters.js");
const validate_js_1 = require("./validate.js");
const EBADF = 9;
const EINVAL = 22;
/**
 * Memory that stays shared with the TEE over many calls. Made by `allocSharedMemory`, `registerSharedMemory` and
 * `registerDmaBuf` of a TeeContext; can be used by sessions of that context only.
 */
class SharedMemory {
    /** The kernel's id of it, valid on this context only. */
    id;
    /** In bytes: as asked; of a dma-buf its whole. */
    size;
    #owner;
    #origin;
    #fd;
    #shared;
    #buffer;
    constructor(owner, origin, data) {
        const { n, context } = owner;
        this.id = data.id;
        this.size = data.size;
        this.#owner = owner;
        this.#origin = origin;
        this.#fd = data.fd;
        const close = (memory) => n.close(memory);
        const what = `SharedMemory of ${data.size} bytes`;
        const handle = new handle_js_1.Handle(this, what, data.memory, close, context);
        this.#shared = { handle, isDmaBuf: origin === 'dma-buf', owner: this };
    }
    /** What was made; throws what the caller gets where it was not. */
    static #made(owner, origin, failed) {
        return (data) => {
            if ('errno' in data) {
                owner.context.use(); // closed meanwhile?
                throw failed(data);
            }
            const memory = new SharedMemory(owner, origin, data);
            if (owner.context.closed)
                memory.close();
            owner.context.use();
            return memory;
        };
    }
    /** @internal */
    static alloc(owner, size) {
        const started = owner.n.allocSharedMemory(owner.context.use(), checkSize(size));
        return (0, jobs_js_1.finished)(owner.n, started, SharedMemory.#allocated(owner, size));
    }
    /** @internal */
    static allocSync(owner, size) {
        const made = owner.n.allocSharedMemorySync(owner.context.use(), checkSize(size));
        return SharedMemory.#allocated(owner, size)(made);
    }
    static #allocated(owner, size) {
        const asked = `allocSharedMemory of ${size} bytes`;
        return SharedMemory.#made(owner, 'allocated', (failure) => memoryError(failure, owner, asked, size));
    }
    /** @internal */
    static register(owner, view) {
        const size = checkView(view);
        const started = owner.n.registerSharedMemory(owner.context.use(), view);
        return (0, jobs_js_1.finished)(owner.n, started, SharedMemory.#registered(owner, size));
    }
    /** @internal */
    static registerSync(owner, view) {
        const size = checkView(view);
        const made = owner.n.registerSharedMemorySync(owner.context.use(), view);
        return SharedMemory.#registered(owner, size)(made);
    }
    static #registered(owner, size) {
        const asked = `registerSharedMemory of ${size} bytes`;
        return SharedMemory.#made(owner, 'registered', (failure) => memoryError(failure, owner, asked, size));
    }
    /** @internal */
    static registerDmaBuf(owner, buf) {
        const fd = checkDmaBuf(owner, buf);
        const started = owner.n.registerDmaBuf(owner.context.use(), fd);
        return (0, jobs_js_1.finished)(owner.n, started, SharedMemory.#ofDmaBuf(owner, fd));
    }
    /** @internal */
    static registerDmaBufSync(owner, buf) {
        const fd = checkDmaBuf(owner, buf);
        return SharedMemory.#ofDmaBuf(owner, fd)(owner.n.registerDmaBufSync(owner.context.use(), fd));
    }
    static #ofDmaBuf(owner, fd) {
        return SharedMemory.#made(owner, 'dma-buf', (failure) => dmaBufError(owner, fd, failure));
    }
    /** Was it, or its context, closed? */
    get closed() {
        return this.#shared.handle.closed;
    }
    /**
     * The tee_shm descriptor, for passing on; it stays this object's own, which closes it. -1 when this is closed.
     */
    get fd() {
        return this.closed ? -1 : this.#fd;
    }
    /**
     * The shared pages themselves, of allocated memory: what the TA writes appears here and the other way round.
     * Has a byteLength of 0 after close. Undefined for registered memory (the caller has it already) and dma-bufs
     * (see `DmaBuf.map`), and where the runtime does not allow buffers over memory from outside: use `read` and `write`.
     */
    get buffer() {
        if (this.closed && this.#origin === 'allocated')
            return (this.#buffer ??= new ArrayBuffer(0));
        if (this.#buffer === undefined && this.#origin === 'allocated') {
            this.#buffer = this.#owner.n.sharedMemoryBuffer(this.#shared.handle.use());
            if (this.#buffer !== undefined)
                (0, handle_js_1.keepWhile)(this.#buffer, this);
        }
        return this.#buffer;
    }
    /**
     * A copy of a part of it.
     * @param offset in bytes
     * @param length in bytes; all that follows the offset unless told otherwise
     * @throws RangeError ERR_OUT_OF_RANGE; ERR_TEE_NOT_SUPPORTED for dma-bufs; ERR_TEE_CLOSED
     */
    read(offset = 0, length) {
        const handle = this.#reachable();
        const count = (0, validate_js_1.checkRange)(offset, length, this.size, 'offset', 'length');
        const bytes = this.#owner.n.readSharedMemory(handle, offset, count);
        if (typeof bytes !== 'object')
            throw (0, errors_js_1.noMemory)(`a copy of ${count} bytes`);
        return bytes;
    }
    /**
     * Copies bytes into it.
     * @param offset where in it they go, in bytes
     * @throws as `read`
     */
    write(bytes, offset = 0) {
        const handle = this.#reachable();
        const length = (0, validate_js_1.byteLengthOf)((0, validate_js_1.checkBytes)(bytes, 'bytes'));
        (0, validate_js_1.checkInteger)(offset, 'offset', 0, this.size);
        (0, validate_js_1.checkInteger)(length, 'bytes.byteLength', 0, this.size - offset);
        this.#owner.n.writeSharedMemory(handle, bytes, offset);
    }
    /** The handle of memory that the CPU can read and write. */
    #reachable() {
        const handle = this.#shared.handle.use();
        if (!this.#shared.isDmaBuf)
            return handle;
        throw (0, errors_js_1.notSupported)('A registered dma-buf is not read or written through its registration: use map() and sync() of the DmaBuf, ' +
            'or, if it is protected memory, which no CPU code outside the TEE can reach, a TA');
    }
    /** As a parameter that the TA only reads. Brings back nothing. */
    in(range) {
        return this.#parameter(37 /* ParamKind.sharedIn */, range);
    }
    /** As a parameter that the TA writes. Brings back the size that it reported, which can be more than there was room for. */
    out(range) {
        return this.#parameter(38 /* ParamKind.sharedOut */, range);
    }
    /** As a parameter that the TA reads and writes. Brings back the same. */
    inout(range) {
        return this.#parameter(39 /* ParamKind.sharedInout */, range);
    }
    #parameter(kind, range) {
        this.#shared.handle.use();
        const shared = this.#shared;
        if (range === undefined)
            return parameters_js_1.Parameter.make({ kind, a: 0, b: this.size, shared });
        (0, validate_js_1.checkOptions)(range, 'range');
        const { offset = 0, size: asked } = range;
        const size = (0, validate_js_1.checkRange)(offset, asked, this.size, 'range.offset', 'range.size');
        return parameters_js_1.Parameter.make({ kind, a: offset, b: size, shared });
    }
    /**
     * Ends the sharing. It cannot be used any more at once, `buffer` becomes empty, and its pages are given back; what calls
     * under way still use is released when they are done. A buffer that was moved (`transfer()`, `postMessage`) stays
     * readable.
     */
    close() {
        this.#shared.handle.close();
        this.#buffer = undefined; // it is detached, or somebody has moved it
    }
    [Symbol.dispose]() {
        this.close();
    }
}
exports.SharedMemory = SharedMemory;
function checkSize(size) {
    return (0, validate_js_1.checkInteger)(size, 'size', 1, validate_js_1.U32_MAX);
}
/** Returns its size in bytes. */
function checkView(view) {
    (0, validate_js_1.checkBytes)(view, 'view');
    const memory = (0, validate_js_1.bufferOf)(view);
    if (!(0, types_1.isSharedArrayBuffer)(memory)) {
        throw (0, errors_js_1.invalidArgValue)('view', undefined, 'must be over a SharedArrayBuffer: an ArrayBuffer can be moved or freed while the TEE still writes to it. ' +
            'allocSharedMemory gives an ArrayBuffer that the TEE shares');
    }
    if (memory.growable === true) {
        throw (0, errors_js_1.invalidArgValue)('view', undefined, 'must be over a SharedArrayBuffer of fixed length, not a growable one');
    }
    const size = (0, validate_js_1.byteLengthOf)(view);
    if (size === 0)
        throw (0, errors_js_1.invalidArgValue)('view', undefined, 'must not be empty');
    return size;
}
/** Returns its descriptor. */
function checkDmaBuf({ n, path }, buf) {
    if (buf instanceof dma_buf_js_1.DmaBuf)
        return dma_buf_js_1.DmaBuf.use(buf, 'buf');
    if (typeof buf !== 'number')
        throw (0, errors_js_1.invalidArgType)('buf', 'a DmaBuf or a file descriptor', buf);
    checkIsDmaBuf(n, (0, validate_js_1.checkFd)(buf, 'buf'), path);
    return buf;
}
function memoryError(failed, { path }, asked, size) {
    const hint = (0, hints_js_1.memoryHint)((0, errors_js_1.describeErrno)(failed.errno).code, failed.operation, size);
    return new errors_js_1.TeeSystemError({ ...failed, path, asked, hint });
}
const REGISTER_FD = 'TEE_IOC_SHM_REGISTER_FD';
function checkIsDmaBuf(n, fd, path) {
    const { open, link } = n.describeDescriptor(fd);
    if (!open) {
        throw new errors_js_1.TeeSystemError({
            errno: EBADF,
            syscall: 'ioctl',
            operation: REGISTER_FD,
            path,
            asked: `registerDmaBuf(${fd})`,
            hint: `no file is open as descriptor ${fd} in this process`,
        });
    }
    if (link !== undefined && !link.startsWith('/dmabuf:')) {
        throw (0, errors_js_1.invalidArgValue)('buf', undefined, `must be a dma-buf, but descriptor ${fd} is ${link}`);
    }
}
/** The kernel says EINVAL to everything, so the reason is found by excluding the others. */
function dmaBufError({ n, path, context }, fd, failed) {
    if (failed.errno === EINVAL || (0, errors_js_1.describeErrno)(failed.errno).code === 'ENOTTY') {
        if (!n.hasRegisterDmaBuf(context.use())) {
            return (0, errors_js_1.notSupported)(`This kernel cannot register a dma-buf with a TEE: ${path} has no ${REGISTER_FD} (Linux 6.18 and later have it)`);
        }
    }
    const heaps = (0, hints_js_1.visibleDmaHeaps)().filter((name) => name.startsWith('protected,'));
    const hint = failed.errno === EINVAL
        ? 'it is a dma-buf, and this kernel has the call, but it accepts only dma-bufs of its ' +
            "TEE's own protected heaps" +
            (heaps.length > 0 ? `, which are here: ${heaps.join(', ')}` : ', of which there are none here')
        : undefined;
    return new errors_js_1.TeeSystemError({ ...failed, path, asked: `registerDmaBuf(${fd})`, hint });
}
//# sourceMappingURL=shared-memory.js.map