"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.DmaBuf = void 0;
const node_buffer_1 = require("node:buffer");
const errors_js_1 = require("./errors.js");
const handle_js_1 = require("./handle.js");
const native_js_1 = require("./native.js");
const validate_js_1 = require("./validate.js");
const EBUSY = 16;
// DMA_BUF_SYNC_* of linux/dma-buf.h
const SYNC_ACCESS = { read: 1, write: 2, readwrite: 3 };
const SYNC_PHASE = { start: 0, end: 4 };
/** A buffer that devices share: memory behind a descriptor. From `DmaHeap.alloc` or `DmaBuf.fromFd`. */
class DmaBuf {
    /** In bytes: the size that was asked, rounded up to whole pages by the kernel. */
    size;
    #n;
    #fd;
    #handle;
    #map;
    constructor(n, data) {
        this.size = data.size;
        this.#n = n;
        this.#fd = data.fd;
        const close = (buf) => n.close(buf);
        this.#handle = new handle_js_1.Handle(this, `DmaBuf of ${data.size} bytes`, data.buf, close);
    }
    /** @internal */
    static make(n, data) {
        return new DmaBuf(n, data);
    }
    /**
     * @internal Its descriptor.
     * @throws ERR_TEE_CLOSED
     */
    static use(buf, name) {
        if (buf.#handle.closed)
            throw (0, errors_js_1.closedError)(`${name}, a ${buf.#handle.what},`);
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
    static fromFd(fd, options = {}) {
        (0, validate_js_1.checkFd)(fd, 'fd');
        (0, validate_js_1.checkKnown)(options, 'options', ['own']);
        const { own = false } = options;
        (0, validate_js_1.checkBoolean)(own, 'options.own');
        const n = (0, native_js_1.native)();
        const { open, link } = n.describeDescriptor(fd);
        if (open && link !== undefined && !link.startsWith('/dmabuf:')) {
            throw (0, errors_js_1.invalidArgValue)('fd', undefined, `must be a dma-buf, but descriptor ${fd} is ${link}`);
        }
        const data = n.adoptDmaBuf(fd, own);
        if ('errno' in data) {
            if (data.errno === EBUSY) {
                throw (0, errors_js_1.invalidArgValue)('fd', undefined, `is descriptor ${fd}, which another object of this package closes`);
            }
            throw new errors_js_1.TeeSystemError({ ...data, asked: `DmaBuf.fromFd(${fd})` });
        }
        return new DmaBuf(n, data);
    }
    /** Was it closed? */
    get closed() {
        return this.#handle.closed;
    }
    /** The descriptor, for passing on; it stays this object's own, which closes it. -1 when this is closed. */
    get fd() {
        return this.closed ? -1 : this.#fd;
    }
    /**
     * Maps it for the CPU, whole; the same ArrayBuffer each time, empty after close. Use it between `sync('start', …)` and
     * `sync('end', …)`, so that the CPU and the devices see the same bytes.
     * @throws TeeSystemError of mmap where it is protected memory, which no CPU code outside the TEE can reach;
     *   ERR_BUFFER_TOO_LARGE where it is larger than an ArrayBuffer can be (4 GiB on Node.js 20); ERR_TEE_NOT_SUPPORTED where
     *   the runtime does not allow buffers over memory from outside; ERR_TEE_CLOSED
     */
    map() {
        if (this.#map !== undefined)
            return this.#map;
        const handle = this.#handle.use();
        if (this.size > node_buffer_1.constants.MAX_LENGTH)
            throw (0, errors_js_1.bufferTooLarge)(`the DmaBuf of ${this.size} bytes`);
        const map = this.#n.mapDmaBuf(handle);
        if (map === undefined) {
            throw (0, errors_js_1.notSupported)('This runtime does not allow an ArrayBuffer over memory from outside, which map() needs');
        }
        if ('errno' in map)
            throw this.#error(map, 'map()');
        this.#map = map;
        (0, handle_js_1.keepWhile)(map, this);
        return map;
    }
    /**
     * Says that the CPU's access begins or ends (DMA_BUF_IOCTL_SYNC).
     * @param phase when
     * @param access what the CPU does between the two
     * @throws TypeError ERR_INVALID_ARG_VALUE, TeeSystemError, ERR_TEE_CLOSED
     */
    sync(phase, access) {
        if (!Object.hasOwn(SYNC_PHASE, phase))
            throw (0, errors_js_1.invalidArgValue)('phase', phase, "must be 'start' or 'end'");
        if (!Object.hasOwn(SYNC_ACCESS, access)) {
            throw (0, errors_js_1.invalidArgValue)('access', access, "must be 'read', 'write' or 'readwrite'");
        }
        const failed = this.#n.syncDmaBuf(this.#handle.use(), SYNC_PHASE[phase] | SYNC_ACCESS[access]);
        if (failed !== undefined)
            throw this.#error(failed, `sync('${phase}', '${access}')`);
    }
    #error(failed, asked) {
        const { code } = (0, errors_js_1.describeErrno)(failed.errno);
        const protectedMemory = failed.syscall === 'mmap' && code !== 'ENOMEM';
        return new errors_js_1.TeeSystemError({
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
    close() {
        this.#handle.close();
        this.#map = undefined; // it is detached, or somebody has moved it
    }
    [Symbol.dispose]() {
        this.close();
    }
}
exports.DmaBuf = DmaBuf;
//# sourceMappingURL=dma-buf.js.map