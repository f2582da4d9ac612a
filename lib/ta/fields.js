"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.bool = exports.u64 = exports.u32 = exports.u16 = exports.u8 = void 0;
exports.typeOf = typeOf;
exports.fieldOf = fieldOf;
exports.enumeration = enumeration;
exports.octets = octets;
exports.array = array;
exports.struct = struct;
exports.structOf = structOf;
/** The types of fields, as a description has them. */
const validate_js_1 = require("../client/validate.js");
const layout_js_1 = require("./layout.js");
const names_js_1 = require("./names.js");
const refuse_js_1 = require("./refuse.js");
/** The most bytes of a struct: a TA copies it onto its stack. */
const MAX_STRUCT_SIZE = 65536;
/** What is behind the objects that a description is written with. Users never have it. */
const types = new WeakMap();
const fields = new WeakMap();
/** The data of a type; undefined of what is none. */
function typeOf(type) {
    return isObject(type) ? types.get(type) : undefined;
}
/** The data of a value's field; undefined of what is none. */
function fieldOf(field) {
    return isObject(field) ? fields.get(field) : undefined;
}
const isObject = (value) => (typeof value === 'object' && value !== null) || typeof value === 'function';
function register(object, type) {
    types.set(object, type);
    return Object.freeze(object);
}
function scalar(type) {
    const named = (name, options) => {
        const field = Object.freeze({});
        fields.set(field, { name, type, default: options?.default });
        return field;
    };
    return register(named, type);
}
/** One byte, 0 to 255. */
exports.u8 = scalar({ kind: 'u8' });
/** Two bytes, 0 to 65,535. */
exports.u16 = scalar({ kind: 'u16' });
/** Four bytes, 0 to 2^32 - 1. */
exports.u32 = scalar({ kind: 'u32' });
/** Eight bytes, a bigint from 0 to 2^64 - 1. In a value it takes all of it: the upper half is a, the lower half is b. */
exports.u64 = scalar({ kind: 'u64' });
/** True or false: 1 or 0, in one byte of a struct. */
exports.bool = scalar({ kind: 'bool' });
/**
 * Names for numbers; JavaScript has the names. Four bytes in a struct.
 * @param members their names and numbers (u32): `{ OFF: 0, ON: 1 }`
 * @throws TypeError ERR_INVALID_ARG_VALUE where a name or a number is wrong, or is there twice
 */
function enumeration(members) {
    const place = 'enumeration';
    const given = Object.entries((0, refuse_js_1.checkRecord)(members, place, 'names and numbers'));
    if (given.length === 0)
        throw (0, refuse_js_1.refused)(place, 'has no members');
    const [names, values] = [new refuse_js_1.Seen(), new refuse_js_1.Seen()];
    const list = given.map(([name, value]) => {
        const at = `${place}.${name}`;
        (0, refuse_js_1.refuse)(at, (0, names_js_1.memberProblem)(name));
        names.add((0, names_js_1.cNameOf)(name), at, 'name in C');
        values.add(value, at, 'number');
        return { name, value: (0, refuse_js_1.checkNumber)(value, at, 'the number', 0, validate_js_1.U32_MAX) };
    });
    return scalar({ kind: 'enumeration', members: list });
}
/**
 * Exactly so many bytes: a Uint8Array, and `uint8_t name[length]` in C.
 * @throws TypeError ERR_INVALID_ARG_VALUE
 */
function octets(length) {
    return register({}, { kind: 'octets', length: (0, refuse_js_1.checkNumber)(length, 'octets', 'the length', 1, MAX_STRUCT_SIZE) });
}
/**
 * Exactly so many of one type, which can be a struct: an array in both languages.
 * @throws TypeError ERR_INVALID_ARG_VALUE
 */
function array(element, length) {
    const type = typeOf(element);
    if (type === undefined)
        throw (0, refuse_js_1.refused)('array', 'its element must be a type, like u32 or a struct');
    return register({}, { kind: 'array', element: type, length: (0, refuse_js_1.checkNumber)(length, 'array', 'the length', 1, MAX_STRUCT_SIZE) });
}
/**
 * A struct with the layout that C has on arm64: each field at a multiple of its alignment, little endian. What lies between
 * fields is sent as zeros.
 * @param name as in C, where the TA's name stands before it: 'config' becomes `struct notary_config`
 * @param members the fields in their order in memory: `{ level: u8, limit: u64, name: octets(16) }`
 * @throws TypeError ERR_INVALID_ARG_VALUE with the place: 'config.level: …'
 */
function struct(name, members) {
    (0, refuse_js_1.refuse)('struct', (0, names_js_1.structProblem)(name));
    const given = Object.entries((0, refuse_js_1.checkRecord)(members, name, 'the fields'));
    if (given.length === 0)
        throw (0, refuse_js_1.refused)(name, 'has no fields');
    const names = new refuse_js_1.Seen();
    const laid = given.map(([field, member]) => {
        const place = `${name}.${field}`;
        (0, refuse_js_1.refuse)(place, (0, names_js_1.variableProblem)(field));
        names.add((0, names_js_1.cNameOf)(field), place, 'name in C');
        const type = typeOf(member);
        if (type === undefined)
            throw (0, refuse_js_1.refused)(place, 'must be a type, like u32, octets(16) or another struct');
        return [field, type];
    });
    const layout = (0, layout_js_1.layOut)(name, laid);
    if (layout.size > MAX_STRUCT_SIZE) {
        throw (0, refuse_js_1.refused)(name, `has ${layout.size} bytes; at most ${MAX_STRUCT_SIZE} fit where a TA copies it`);
    }
    return register({ name, size: layout.size }, { kind: 'struct', struct: layout });
}
/** The struct of an object that `struct` made; undefined of anything else. */
function structOf(value) {
    const type = typeOf(value);
    return type?.kind === 'struct' ? type.struct : undefined;
}
//# sourceMappingURL=fields.js.map