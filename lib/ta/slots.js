"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.slot = void 0;
exports.slotOf = slotOf;
const slots = new WeakMap();
/** The data of a slot; undefined of what is none. */
function slotOf(slot) {
    return typeof slot === 'object' && slot !== null ? slots.get(slot) : undefined;
}
function make(data) {
    const made = Object.freeze({});
    slots.set(made, data);
    return made;
}
const value = {
    /** Numbers for the TA. */
    in: ((...names) => make({ kind: 'value', direction: 'in', names })),
    /** Numbers from the TA. */
    out: ((...names) => make({ kind: 'value', direction: 'out', names })),
    /** Numbers that the TA may change. */
    inout: ((...names) => make({ kind: 'value', direction: 'inout', names })),
};
function bytesIn(name, options) {
    return make({ kind: 'bytes', direction: 'in', names: [name], options });
}
function bytesOut(name, options) {
    return make({ kind: 'bytes', direction: 'out', names: [name], options });
}
const bytes = {
    /** Bytes for the TA, copied before the call returns. */
    in: bytesIn,
    /**
     * Bytes from the TA: a new Uint8Array, cut to what the TA wrote. The argument of the same name is how much room there is,
     * in bytes, or a Uint8Array that they are written into; it can be left out.
     */
    out: bytesOut,
    /** Bytes that the TA may change. As many as went in come back, or fewer. */
    inout(name, options) {
        return make({ kind: 'bytes', direction: 'inout', names: [name], options });
    },
};
const structs = {
    /** A struct for the TA. */
    in(name, struct) {
        return make({ kind: 'struct', direction: 'in', names: [name], struct });
    },
    /** A struct from the TA. */
    out(name, struct) {
        return make({ kind: 'struct', direction: 'out', names: [name], struct });
    },
    /** A struct that the TA may change. */
    inout(name, struct) {
        return make({ kind: 'struct', direction: 'inout', names: [name], struct });
    },
};
function textIn(name, options) {
    return make({ kind: 'text', direction: 'in', names: [name], options });
}
/** UTF-8 without a NUL. */
const text = {
    /** Text for the TA. */
    in: textIn,
    /** Text from the TA. */
    out(name, options) {
        return make({ kind: 'text', direction: 'out', names: [name], options });
    },
    /** Text that the TA may change; it always has room for `max` bytes. */
    inout(name, options) {
        return make({ kind: 'text', direction: 'inout', names: [name], options });
    },
};
const memory = {
    /** Shared memory that the TA reads. */
    in: ((name, options = {}) => make({ kind: 'memory', direction: 'in', names: [name], options })),
    /** Shared memory that the TA writes; brings back the size that it reported, in bytes. */
    out: ((name, options = {}) => make({ kind: 'memory', direction: 'out', names: [name], options })),
    /** Shared memory that the TA reads and writes; brings back the size that it reported, in bytes. */
    inout: ((name, options = {}) => make({ kind: 'memory', direction: 'inout', names: [name], options })),
};
/** Makes the slots of commands. Seen from the client: `in` to the TA, `out` from it. */
exports.slot = { value, bytes, struct: structs, text, memory };
//# sourceMappingURL=slots.js.map