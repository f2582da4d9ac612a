/**
 * A client for Trusted Applications in OP-TEE and other GlobalPlatform TEEs, through the kernel's /dev/tee.
 * @packageDocumentation
 */
export { AbortError, TeeError, TeeSystemError } from './errors.js';
export type { FailedOutput } from './errors.js';
export type { CallOptions } from './call.js';
export { TeeContext } from './context.js';
export type { OpenSessionOptions, TeeContextOptions } from './context.js';
export type { TeeCapabilities, TeeDevice, TeeVersion } from './devices.js';
export { DmaBuf } from './dma-buf.js';
export { DmaHeap } from './dma-heap.js';
export { Login } from './login.js';
export { buffer, Parameter, value } from './parameters.js';
export type { Direction, Output, Outputs, Params, Value } from './parameters.js';
export { TEE_RESULTS } from './results.js';
export type { TeeOrigin } from './results.js';
export { Session } from './session.js';
export type { InvokeTrace } from './session.js';
export { SharedMemory } from './shared-memory.js';
export type { Range } from './shared-memory.js';
