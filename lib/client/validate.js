"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.bufferOf = exports.byteLengthOf = exports.U32_MAX = void 0;
exports.checkInteger = checkInteger;
exports.checkU32 = checkU32;
exports.checkFd = checkFd;
exports.partOf = partOf;
exports.checkBytes = checkBytes;
exports.checkBoolean = checkBoolean;
exports.checkOptions = checkOptions;
exports.checkKnown = checkKnown;
exports.checkString = checkString;
exports.checkSignal = checkSignal;
exports.checkRange = checkRange;
/** Checks of arguments. Each names the parameter in its error. */
const types_1 = require("node:util/types");
const errors_js_1 = require("./errors.js");
exports.U32_MAX = 0xffffffff;
/**
 * A whole number from `min` to `max`.
 * @throws TypeError ERR_INVALID_ARG_TYPE; RangeError ERR_OUT_OF_RANGE
 */
function checkInteger(value, name, min, max) {
    if (typeof value !== 'number')
        throw (0, errors_js_1.invalidArgType)(name, 'a number', value);
    if (!Number.isInteger(value) || value < min || value > max) {
        throw (0, errors_js_1.outOfRange)(name, `a whole number from ${min} to ${max}`, value);
    }
    return value;
}
/** An unsigned 32-bit number, like the TEE's values, commands and results. */
function checkU32(value, name) {
    if (typeof value === 'number' && value >>> 0 === value)
        return value;
    return checkInteger(value, name, 0, exports.U32_MAX);
}
/** A file descriptor. 0 is valid. */
function checkFd(value, name) {
    return checkInteger(value, name, 0, 0x7fffffff);
}
/** A getter of all typed arrays, which no class of a user's has overridden. */
function intrinsic(name) {
    const typedArray = Object.getPrototypeOf(Uint8Array.prototype);
    const { get } = Object.getOwnPropertyDescriptor(typedArray, name);
    return (bytes) => Reflect.apply(get, bytes, []);
}
// What the array is, whatever getters of its own class say.
exports.byteLengthOf = intrinsic('byteLength');
const byteOffsetOf = intrinsic('byteOffset');
exports.bufferOf = intrinsic('buffer');
/** The array itself where it has that length, else the first part of it, of the same class. No code of a user's runs. */
function partOf(bytes, length) {
    if (length >= (0, exports.byteLengthOf)(bytes))
        return bytes;
    const part = new Uint8Array((0, exports.bufferOf)(bytes), byteOffsetOf(bytes), length);
    const prototype = Object.getPrototypeOf(bytes);
    if (prototype !== Uint8Array.prototype)
        Object.setPrototypeOf(part, prototype);
    return part;
}
/** A Uint8Array (a Buffer is one) of any realm. */
function checkBytes(value, name) {
    if (!(0, types_1.isUint8Array)(value))
        throw (0, errors_js_1.invalidArgType)(name, 'a Uint8Array', value);
    return value;
}
function checkBoolean(value, name) {
    if (typeof value !== 'boolean')
        throw (0, errors_js_1.invalidArgType)(name, 'a boolean', value);
    return value;
}
/** An options object, or nothing. */
function checkOptions(value, name) {
    if (value !== undefined && (typeof value !== 'object' || value === null || Array.isArray(value))) {
        throw (0, errors_js_1.invalidArgType)(name, 'an object', value);
    }
}
/** An options object, or nothing, with these names only: a misspelt one would be ignored, and nobody told. */
function checkKnown(value, name, names) {
    checkOptions(value, name);
    const unknown = Object.keys(value ?? {}).find((key) => !names.includes(key));
    if (unknown !== undefined)
        throw (0, errors_js_1.invalidArgValue)(name, value, `has no ${unknown}; there are ${names.join(', ')}`);
}
function checkString(value, name) {
    if (typeof value !== 'string')
        throw (0, errors_js_1.invalidArgType)(name, 'a string', value);
    return value;
}
/** An AbortSignal of any realm: an object with `aborted` and the functions to add and remove listeners. */
function checkSignal(value, name) {
    if (typeof value !== 'object' ||
        value === null ||
        !('aborted' in value) ||
        typeof value.addEventListener !== 'function' ||
        typeof value.removeEventListener !== 'function') {
        throw (0, errors_js_1.invalidArgType)(name, 'an AbortSignal', value);
    }
    return value;
}
/**
 * A part of `size` bytes of memory. Offset and length are checked separately, so no sum can overflow.
 * @returns the length; if none is given, everything after the offset
 */
function checkRange(offset, length, size, offsetName, lengthName) {
    const from = checkInteger(offset, offsetName, 0, size);
    if (length === undefined)
        return size - from;
    return checkInteger(length, lengthName, 0, size - from);
}
//# sourceMappingURL=validate.js.map