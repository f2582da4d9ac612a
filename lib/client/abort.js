"use strict";
/**
 * All calls on one AbortSignal share one listener. Each of its own would make Node warn of a leak from the eleventh on
 * (MaxListenersExceededWarning), and removing one of many listeners takes time with their number.
 */
Object.defineProperty(exports, "__esModule", { value: true });
exports.onAbort = onAbort;
const groups = new WeakMap();
/**
 * Calls a function once when a signal is aborted. Like `addEventListener`, it does nothing for a signal that is aborted
 * already: check `signal.aborted` first. If the callback throws, the others are called all the same, and the error becomes
 * an uncaught exception, as that of a listener does.
 * @param signal of any realm, as `checkSignal` accepts it. This may run code of the caller's: `addEventListener` of the
 *   signal. If that calls its listener at once, the callback is called before this returns
 * @returns a function that takes the callback back: it is not called any more, even if the signal keeps its listeners or
 *   the abort is being delivered right now. It may be called again, and never throws, though it may run code of the
 *   caller's, too (`removeEventListener`)
 * @throws what `addEventListener` of the signal throws; the callback is not called then
 */
function onAbort(signal, callback) {
    const entry = { callback };
    let group = groups.get(signal);
    if (group === undefined)
        group = listen(signal, entry);
    else
        group.waiting.add(entry);
    const { waiting, listener } = group;
    return () => {
        if (!waiting.delete(entry) || waiting.size > 0)
            return;
        forget(signal, waiting);
        try {
            signal.removeEventListener('abort', listener);
        }
        catch {
            // A signal that is not Node's own. Its listener has nobody left to call.
        }
    };
}
/** Makes the group of a signal that has none, with its first entry. */
function listen(signal, first) {
    const waiting = new Set([first]);
    const listener = () => {
        forget(signal, waiting);
        for (const entry of waiting) {
            waiting.delete(entry);
            try {
                entry.callback();
            }
            catch (error) {
                queueMicrotask(() => {
                    throw error;
                });
            }
        }
    };
    const group = { waiting, listener };
    try {
        signal.addEventListener('abort', listener, { once: true });
    }
    catch (error) {
        waiting.clear(); // it may have kept the listener
        throw error;
    }
    // Only now, when it listens. A signal can have called us again meanwhile; then it has two groups, and two listeners.
    if (waiting.size > 0 && !groups.has(signal))
        groups.set(signal, group);
    return group;
}
/** No later call joins this group. */
function forget(signal, waiting) {
    if (groups.get(signal)?.waiting === waiting)
        groups.delete(signal);
}
//# sourceMappingURL=abort.js.map