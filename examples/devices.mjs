// Which TEEs this machine has, what they can do, and why one cannot be used.
import { DmaHeap, TeeContext } from 'node-optee';

for (const { path, version, error } of TeeContext.list()) {
  if (error) console.log(`${path} cannot be used: ${error.message}`);
  else console.log(`${path} is ${version.implementation}:`, version.capabilities);
}
console.log('dma-heaps:', DmaHeap.list().join(' '));
