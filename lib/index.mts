// The same objects under an ES module's roof: a second copy of the classes would break `instanceof`.
export {
  AbortError,
  buffer,
  reportedSize,
  DmaBuf,
  DmaHeap,
  Login,
  Parameter,
  Session,
  SessionPool,
  SharedMemory,
  TEE_RESULTS,
  TeeContext,
  TeeError,
  TeeSystemError,
  value,
} from './index.js';
export type * from './index.js';
