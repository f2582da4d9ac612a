"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.sizeOf = sizeOf;
exports.alignmentOf = alignmentOf;
exports.layOut = layOut;
/**
 * The layout of structs, as C has it on arm64: each field at a multiple of its own alignment, the struct's size a multiple
 * of the largest. Numbers are little endian. All of it is plain data.
 */
const names_js_1 = require("./names.js");
/** What a type takes, in bytes. */
function sizeOf(type) {
    switch (type.kind) {
        case 'u8':
        case 'bool':
            return 1;
        case 'u16':
            return 2;
        case 'u32':
        case 'enumeration':
            return 4;
        case 'u64':
            return 8;
        case 'octets':
            return type.length;
        case 'array':
            return type.length * sizeOf(type.element);
        case 'struct':
            return type.struct.size;
    }
}
/** What a type's address is a multiple of, in bytes. */
function alignmentOf(type) {
    switch (type.kind) {
        case 'octets':
            return 1;
        case 'array':
            return alignmentOf(type.element);
        case 'struct':
            return type.struct.alignment;
        default:
            return sizeOf(type);
    }
}
const alignUp = (offset, alignment) => Math.ceil(offset / alignment) * alignment;
/**
 * Lays out a struct.
 * @param fields at least one, in their order in memory
 */
function layOut(name, fields) {
    const alignment = Math.max(...fields.map(([, type]) => alignmentOf(type)));
    const laid = [];
    let offset = 0;
    fields.forEach(([field, type], i) => {
        const size = sizeOf(type);
        const next = fields[i + 1]?.[1];
        const end = alignUp(offset + size, next === undefined ? alignment : alignmentOf(next));
        const padding = end - offset - size;
        laid.push({
            name: field,
            cName: (0, names_js_1.cNameOf)(field),
            type,
            offset,
            size,
            alignment: alignmentOf(type),
            padding,
        });
        offset = end;
    });
    return { name, cName: (0, names_js_1.cNameOf)(name), size: offset, alignment, fields: laid };
}
//# sourceMappingURL=layout.js.map