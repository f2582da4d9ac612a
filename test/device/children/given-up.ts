/**
 * Gives up an opening that waits for tee-supplicant, says so, and has nothing more to do. With `memory` the opening was
 * passed memory of JavaScript's.
 */
import { TeeContext } from 'node-optee';
import { inTee, OS_TEST } from '../../support/census.js';

async function main(): Promise<void> {
  const tee = TeeContext.open();
  const view = new Uint8Array(new SharedArrayBuffer(4096));
  const params = process.argv[2] === 'memory' ? [tee.registerSharedMemorySync(view).inout()] : [];
  const controller = new AbortController();
  const opening = tee.openSession(OS_TEST, { params, signal: controller.signal });
  await inTee();
  controller.abort();
  await opening.catch(() => console.log('given up'));
}

void main();
