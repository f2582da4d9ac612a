"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.readOptions = readOptions;
exports.readFailed = readFailed;
exports.callError = callError;
exports.runCall = runCall;
exports.startCall = startCall;
exports.rejected = rejected;
exports.restacked = restacked;
/** One open or invoke: from what was read of its caller's to its answer or error. */
const abort_js_1 = require("./abort.js");
const described_js_1 = require("./described.js");
const errors_js_1 = require("./errors.js");
const hints_js_1 = require("./hints.js");
const native_js_1 = require("./native.js");
const parameters_js_1 = require("./parameters.js");
const results_js_1 = require("./results.js");
const validate_js_1 = require("./validate.js");
const NO_OPTIONS = { wipe: false, signal: undefined };
/**
 * Reads the options of a call, which can run code of the caller's.
 * @param sync is it a blocking call, which nothing can abort
 */
function readOptions(options, sync) {
    if (options === undefined)
        return NO_OPTIONS;
    (0, validate_js_1.checkOptions)(options, 'options');
    const { wipe = false, signal } = options;
    (0, validate_js_1.checkBoolean)(wipe, 'options.wipe');
    if (signal === undefined)
        return { wipe, signal };
    if (sync) {
        throw (0, errors_js_1.invalidArgValue)('options.signal', undefined, 'cannot abort a blocking call; use the asynchronous one');
    }
    return { wipe, signal: (0, validate_js_1.checkSignal)(signal, 'options.signal') };
}
/** The names of what was asked, where the TA is described and has such a command. */
function namesOf({ callee: { names }, invoke }) {
    return invoke === undefined ? names?.open : names?.commands.get(invoke.command);
}
/** What was asked, in words. */
function asked(request) {
    const { callee, params, invoke, open } = request;
    const { uuid, names } = callee;
    const what = invoke === undefined
        ? `opening a session with ${(0, described_js_1.taInWords)(uuid, names)} (login ${open?.login.name})`
        : (0, described_js_1.commandInWords)(uuid, names, invoke.command);
    return params.length === 0 ? what : `${what} with [${params.map(parameters_js_1.describeParam).join(', ')}]`;
}
function readFailed(params, answer) {
    const status = answer.number(1 /* Place.status */);
    return {
        status,
        detail: answer.number(2 /* Place.detail */),
        result: answer.number(3 /* Place.result */),
        originCode: answer.number(4 /* Place.origin */),
        staleCancel: (answer.number(5 /* Place.flags */) & 2 /* AnswerFlags.staleCancel */) !== 0,
        outputs: status === 0 /* Status.answered */ ? (0, parameters_js_1.readFailedOutputs)(params, answer) : [],
    };
}
/** A parameter in a message. */
function paramName(request, index) {
    return namesOf(request)?.params[index] ?? `params[${index}]`;
}
/** An error with the names of what was asked. */
function named(error, request) {
    const { names } = request.callee;
    if (names === undefined)
        return error;
    error.taName = names.name;
    const command = namesOf(request)?.name;
    if (command !== undefined)
        error.commandName = command;
    return error;
}
/** Notes what an answer says of its session. */
function noteCondition({ invoke }, answer) {
    const condition = invoke?.condition;
    if (condition === undefined)
        return;
    const answered = answer.number(1 /* Place.status */) === 0 /* Status.answered */;
    const cancelSent = (answer.number(5 /* Place.flags */) & 1 /* AnswerFlags.cancelSent */) !== 0;
    const result = answered ? answer.number(3 /* Place.result */) : results_js_1.TEE_RESULTS.TEE_SUCCESS;
    if (result === results_js_1.TEE_RESULTS.TEE_ERROR_TARGET_DEAD)
        condition.dead = true;
    // A call that was never in the TEE changes nothing.
    if (answered || cancelSent) {
        condition.cancelPending = cancelSent && result !== results_js_1.TEE_RESULTS.TEE_ERROR_CANCEL;
    }
}
/** The error of a call that did not succeed. */
function callError(n, request, failed) {
    const { status, detail } = failed;
    const { callee, params, invoke, open } = request;
    if (status === 0 /* Status.answered */)
        return answeredError(request, failed);
    if (status > 0) {
        const failure = (0, native_js_1.failureOf)(n, status, detail);
        const error = new errors_js_1.TeeSystemError({
            ...failure,
            path: callee.path,
            asked: asked(request),
            hint: (0, hints_js_1.callHint)({
                code: (0, errors_js_1.describeErrno)(status).code,
                operation: failure.operation,
                globalPlatform: callee.globalPlatform,
                login: open?.login.name,
                bytes: (0, parameters_js_1.memoryOf)(params),
            }),
        });
        return named(error, request);
    }
    const name = paramName(request, detail);
    switch (status) {
        case -1 /* Status.closed */:
            return (0, errors_js_1.closedError)(invoke === undefined ? `the TeeContext of ${callee.path}` : `the Session with TA ${callee.uuid}`);
        case -3 /* Status.sharedMemoryClosed */:
            return (0, errors_js_1.closedError)(`${name}, a SharedMemory,`);
        case -4 /* Status.otherContext */:
            return (0, errors_js_1.wrongContext)(name);
        case -5 /* Status.outOfBounds */:
            return (0, errors_js_1.outOfRange)(name, 'inside its shared memory', params[detail]?.b);
        case -6 /* Status.bytesChanged */:
            return (0, errors_js_1.invalidArgValue)(name, undefined, `has not the ${params[detail]?.b} bytes any more that it had when the parameter was made: ` +
                'its memory was transferred or resized since');
        default:
            return new Error(`The native addon refused ${asked(request)} (status ${status}, ${detail})`);
    }
}
function answeredError(request, failed) {
    const { callee, params, invoke, open } = request;
    const { result, originCode, outputs, staleCancel } = failed;
    const error = new errors_js_1.TeeError({
        result,
        code: callee.names?.results.get(result),
        originCode,
        uuid: callee.uuid,
        ...(invoke === undefined ? {} : { command: invoke.command }),
        outputs,
        staleCancel,
        asked: asked(request),
        hint: (0, hints_js_1.resultHint)({
            result,
            origin: (0, results_js_1.originName)(originCode),
            opening: invoke === undefined,
            staleCancel,
            memory: (0, parameters_js_1.memoryOf)(params),
            short: outputs.flatMap((out, index) => {
                const needs = out !== undefined && 'size' in out ? out.size : 0;
                return needs > (params[index]?.b ?? 0) ? [{ name: paramName(request, index), needs }] : [];
            }),
            dmaBuf: params.some(({ shared }) => shared?.isDmaBuf === true),
            openSessions: open?.openSessions ?? 0,
        }),
    });
    return named(error, request);
}
/** What the addon takes as a parameter's memory. */
const memory = ({ bytes, shared }) => shared?.handle.number ?? bytes;
/** Calls the addon's function with all that it needs; the only place that does. */
function send(call, handle, number, { params, wipe, open }) {
    const p = params[0] ?? parameters_js_1.NONE;
    const q = params[1] ?? parameters_js_1.NONE;
    const r = params[2] ?? parameters_js_1.NONE;
    const s = params[3] ?? parameters_js_1.NONE;
    return call(handle, number, wipe ? 1 /* RequestFlags.wipe */ : 0, (p.kind | (q.kind << 8) | (r.kind << 16) | (s.kind << 24)) >>> 0, p.a, p.b, memory(p), q.a, q.b, memory(q), r.a, r.b, memory(r), s.a, s.b, memory(s), open?.uuid, open?.login.client);
}
/**
 * Runs a blocking call.
 * @throws the call's error
 */
function runCall(n, request, finish) {
    const { invoke, open } = request;
    let outputs;
    if (invoke !== undefined)
        outputs = send(n.invokeSync, invoke.session, invoke.command, request);
    else if (open !== undefined)
        outputs = send(n.openSessionSync, open.context, open.login.method, request);
    const answer = new native_js_1.Answer(n.records, 0, outputs);
    noteCondition(request, answer);
    if (!answer.succeeded)
        throw callError(n, request, readFailed(request.params, answer));
    return finished(n, request, answer, finish);
}
/** @throws where its outputs cannot be had */
function finished(n, { params, open }, answer, finish) {
    try {
        return finish(answer, (0, parameters_js_1.readOutputs)(params, answer));
    }
    catch (error) {
        // Nobody has the session that has arrived.
        if (open !== undefined)
            n.closeSession(answer.number(6 /* Place.session */));
        throw error;
    }
}
/**
 * Starts an asynchronous call. What goes in is copied before it returns.
 * @throws (or rejects with) the call's error; what a signal of the caller's own making throws
 */
function startCall(n, request, signal, finish) {
    const call = { aborted: false };
    // A signal can run code of the caller's, so all that is asked of it comes before the call is sent.
    const stopListening = signal &&
        (0, abort_js_1.onAbort)(signal, () => {
            call.aborted = true;
            call.abort?.();
        });
    try {
        if (signal !== undefined && (signal.aborted || call.aborted)) {
            throw named(new errors_js_1.AbortError(signal.reason, asked(request)), request);
        }
        const ticket = sendStart(n, request);
        return new Promise((resolve) => {
            const tellError = (make) => (known) => {
                stopListening?.();
                resolve(rejected(make, known));
                return true;
            };
            n.settle.set(ticket, (answer) => {
                call.abort = undefined; // the ticket can be another call's from now on
                noteCondition(request, answer);
                if (!answer.succeeded) {
                    const failed = readFailed(request.params, answer);
                    return tellError(() => endError(n, request, failed, signal));
                }
                try {
                    const result = finished(n, request, answer, finish);
                    return () => {
                        stopListening?.();
                        resolve(result);
                    };
                }
                catch (error) {
                    return tellError(() => restacked(error)); // there was no memory for the outputs, say
                }
            });
            if (signal === undefined)
                return;
            call.abort = () => {
                if (n.abort(ticket) !== 1 /* Aborted.removed */)
                    return; // its answer decides
                call.abort = undefined;
                n.settle.delete(ticket);
                const outcome = request.invoke === undefined ? 'was given up; a session that still arrives is closed' : undefined;
                resolve(rejected(() => named(new errors_js_1.AbortError(signal.reason, asked(request), undefined, outcome), request)));
            };
        });
    }
    catch (error) {
        stopListening?.();
        throw error;
    }
}
/**
 * @returns the call's ticket
 * @throws the call's error where it was refused
 */
function sendStart(n, request) {
    const { invoke, open } = request;
    let ticket = 0;
    if (invoke !== undefined)
        ticket = send(n.invoke, invoke.session, invoke.command, request);
    else if (open !== undefined)
        ticket = send(n.openSession, open.context, open.login.method, request);
    if (ticket === 0)
        throw callError(n, request, readFailed([], new native_js_1.Answer(n.records)));
    return ticket;
}
/** The error of a call that failed, which an abort may have caused. */
function endError(n, request, failed, signal) {
    const error = callError(n, request, failed);
    const ended = error instanceof errors_js_1.TeeError || error instanceof errors_js_1.TeeSystemError;
    if (signal === undefined || !ended || !signal.aborted)
        return error;
    return named(new errors_js_1.AbortError(signal.reason, asked(request), error), request);
}
/**
 * A promise that is rejected, with an error whose stack names the async functions that wait for it: V8 finds them if the
 * error is made in a reaction of a promise that they wait for already, which takes a turn of the microtasks, and if that
 * promise has no other reaction.
 * @param known called when those that wait know it
 */
function rejected(make, known) {
    return Promise.resolve()
        .then(() => undefined)
        .then(() => {
        // The promise is rejected in the next turn, and that of its caller in the one after. (Test runners replace
        // queueMicrotask.)
        if (known !== undefined) {
            void Promise.resolve()
                .then(() => undefined)
                .then(known);
        }
        throw make();
    });
}
/** An error that was made elsewhere, with the stack of here. */
function restacked(error) {
    Error.captureStackTrace(error, restacked);
    return error;
}
//# sourceMappingURL=call.js.map