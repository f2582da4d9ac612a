"use strict";
/** What calls of a described TA are called: for errors and tracing. The room `ta` hands it to `openSession`. */
Object.defineProperty(exports, "__esModule", { value: true });
exports.callName = callName;
exports.commandInWords = commandInWords;
exports.taInWords = taInWords;
/** A described call by its full name: 'notary.hash', of the opening 'notary'. */
function callName({ name }, command) {
    return command.name === undefined ? name : `${name}.${command.name}`;
}
/** A command in the messages of errors. */
function commandInWords(uuid, names, command) {
    if (names === undefined)
        return `command ${command} of TA ${uuid}`;
    const known = names.commands.get(command);
    if (known === undefined)
        return `command ${command} of ${names.name}, TA ${uuid}`;
    return `${callName(names, known)} (command ${command} of TA ${uuid})`;
}
/** A TA in the messages of errors. */
function taInWords(uuid, names) {
    return names === undefined ? `TA ${uuid}` : `${names.name}, TA ${uuid}`;
}
//# sourceMappingURL=described.js.map