"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.finished = finished;
/** Work of the addon's threads that is no call: it makes something. */
const call_js_1 = require("./call.js");
/**
 * Waits for a job.
 * @param started of the addon's function
 * @param make makes the result. It runs no code of a user's, and may throw what the caller gets
 */
function finished(n, started, make) {
    return new Promise((resolve) => {
        if (typeof started !== 'number') {
            resolve(make(started));
            return;
        }
        n.settle.set(started, (answer) => {
            const data = answer.made;
            try {
                const result = make(data);
                return () => resolve(result);
            }
            catch (error) {
                return (known) => {
                    resolve((0, call_js_1.rejected)(() => (0, call_js_1.restacked)(error), known));
                    return true;
                };
            }
        });
    });
}
//# sourceMappingURL=jobs.js.map