// Kept in the declarations, for users whose own settings do not bring it: Symbol.dispose of the classes.
/// <reference lib="esnext.disposable" preserve="true" />
/**
 * A client for Trusted Applications in OP-TEE and other GlobalPlatform TEEs, through the kernel's /dev/tee.
 * @packageDocumentation
 */
export { AbortError, TeeError, TeeSystemError } from './client/errors.js';
export type { FailedOutput } from './client/errors.js';
export type { CallOptions } from './client/call.js';
export { TeeContext } from './client/context.js';
export type { OpenSessionOptions, TeeContextOptions } from './client/context.js';
export type { TeeCapabilities, TeeDevice, TeeVersion } from './client/devices.js';
export { DmaBuf } from './client/dma-buf.js';
export { DmaHeap } from './client/dma-heap.js';
export { Login } from './client/login.js';
export { buffer, Parameter, reportedSize, value } from './client/parameters.js';
export type { Direction, Output, Outputs, Params, Value } from './client/parameters.js';
export { SessionPool } from './client/pool.js';
export type { SessionPoolOptions, SessionPoolStatistics } from './client/pool.js';
export { TEE_RESULTS } from './client/results.js';
export type { TeeOrigin } from './client/results.js';
export { Session } from './client/session.js';
export type { InvokeTrace } from './client/session.js';
export { SharedMemory } from './client/shared-memory.js';
export type { Range } from './client/shared-memory.js';

// As data: the getters that TypeScript makes end up in a hash table, where each use of `value.in` is looked up anew.
module.exports = Object.defineProperty({ ...(module.exports as object) }, '__esModule', { value: true });
