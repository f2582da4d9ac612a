"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.Handle = void 0;
exports.keepWhile = keepWhile;
/**
 * What is open in the addon: closed once, unusable at once, and closed and reported when the garbage collector took its
 * owner before. FinalizationRegistry calls back from the event loop, not from inside the collector; the ends of the
 * process and of worker threads are the addon's own business.
 *
 * @internal
 */
const errors_js_1 = require("./errors.js");
class Handle {
    /** In messages, behind an article: 'session with TA …'. */
    what;
    #number;
    #close;
    #parent;
    /**
     * @param owner the object that a user has
     * @param close closes it in the addon. It must not hold the owner, or that would live for ever
     * @param parent what it closes with
     */
    constructor(owner, what, number, close, parent) {
        this.what = what;
        this.#number = number;
        this.#close = close;
        this.#parent = parent;
        registry.register(owner, this);
    }
    /** Was it, or what it closes with, closed? */
    get closed() {
        return this.#number === 0 || this.#parent?.closed === true;
    }
    /** The addon's number of it; 0 when it was closed. */
    get number() {
        return this.#number;
    }
    /**
     * The addon's number of it.
     * @throws ERR_TEE_CLOSED
     */
    use() {
        if (this.closed)
            throw (0, errors_js_1.closedError)(`the ${this.what}`);
        return this.#number;
    }
    /** Closes it. Returns what the addon says; undefined if it was closed before. */
    close() {
        const number = this.#number;
        if (number === 0)
            return undefined;
        this.#number = 0;
        return this.#close(number);
    }
}
exports.Handle = Handle;
const registry = new FinalizationRegistry((handle) => {
    const closed = handle.closed;
    handle.close();
    if (closed)
        return;
    process.emitWarning(`A ${handle.what} was closed by the garbage collector; close it when it is no longer needed`, { type: 'ResourceWarning', code: 'TEE_HANDLE_NOT_CLOSED' });
});
const owners = new WeakMap();
/** Keeps an owner as long as somebody uses the memory that closing it would take away. */
function keepWhile(buffer, owner) {
    owners.set(buffer, owner);
}
//# sourceMappingURL=handle.js.map