"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.Answer = void 0;
exports.native = native;
exports.failureOf = failureOf;
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
const node_buffer_1 = require("node:buffer");
const node_worker_threads_1 = require("node:worker_threads");
const addon_js_1 = require("./addon.js");
/** What a job brought back. Valid only until code of a user's runs. */
class Answer {
    #numbers;
    #at;
    #outputs;
    #first;
    constructor(numbers, index = 0, outputs) {
        this.#numbers = numbers;
        this.#at = index * 15 /* Place.length */;
        this.#outputs = outputs;
        this.#first = index * 4;
    }
    /** @param place of {@link Place} */
    number(place) {
        return this.#numbers[this.#at + place];
    }
    /** Did the TEE answer with TEE_SUCCESS? */
    get succeeded() {
        return this.number(1 /* Place.status */) === 0 /* Status.answered */ && this.number(3 /* Place.result */) === 0;
    }
    /** A value's a. Of an intoOut or inPlace: 1 if there was room for the output. */
    a(param) {
        return this.#numbers[this.#at + 7 /* Place.params */ + 2 * param];
    }
    /** A value's b; a memory's size as the TEE reported it, which can be more than there was room for. */
    b(param) {
        return this.#numbers[this.#at + 7 /* Place.params */ + 2 * param + 1];
    }
    /** A temporary output, cut to what the TA wrote. Undefined if there was no memory for it. */
    bytes(param) {
        return this.#outputs?.[this.#first + param];
    }
    /** What a job that is no call has made. */
    get made() {
        return this.#outputs?.[this.#first];
    }
}
exports.Answer = Answer;
/** How many records one delivery holds at most. */
const BATCH = 64;
let loaded;
/**
 * The addon, loaded at the first call.
 * @throws Error with the reason, and what to do, if it cannot be loaded; code ERR_DLOPEN_DISABLED, or
 *   ERR_TEE_ADDON_MISSING, or that of process.dlopen
 */
function native() {
    return (loaded ??= attach((0, addon_js_1.loadAddon)()));
}
function attach(addon) {
    const records = new Float64Array(new SharedArrayBuffer(BATCH * 15 /* Place.length */ * Float64Array.BYTES_PER_ELEMENT));
    const settle = new Map();
    const tell = new TellInOrder();
    const functions = addon.attach(records, (count, outputs) => {
        for (let i = 0; i < count; i++) {
            const answer = new Answer(records, i, outputs);
            const ticket = answer.number(0 /* Place.ticket */);
            const read = settle.get(ticket);
            settle.delete(ticket);
            if (read !== undefined)
                tell.add(read(answer));
        }
        tell.next();
    }, node_buffer_1.constants.MAX_LENGTH);
    // From here on no buffer can be moved, so the pages of all others can go with the thread.
    if (!node_worker_threads_1.isMainThread)
        process.once('exit', () => functions.detachBuffers());
    // In an object of its own: one that Node-API filled property by property is a hash table for V8.
    return { ...functions, records, settle };
}
/** Users are told in the order of their calls: whoever comes behind an error waits until that one is known. */
class TellInOrder {
    #queue = [];
    #told = 0;
    #waits = false;
    #known = () => {
        this.#waits = false;
        this.next();
    };
    add(tell) {
        this.#queue.push(tell);
    }
    next() {
        while (!this.#waits && this.#told < this.#queue.length) {
            this.#waits = this.#queue[this.#told++]?.(this.#known) === true;
        }
        if (this.#told < this.#queue.length)
            return;
        this.#queue = [];
        this.#told = 0;
    }
}
/** The words for an errno of a call. */
function failureOf(n, errno, operation) {
    return { ...(n.operations[operation] ?? { operation: 'unknown', syscall: 'unknown' }), errno };
}
//# sourceMappingURL=native.js.map