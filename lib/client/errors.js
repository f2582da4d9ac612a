"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.AbortError = exports.TeeSystemError = exports.TeeError = void 0;
exports.describeErrno = describeErrno;
exports.invalidArgType = invalidArgType;
exports.invalidArgValue = invalidArgValue;
exports.outOfRange = outOfRange;
exports.closedError = closedError;
exports.wrongContext = wrongContext;
exports.noMemory = noMemory;
exports.bufferTooLarge = bufferTooLarge;
exports.notSupported = notSupported;
/** The errors of the client: their classes, and functions that make Node's usual argument errors. */
const node_buffer_1 = require("node:buffer");
const node_util_1 = require("node:util");
const results_js_1 = require("./results.js");
const ORIGINS = {
    api: 'the client API',
    comms: 'the communication with the TEE',
    tee: 'the TEE',
    'trusted-app': 'the TA',
    unknown: 'an unknown origin',
};
/** The TEE or the TA answered with a result other than TEE_SUCCESS. */
class TeeError extends Error {
    /**
     * The result's name, like `TEE_ERROR_SHORT_BUFFER`; of a described TA's own result that of the description, like
     * `NOTARY_LOCKED`; `TEE_0x12345678` if it has none.
     */
    code;
    /** The result, u32, exactly as the TEE or the TA gave it. */
    result;
    /** Which part answered. */
    origin;
    /** `origin` as a number, u32. */
    originCode;
    /** The TA's UUID. */
    uuid;
    /**
     * One entry per parameter: `{ a, b }` for a value output, `{ size, data? }` for a memory output, undefined for the
     * others. `size` is what the TA asked for, in bytes; with TEE_ERROR_SHORT_BUFFER it is more than the TA was given. `data`
     * is the content of a temporary buffer.
     */
    outputs;
    constructor(init) {
        const code = init.code ?? (0, results_js_1.resultName)(init.result);
        const origin = (0, results_js_1.originName)(init.originCode);
        const name = code.startsWith('TEE_0x')
            ? `result ${(0, results_js_1.hex32)(init.result)}`
            : `${code} (${(0, results_js_1.hex32)(init.result)})`;
        super(`${name} from ${ORIGINS[origin]} for ${init.asked}` + (init.hint === undefined ? '' : `: ${init.hint}`));
        this.code = code;
        this.result = init.result;
        this.origin = origin;
        this.originCode = init.originCode;
        this.uuid = init.uuid;
        if (init.command !== undefined)
            this.command = init.command;
        this.outputs = init.outputs ?? [];
        if (init.staleCancel === true)
            this.staleCancel = true;
    }
}
exports.TeeError = TeeError;
/** The operating system refused a call. The form is that of Node's own system errors. */
class TeeSystemError extends Error {
    /** The errno's name, like `EACCES`. */
    code;
    /** Negative, as in Node's own errors. */
    errno;
    /** The system call: `open`, `ioctl`, `mmap`, … */
    syscall;
    /**
     * What the system call was for: `TEE_IOC_INVOKE`, `DMA_HEAP_IOCTL_ALLOC`, `open`, …; or which bound it met:
     * `MemAvailable`, `memory cgroup`.
     */
    operation;
    constructor(init) {
        const { code, text } = describeErrno(init.errno);
        const what = init.syscall === init.operation ? init.syscall : `${init.syscall} ${init.operation}`;
        super(`${code}: ${text}, ${what}` +
            (init.path === undefined ? '' : ` '${init.path}'`) +
            (init.asked === undefined ? '' : ` for ${init.asked}`) +
            (init.hint === undefined ? '' : `: ${init.hint}`));
        this.code = code;
        this.errno = -init.errno;
        this.syscall = init.syscall;
        this.operation = init.operation;
        if (init.path !== undefined)
            this.path = init.path;
    }
}
exports.TeeSystemError = TeeSystemError;
for (const [type, name] of [
    [TeeError, 'TeeError'],
    [TeeSystemError, 'TeeSystemError'],
]) {
    Object.defineProperty(type.prototype, 'name', { value: name, configurable: true, writable: true });
}
/**
 * Name and text of an errno.
 * @param errno positive
 */
function describeErrno(errno) {
    const known = (0, node_util_1.getSystemErrorMap)().get(-errno);
    return known === undefined
        ? { code: `E${errno}`, text: `error ${errno}` }
        : { code: known[0], text: known[1] };
}
/** An AbortSignal aborted the call. The form is that of Node's own AbortError. */
class AbortError extends Error {
    code = 'ABORT_ERR';
    /**
     * @param reason the reason of the signal; it becomes `cause`
     * @param asked what was asked, for the message
     * @param teeError how the call ended
     * @param outcome what became of the call, in words
     */
    constructor(reason, asked, teeError, outcome = teeError === undefined ? 'did not take place' : `ended with ${teeError.code}`) {
        super(`The operation was aborted: ${asked} ${outcome}`, { cause: reason });
        if (teeError !== undefined)
            this.teeError = teeError;
    }
}
exports.AbortError = AbortError;
Object.defineProperty(AbortError.prototype, 'name', {
    value: 'AbortError',
    configurable: true,
    writable: true,
});
function withCode(error, code) {
    return Object.assign(error, { code });
}
function show(value) {
    if (typeof value === 'function')
        return `function ${value.name}`;
    const text = (0, node_util_1.inspect)(value, { depth: 0, breakLength: Infinity, maxArrayLength: 4, maxStringLength: 80 });
    return typeof value === 'object'
        ? text
        : `${typeof value} ${text}`.replace(/^undefined undefined$/, 'undefined');
}
/** @param expected what it must be: 'a number' */
function invalidArgType(name, expected, actual) {
    return withCode(new TypeError(`${name} must be ${expected}, not ${show(actual)}`), 'ERR_INVALID_ARG_TYPE');
}
/** @param problem what is wrong: 'must have 16 bytes, not 3' */
function invalidArgValue(name, actual, problem) {
    const given = typeof actual === 'string' ? `; got ${show(actual)}` : '';
    return withCode(new TypeError(`${name} ${problem}${given}`), 'ERR_INVALID_ARG_VALUE');
}
/** @param range what it must be: 'a whole number from 0 to 4' */
function outOfRange(name, range, actual) {
    return withCode(new RangeError(`${name} must be ${range}, not ${(0, node_util_1.inspect)(actual)}`), 'ERR_OUT_OF_RANGE');
}
/** @param what is closed: 'the session with TA …', 'params[1], …,' */
function closedError(what) {
    return withCode(new Error(`${what} is closed`), 'ERR_TEE_CLOSED');
}
function wrongContext(name) {
    return withCode(new Error(`${name} is shared memory of another TeeContext. Only the context that made it can use it: ` +
        'allocate or register it with the context of the session'), 'ERR_TEE_WRONG_CONTEXT');
}
/** @param what needed the memory */
function noMemory(what) {
    return withCode(new Error(`There is no memory for ${what}`), 'ERR_MEMORY_ALLOCATION_FAILED');
}
/** @param what is too large */
function bufferTooLarge(what) {
    return withCode(new RangeError(`${what} is larger than an ArrayBuffer can be in this runtime (${node_buffer_1.constants.MAX_LENGTH} bytes)`), 'ERR_BUFFER_TOO_LARGE');
}
/** @param problem a whole sentence without its stop */
function notSupported(problem) {
    return withCode(new Error(problem), 'ERR_TEE_NOT_SUPPORTED');
}
//# sourceMappingURL=errors.js.map