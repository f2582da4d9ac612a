"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.NO_PARAMS = exports.buffer = exports.value = exports.Parameter = exports.NONE = exports.MAX_PARAMETERS = void 0;
exports.readParams = readParams;
exports.reportedSize = reportedSize;
exports.readOutputs = readOutputs;
exports.readFailedOutputs = readFailedOutputs;
exports.memoryOf = memoryOf;
exports.parametersOf = parametersOf;
exports.keepInputs = keepInputs;
exports.restoreInPlace = restoreInPlace;
exports.describeParam = describeParam;
/**
 * The parameters of a call. A call takes at most four; each is a pair of 32-bit values or a piece of memory, goes in,
 * out or both, and brings back what its type says.
 */
const validate_js_1 = require("./validate.js");
const errors_js_1 = require("./errors.js");
/** OP-TEE takes no more, whatever the kernel's own limit is. */
exports.MAX_PARAMETERS = 4;
/** No parameter. */
exports.NONE = { kind: 0 /* ParamKind.none */, a: 0, b: 0 };
/**
 * A parameter, made by `value`, `buffer` or a {@link SharedMemory}. Never changes, so it can be used again.
 * @typeParam Output what it brings back
 */
class Parameter {
    #spec;
    constructor(spec) {
        this.#spec = spec;
    }
    /** @internal */
    static make(spec) {
        return new Parameter(spec);
    }
    /** @internal Undefined if it is none: an object that only looks like one, say. */
    static specOf(param) {
        return typeof param === 'object' && param !== null && #spec in param ? param.#spec : undefined;
    }
}
exports.Parameter = Parameter;
/** Pairs of unsigned 32-bit numbers. */
exports.value = {
    /** Numbers for the TA. Brings back nothing. */
    in(a, b = 0) {
        return Parameter.make({ kind: 1 /* ParamKind.valueIn */, a: (0, validate_js_1.checkU32)(a, 'a'), b: (0, validate_js_1.checkU32)(b, 'b') });
    },
    /** Numbers from the TA. Brings back `{ a, b }`. */
    out() {
        return Parameter.make({ kind: 2 /* ParamKind.valueOut */, a: 0, b: 0 });
    },
    /** Numbers that the TA may change. Brings back `{ a, b }`. */
    inout(a, b = 0) {
        return Parameter.make({ kind: 3 /* ParamKind.valueInout */, a: (0, validate_js_1.checkU32)(a, 'a'), b: (0, validate_js_1.checkU32)(b, 'b') });
    },
};
const NULL_KINDS = {
    in: 21 /* ParamKind.nullIn */,
    out: 22 /* ParamKind.nullOut */,
    inout: 23 /* ParamKind.nullInout */,
};
function nullBuffer(direction) {
    if (!Object.hasOwn(NULL_KINDS, direction)) {
        throw (0, errors_js_1.invalidArgValue)('direction', direction, "must be 'in', 'out' or 'inout'");
    }
    return Parameter.make({ kind: NULL_KINDS[direction], a: 0, b: 0 });
}
function withBytes(kind, given) {
    const bytes = (0, validate_js_1.checkBytes)(given, 'bytes');
    return Parameter.make({ kind, a: 0, b: (0, validate_js_1.byteLengthOf)(bytes), bytes });
}
/**
 * Temporary buffers: memory that the TA sees for the one call only. What goes in is copied before `invoke` or
 * `openSession` returns, so the array is free again then and never changes. An empty buffer is not a NULL one: the TA
 * gets an address with a size of 0.
 */
exports.buffer = {
    /** Bytes for the TA. Brings back nothing. */
    in(bytes) {
        return withBytes(5 /* ParamKind.temporaryIn */, bytes);
    },
    /**
     * Bytes from the TA. Brings back a new Uint8Array, cut to what the TA wrote.
     * @param size how many bytes there is room for, 0 to 2^32 - 1
     */
    out(size) {
        return Parameter.make({ kind: 6 /* ParamKind.temporaryOut */, a: 0, b: (0, validate_js_1.checkInteger)(size, 'size', 0, validate_js_1.U32_MAX) });
    },
    /** Bytes that the TA may change. Brings back a new Uint8Array, cut to the size that the TA left. */
    inout(bytes) {
        return withBytes(7 /* ParamKind.temporaryInout */, bytes);
    },
    /**
     * Bytes from the TA, into memory of the caller's: `out` without a new array for each call. It is written when the call
     * has succeeded, as far as the size that the TA left reaches; what lies behind that, and all of it where the call fails,
     * stays as it is. Brings back `bytes` itself, or that part of it, of the same class.
     * @throws (the call) ERR_INVALID_ARG_VALUE where the memory was transferred, closed or made smaller in the meantime; the
     *   TA has succeeded then, and other outputs of the same call may have been written
     */
    into(bytes) {
        return withBytes(14 /* ParamKind.intoOut */, bytes);
    },
    /**
     * Bytes that the TA may change, changed where they are: `inout` without a new array for each call. They are copied
     * before `invoke` or `openSession` returns, and written as those of `into` are. Brings back the same.
     * @throws as `into`
     */
    inPlace(bytes) {
        return withBytes(15 /* ParamKind.inPlace */, bytes);
    },
    /**
     * The NULL buffer: no address at all, which by custom asks a TA how much it would need. `out` and `inout` bring back the
     * size that the TA reported (where it fails with TEE_ERROR_SHORT_BUFFER, it is in the error's `outputs`). Needs the
     * capability `nullMemref`.
     */
    null: nullBuffer,
};
/** No parameters. */
exports.NO_PARAMS = Object.freeze([]);
const NO_SPECS = Object.freeze([]);
/**
 * Reads what a caller gives as parameters. This can run code of the caller's; nothing that is done with the specs can.
 * @param nullMemref does the TEE take NULL buffers
 */
function readParams(params, nullMemref) {
    if (params === exports.NO_PARAMS)
        return NO_SPECS;
    if (!Array.isArray(params))
        throw (0, errors_js_1.invalidArgType)('params', 'an array', params);
    const count = params.length;
    if (!(count >= 0 && count <= exports.MAX_PARAMETERS)) {
        throw (0, errors_js_1.outOfRange)('params.length', `at most ${exports.MAX_PARAMETERS}`, count);
    }
    switch (count) {
        case 0:
            return NO_SPECS;
        case 1:
            return [readParam(params, 0, nullMemref)];
        case 2:
            return [readParam(params, 0, nullMemref), readParam(params, 1, nullMemref)];
        default: {
            const specs = [];
            for (let i = 0; i < count; i++)
                specs.push(readParam(params, i, nullMemref));
            return specs;
        }
    }
}
function readParam(params, i, nullMemref) {
    const param = params[i];
    if (param === undefined)
        return exports.NONE;
    const spec = Parameter.specOf(param);
    if (spec === undefined) {
        throw (0, errors_js_1.invalidArgType)(`params[${i}]`, 'made by value, buffer or shared memory, or undefined', param);
    }
    if (isNull(spec) && !nullMemref) {
        throw (0, errors_js_1.notSupported)(`params[${i}] is a NULL buffer, which this TEE or its driver does not take (capability nullMemref): ` +
            'pass an empty one, buffer.in(new Uint8Array(0)) or buffer.out(0), if the TA is content with that');
    }
    if (spec.shared?.handle.closed === true)
        throw (0, errors_js_1.closedError)(`params[${i}], a ${spec.shared.handle.what},`);
    return spec;
}
const isNull = ({ kind }) => kind >= 21 /* ParamKind.nullIn */ && kind <= 23 /* ParamKind.nullInout */;
/** Sizes that the TEE reported beyond the room of an output, by what the call brought back. */
const reported = new WeakMap();
let anyReported = false;
/**
 * How many bytes the TEE reported for an output of bytes. A TA can report more than there was room for and succeed
 * nevertheless; the output itself is cut to the room.
 * @param bytes what a call brought back for `buffer.out`, `inout`, `into` or `inPlace`
 * @returns in bytes; their own length unless the TEE reported more
 * @throws TypeError ERR_INVALID_ARG_TYPE
 */
function reportedSize(bytes) {
    (0, validate_js_1.checkBytes)(bytes, 'bytes');
    return reported.get(bytes) ?? (0, validate_js_1.byteLengthOf)(bytes);
}
function report(bytes, size, room) {
    if (size > room) {
        reported.set(bytes, size);
        anyReported = true;
    }
    else if (anyReported) {
        reported.delete(bytes);
    }
    return bytes;
}
/**
 * What a call that succeeded brought back.
 * @throws ERR_MEMORY_ALLOCATION_FAILED; ERR_INVALID_ARG_VALUE where the caller's own bytes have no room any more
 */
function readOutputs(specs, answer) {
    const found = [];
    for (let i = 0; i < specs.length; i++)
        found.push(readOutput(specs[i], answer, i));
    return found;
}
function readOutput(spec, answer, i) {
    switch (spec.kind) {
        case 2 /* ParamKind.valueOut */:
        case 3 /* ParamKind.valueInout */:
            // As integers, which V8 keeps without memory of their own where they are small.
            return { a: answer.a(i) >>> 0, b: answer.b(i) >>> 0 };
        case 6 /* ParamKind.temporaryOut */:
        case 7 /* ParamKind.temporaryInout */: {
            const bytes = answer.bytes(i);
            if (bytes === undefined)
                throw (0, errors_js_1.noMemory)(`an output of ${spec.b} bytes of a call that succeeded`);
            return report(bytes, answer.b(i), spec.b);
        }
        case 14 /* ParamKind.intoOut */:
        case 15 /* ParamKind.inPlace */: {
            if (answer.a(i) !== 1)
                throw lost(i, spec);
            const size = answer.b(i);
            return report((0, validate_js_1.partOf)(spec.bytes, Math.min(size, spec.b)), size, spec.b);
        }
        case 22 /* ParamKind.nullOut */:
        case 23 /* ParamKind.nullInout */:
        case 38 /* ParamKind.sharedOut */:
        case 39 /* ParamKind.sharedInout */:
            return answer.b(i);
        default:
            return undefined;
    }
}
function lost(i, spec) {
    return (0, errors_js_1.invalidArgValue)(`params[${i}]`, undefined, `has no room any more for the ${spec.b} bytes that it was given for: its memory was transferred, closed or made ` +
        'smaller during the call, which itself has succeeded');
}
/** What a call that failed brought back: values, and sizes as the TA left them. */
function readFailedOutputs(specs, answer) {
    return specs.map((spec, i) => {
        switch (spec.kind) {
            case 2 /* ParamKind.valueOut */:
            case 3 /* ParamKind.valueInout */:
                return { a: answer.a(i), b: answer.b(i) };
            case 6 /* ParamKind.temporaryOut */:
            case 7 /* ParamKind.temporaryInout */: {
                const data = answer.bytes(i);
                return data === undefined ? { size: answer.b(i) } : { size: answer.b(i), data };
            }
            // The caller's own bytes are as they were.
            case 14 /* ParamKind.intoOut */:
            case 15 /* ParamKind.inPlace */:
            case 22 /* ParamKind.nullOut */:
            case 23 /* ParamKind.nullInout */:
            case 38 /* ParamKind.sharedOut */:
            case 39 /* ParamKind.sharedInout */:
                return { size: answer.b(i) };
            default:
                return undefined;
        }
    });
}
const NAMES = {
    [0 /* ParamKind.none */]: 'none',
    [1 /* ParamKind.valueIn */]: 'value.in',
    [2 /* ParamKind.valueOut */]: 'value.out',
    [3 /* ParamKind.valueInout */]: 'value.inout',
    [5 /* ParamKind.temporaryIn */]: 'buffer.in',
    [6 /* ParamKind.temporaryOut */]: 'buffer.out',
    [7 /* ParamKind.temporaryInout */]: 'buffer.inout',
    [14 /* ParamKind.intoOut */]: 'buffer.into',
    [15 /* ParamKind.inPlace */]: 'buffer.inPlace',
    [21 /* ParamKind.nullIn */]: "buffer.null('in')",
    [22 /* ParamKind.nullOut */]: "buffer.null('out')",
    [23 /* ParamKind.nullInout */]: "buffer.null('inout')",
    [37 /* ParamKind.sharedIn */]: 'shm.in',
    [38 /* ParamKind.sharedOut */]: 'shm.out',
    [39 /* ParamKind.sharedInout */]: 'shm.inout',
};
/** All the memory that a call passes, in bytes. */
function memoryOf(specs) {
    return specs.reduce((sum, { kind, b }) => sum + (kind > 3 /* ParamKind.valueInout */ ? b : 0), 0);
}
/** Parameters made anew from what was read of a caller's. */
function parametersOf(specs) {
    return specs.map((spec) => (spec === exports.NONE ? undefined : Parameter.make(spec)));
}
/**
 * The same for calls that are made later: what goes in is copied now, so the caller's bytes are free again.
 * `restoreInPlace` brings outputs of `inPlace` to where they belong.
 */
function keepInputs(specs) {
    return specs.map((spec) => {
        if (spec.bytes === undefined || spec.kind === 14 /* ParamKind.intoOut */)
            return spec;
        const bytes = new Uint8Array((0, validate_js_1.byteLengthOf)(spec.bytes));
        bytes.set(spec.bytes);
        return { ...spec, bytes };
    });
}
/**
 * After a call with inputs that were kept: writes outputs of `inPlace` into the caller's own bytes.
 * @param specs the caller's
 * @param outputs what the call brought back, changed here
 * @throws ERR_INVALID_ARG_VALUE where the caller's own bytes have no room any more
 */
function restoreInPlace(specs, outputs) {
    specs.forEach((spec, i) => {
        if (spec.kind !== 15 /* ParamKind.inPlace */)
            return;
        const own = spec.bytes;
        const found = outputs[i];
        if ((0, validate_js_1.byteLengthOf)(own) < spec.b)
            throw lost(i, spec);
        Uint8Array.prototype.set.call(own, found);
        outputs[i] = report((0, validate_js_1.partOf)(own, (0, validate_js_1.byteLengthOf)(found)), reportedSize(found), spec.b);
    });
}
/** A parameter in a message: its kind and size, never its content, which can be a secret. */
function describeParam({ kind, a, b }) {
    const name = NAMES[kind];
    if (kind >= 37 /* ParamKind.sharedIn */)
        return `${name} of ${b} bytes at ${a}`;
    return kind > 3 /* ParamKind.valueInout */ && kind <= 15 /* ParamKind.inPlace */ ? `${name} of ${b} bytes` : name;
}
//# sourceMappingURL=parameters.js.map