/**
 * Drops handles of each kind without closing them, and collects garbage now and then. Prints for each kind what it added
 * to what this process and the TEE hold, and the warnings.
 * Arguments: how many of each.
 */
import { readFileSync } from 'node:fs';
import { DmaBuf, DmaHeap, TeeContext } from 'node-optee';
import { Pkcs11 } from 'node-optee/pkcs11';
import { census, collectGarbage, PROTECTED_HEAP, PTA_INVOKE_TESTS, PTA_STATS } from '../../support/census.js';
import { heapInTee, sessionsInTee } from '../../support/tee-statistics.js';
import { until } from '../../support/until.js';
import { statistics } from '../../support/statistics.js';

const COUNT = Number(process.argv[2]);
/** A TEE has no more room than for so many at a time, and a process 1,024 descriptors. */
const AT_A_TIME = 100;
/** A page of the TEE's protected memory; it has but 1 MiB. */
const PAGE = 4096;

const warnings: string[] = [];
process.on('warning', ({ message }) => warnings.push(message));

const resident = (): number =>
  Number(/^VmRSS:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) / 1024;

async function main(): Promise<void> {
  const tee = TeeContext.open({ temporaryMemory: 0 }); // what it keeps would be counted
  const stats = await tee.openSession(PTA_STATS);
  const system = DmaHeap.open('system');
  const heap = DmaHeap.open(PROTECTED_HEAP);
  const dma = system.allocSync(PAGE);
  const secure = heap.allocSync(PAGE);
  heap.close(); // it would be garbage from here on
  const view = new Uint8Array(new SharedArrayBuffer(PAGE));
  const sessions = statistics(tee)?.sessions;

  const kinds: Record<string, () => unknown> = {
    TeeContext: () => TeeContext.open(),
    Session: () => tee.openSessionSync(PTA_INVOKE_TESTS),
    SessionPool: async () => {
      await tee.pool(PTA_INVOKE_TESTS, { idle: Infinity }).use(() => undefined);
    },
    'SharedMemory, allocated': () =>
      new Uint8Array(tee.allocSharedMemorySync(PAGE).buffer as ArrayBuffer).fill(1)[0],
    'SharedMemory, registered': () => tee.registerSharedMemorySync(view),
    'SharedMemory, a dma-buf': () => tee.registerDmaBufSync(secure),
    DmaHeap: () => DmaHeap.open('system'),
    'DmaBuf, allocated': () => new Uint8Array(system.allocSync(PAGE).map()).fill(1)[0],
    'DmaBuf, duplicated': () => DmaBuf.fromFd(dma.fd),
    Pkcs11: () => Pkcs11.open({ context: tee }),
  };

  // OP-TEE does not count while a session is being closed: if the TA has one instance, the two can wait for each other for
  // ever.
  const held = async (): Promise<string> => {
    const own = [census(), statistics(tee)?.sessions];
    const quiet = own[1] === sessions;
    return JSON.stringify(quiet ? [...own, await sessionsInTee(stats, PTA_INVOKE_TESTS)] : own);
  };
  const found: Record<string, unknown> = {};
  for (const [kind, make] of Object.entries(kinds)) {
    await make(); // what is there once: threads, code, the TEE's own
    for (let i = 0; i < 5; i++) await collectGarbage(20);
    await until(() => statistics(tee)?.sessions === sessions);
    const before = await held();
    const [residentBefore, heapBefore] = [resident(), await heapInTee(stats)];
    const start = performance.now();
    for (let i = 0; i < COUNT; i++) {
      await make();
      if (i % AT_A_TIME === AT_A_TIME - 1) await collectGarbage();
    }
    for (let i = 0; i < 100 && (await held()) !== before; i++) await collectGarbage(20);
    const after = await held();
    found[kind] = {
      ...(after === before ? {} : { before, after }),
      grown: Math.round(resident() - residentBefore),
      teeHeap: (await heapInTee(stats)) - heapBefore,
      seconds: Math.round((performance.now() - start) / 1000),
    };
    process.stderr.write(`${kind}: ${JSON.stringify(found[kind])}\n`);
  }
  // Which are in use until here.
  dma.close();
  secure.close();
  console.log(JSON.stringify({ found, warnings, sessions }));
  await tee.close();
}

void main();
