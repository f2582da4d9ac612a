"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.Seen = void 0;
exports.refused = refused;
exports.refuse = refuse;
exports.checkRecord = checkRecord;
exports.checkNames = checkNames;
exports.checkNumber = checkNumber;
const errors_js_1 = require("../client/errors.js");
/**
 * What is wrong in a description, with its place.
 * @param place 'notary.commands.hash.slots[1]'
 * @param problem a whole sentence without its stop
 */
function refused(place, problem) {
    return (0, errors_js_1.invalidArgValue)(`${place}:`, undefined, problem);
}
/** Throws where there is a problem. */
function refuse(place, problem) {
    if (problem !== undefined)
        throw refused(place, problem);
}
/**
 * A place is checked once, by its position in a list; returns undefined where a value is in there for the first time.
 * @param what 'id', 'name'
 */
class Seen {
    #places = new Map();
    /** @throws where another place has the same */
    add(value, place, what) {
        const other = this.#places.get(value);
        if (other !== undefined)
            throw refused(place, `its ${what} is that of ${other}, too`);
        this.#places.set(value, place);
    }
}
exports.Seen = Seen;
/** An object, as a caller wrote it: a record of anything. */
function checkRecord(value, place, what) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
        throw refused(place, `must be an object with ${what}`);
    }
    return value;
}
/** The names in a record must be among these. */
function checkNames(value, place, names) {
    const unknown = Object.keys(value).find((key) => !names.includes(key));
    if (unknown !== undefined)
        throw refused(place, `there is no '${unknown}' here; there are ${names.join(', ')}`);
}
/** A whole number from `min` to `max`. */
function checkNumber(value, place, what, min, max) {
    if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
        throw refused(place, `${what} must be a whole number from ${min} to ${max}, not ${String(value)}`);
    }
    return value;
}
//# sourceMappingURL=refuse.js.map