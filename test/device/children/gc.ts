/** Loses a handle of each kind to the garbage collector. Prints what is left and what was warned of. */
import { DmaHeap, SharedMemory, TeeContext, value } from 'node-optee';
import { census, collectGarbage, PROTECTED_HEAP, TEST_TA } from '../../support/census.js';
import { TEST_TA_CHECKSUM, TEST_TA_WAIT } from '../../support/test-ta.js';

const warnings: { code: string | undefined; message: string }[] = [];
process.on('warning', ({ message, ...rest }) => {
  warnings.push({ code: (rest as { code?: string }).code, message });
});

async function lose(tee: TeeContext): Promise<void> {
  const session = await tee.openSession(TEST_TA);
  const shm = tee.allocSharedMemorySync(4096);
  new Uint8Array(shm.buffer as ArrayBuffer)[0] = 1;
  const heap = DmaHeap.open(PROTECTED_HEAP);
  tee.registerDmaBufSync(heap.allocSync(4096));
  // Handles that are closed are not lost.
  const closed = await tee.openSession(TEST_TA);
  await closed.invoke(TEST_TA_WAIT, [value.in(1)]);
  await closed.close();
  tee.allocSharedMemorySync(4096).close();
  void session.uuid;
}

/** Loses the object, but not the memory that it stands for, until it returns. */
async function keepMemory(tee: TeeContext): Promise<number> {
  const bytes = new Uint8Array(tee.allocSharedMemorySync(8192).buffer as ArrayBuffer);
  for (let i = 0; i < 3; i++) await collectGarbage();
  return bytes.length;
}

/** Loses the contexts of memory and of an allocation under way, and the memory of a parameter, until it returns. */
async function keepWhatIsUsed(tee: TeeContext): Promise<unknown> {
  const memory = TeeContext.open().allocSharedMemorySync(4096);
  const session = await tee.openSession(TEST_TA);
  const param = tee.allocSharedMemorySync(4096).in();
  const allocation = TeeContext.open().allocSharedMemory(4096);
  for (let i = 0; i < 3; i++) await collectGarbage();
  const allocated = await allocation.catch((error: unknown) => error);
  const invoked = await session
    .invoke(TEST_TA_CHECKSUM, [param, value.out()])
    .catch((error: unknown) => error);
  await session.close();
  return { closed: memory.closed, allocated: allocated instanceof SharedMemory, invoked };
}

async function loseWithContext(): Promise<void> {
  const tee = TeeContext.open();
  await tee.openSession(TEST_TA);
  tee.allocSharedMemorySync(1);
}

async function main(): Promise<void> {
  const before = census();
  const tee = TeeContext.open();
  await lose(tee);
  const keptBytes = await keepMemory(tee);
  for (let i = 0; i < 30 && warnings.length < 4; i++) await collectGarbage();
  const first = warnings.splice(0);
  const kept = await keepWhatIsUsed(tee);
  await tee.close();
  await loseWithContext();
  for (let i = 0; i < 30 && warnings.length < 1; i++) await collectGarbage();
  for (let i = 0; i < 30 && JSON.stringify(census()) !== JSON.stringify(before); i++)
    await collectGarbage(100);
  console.log(JSON.stringify({ before, after: census(), first, second: warnings, keptBytes, kept }));
}

void main();
