"use strict";
/**
 * Names of TEE results and origins.
 * Source: GlobalPlatform TEE Internal Core API 1.3.1 and TEE Client API 1.0, as OP-TEE states them in
 * `tee_api_defines.h`.
 */
Object.defineProperty(exports, "__esModule", { value: true });
exports.TEE_RESULTS = void 0;
exports.hex32 = hex32;
exports.resultName = resultName;
exports.originName = originName;
/** The results that have a name. The meaning of any other u32 is defined by the TA that returned it. */
exports.TEE_RESULTS = {
    TEE_SUCCESS: 0x00000000,
    TEE_ERROR_CORRUPT_OBJECT: 0xf0100001,
    TEE_ERROR_CORRUPT_OBJECT_2: 0xf0100002,
    TEE_ERROR_STORAGE_NOT_AVAILABLE: 0xf0100003,
    TEE_ERROR_STORAGE_NOT_AVAILABLE_2: 0xf0100004,
    TEE_ERROR_UNSUPPORTED_VERSION: 0xf0100005,
    TEE_ERROR_CIPHERTEXT_INVALID: 0xf0100006,
    TEE_ERROR_GENERIC: 0xffff0000,
    TEE_ERROR_ACCESS_DENIED: 0xffff0001,
    TEE_ERROR_CANCEL: 0xffff0002,
    TEE_ERROR_ACCESS_CONFLICT: 0xffff0003,
    TEE_ERROR_EXCESS_DATA: 0xffff0004,
    TEE_ERROR_BAD_FORMAT: 0xffff0005,
    TEE_ERROR_BAD_PARAMETERS: 0xffff0006,
    TEE_ERROR_BAD_STATE: 0xffff0007,
    TEE_ERROR_ITEM_NOT_FOUND: 0xffff0008,
    TEE_ERROR_NOT_IMPLEMENTED: 0xffff0009,
    TEE_ERROR_NOT_SUPPORTED: 0xffff000a,
    TEE_ERROR_NO_DATA: 0xffff000b,
    TEE_ERROR_OUT_OF_MEMORY: 0xffff000c,
    TEE_ERROR_BUSY: 0xffff000d,
    TEE_ERROR_COMMUNICATION: 0xffff000e,
    TEE_ERROR_SECURITY: 0xffff000f,
    TEE_ERROR_SHORT_BUFFER: 0xffff0010,
    TEE_ERROR_EXTERNAL_CANCEL: 0xffff0011,
    TEE_ERROR_TIMEOUT: 0xffff3001,
    TEE_ERROR_OVERFLOW: 0xffff300f,
    TEE_ERROR_TARGET_DEAD: 0xffff3024,
    TEE_ERROR_STORAGE_NO_SPACE: 0xffff3041,
    TEE_ERROR_MAC_INVALID: 0xffff3071,
    TEE_ERROR_SIGNATURE_INVALID: 0xffff3072,
    TEE_ERROR_TIME_NOT_SET: 0xffff5000,
    TEE_ERROR_TIME_NEEDS_RESET: 0xffff5001,
};
const names = new Map(Object.entries(exports.TEE_RESULTS).map(([name, result]) => [result, name]));
/** `0x` and eight hexadecimal digits. */
function hex32(value) {
    return `0x${(value >>> 0).toString(16).padStart(8, '0')}`;
}
/**
 * The name of a result, like `TEE_ERROR_BUSY`; `TEE_0x` and eight hexadecimal digits if it has none.
 * @param result u32
 */
function resultName(result) {
    return names.get(result >>> 0) ?? `TEE_${hex32(result)}`;
}
const origins = ['unknown', 'api', 'comms', 'tee', 'trusted-app'];
/**
 * The name of a return origin.
 * @param originCode u32: 1 API, 2 COMMS, 3 TEE, 4 TRUSTED_APP
 */
function originName(originCode) {
    return origins[originCode] ?? 'unknown';
}
//# sourceMappingURL=results.js.map