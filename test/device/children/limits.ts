/**
 * Takes all that this process may have of something, uses the TEE, gives it back, and uses the TEE again. Prints what each
 * use ended with, meanwhile and afterwards, and what is left.
 * Arguments: of what.
 */
import { closeSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { buffer, DmaBuf, DmaHeap, TeeContext, value, type Session } from 'node-optee';
import { census, collectGarbage, TEST_TA } from '../../support/census.js';
import { TEST_TA_TOUCH, TEST_TA_VALUES } from '../../support/test-ta.js';

const MIB = 1 << 20;

/** Whatever there is to give back. */
type Take = () => () => void;

const takes: Record<string, Take> = {
  descriptors() {
    const fds: number[] = [];
    try {
      for (;;) fds.push(openSync('/dev/null', 'r'));
    } catch (error) {
      if ((error as { code: string }).code !== 'EMFILE') throw error;
    }
    return () => fds.forEach((fd) => closeSync(fd));
  },

  // For all of the guest, so for as short as can be; V8 ends a process that has no memory for its heap.
  mappings() {
    const path = '/proc/sys/vm/max_map_count';
    const before = readFileSync(path, 'utf8');
    writeFileSync(path, String(readFileSync('/proc/self/maps', 'utf8').split('\n').length - 1));
    return () => writeFileSync(path, before);
  },

  // Of `ulimit -u`, which is not for root. The threads of Node.js and ours are as many as it allows.
  threads() {
    return () => undefined;
  },
};

const SIZE = 2 * MIB;

/** What works, or how it fails. */
async function outcome(use: () => unknown): Promise<string> {
  try {
    const used = (await use()) as { close?: () => unknown } | undefined;
    await used?.close?.();
    return 'works';
  } catch (error) {
    const { name, code, operation } = error as { name: string; code?: string; operation?: string };
    return [name, code, operation].filter((one) => one !== undefined).join(' ');
  }
}

/** Makes the memory before the limit is there. */
function usesOf(
  tee: TeeContext,
  session: Session,
  heap: DmaHeap,
  dma: DmaBuf,
): Record<string, () => unknown> {
  const bytes = new Uint8Array(SIZE).fill(1);
  const into = new Uint8Array(SIZE);
  const view = new Uint8Array(new SharedArrayBuffer(4096)).fill(1);
  return {
    'a context': () => TeeContext.open(),
    'a session': () => tee.openSessionSync(TEST_TA),
    'a call with values': () => void session.invokeSync(TEST_TA_VALUES, [value.inout(1)]),
    'a call with buffers': () =>
      void session.invokeSync(TEST_TA_TOUCH, [buffer.in(bytes), buffer.into(into)], { wipe: true }),
    'shared memory': () => tee.allocSharedMemorySync(SIZE),
    'registered memory': () => tee.registerSharedMemorySync(view),
    'a heap': () => DmaHeap.open('system'),
    'a dma-buf': () => heap.allocSync(SIZE),
    'the map of a dma-buf': () => void dma.map(),
    'a duplicate': () => DmaBuf.fromFd(dma.fd),
  };
}

const asynchronous = (tee: TeeContext, session: Session): Record<string, () => unknown> => ({
  'a call': async () => void (await session.invoke(TEST_TA_VALUES, [value.inout(1)])),
  'another session': () => tee.openSession(TEST_TA),
  'more shared memory': () => tee.allocSharedMemory(4096),
});

async function main(what: string): Promise<void> {
  if (what === 'threads') {
    process.setgroups?.([44, Number(process.argv[3])]);
    process.setgid?.(65534);
    process.setuid?.(65534);
  }
  const before = census();
  const tee = TeeContext.open({ temporaryMemory: 0 }); // each call with buffers needs its own
  const session = tee.openSessionSync(TEST_TA);
  const heap = DmaHeap.open('system');
  const mapped = heap.allocSync(SIZE);
  const uses = usesOf(tee, session, heap, mapped);
  const later = asynchronous(tee, session);
  const during: Record<string, string> = {};
  // Compiled, and with what it needs once; what is mapped stays so. Where threads are the matter, none is made before.
  const first = { ...uses, ...(what === 'threads' ? {} : later) };
  for (const [name, use] of Object.entries(first)) if (!name.startsWith('the map')) await outcome(use);

  const giveBack = takes[what]?.();
  const ends: Promise<void>[] = [];
  // In one turn, so that little else happens.
  for (const [name, use] of Object.entries({ ...uses, ...later })) {
    ends.push(outcome(use).then((how) => void (during[name] = how)));
  }
  if (what === 'mappings') giveBack?.();
  await Promise.all(ends);
  giveBack?.();
  for (let i = 0; i < 3; i++) await collectGarbage();

  const after: Record<string, string> = {};
  for (const [name, use] of Object.entries({ ...uses, ...(what === 'threads' ? {} : later) })) {
    after[name] = await outcome(use);
  }
  for (const thing of [mapped, heap]) thing.close();
  await tee.close();
  let left = census();
  for (let i = 0; i < 50 && JSON.stringify(left) !== JSON.stringify(before); i++) {
    await collectGarbage(50);
    left = census();
  }
  const threads = readdirSync('/proc/self/task').length;
  console.log(JSON.stringify({ during, after, before, left, threads }));
}

void main(process.argv[2] ?? '');
