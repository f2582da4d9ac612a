/**
 * Two threads take over one descriptor at the same time: exactly one may get it. The descriptors from 3 on are dma-bufs of
 * nobody's. Arguments: how many. Prints what the threads were told, for each.
 */
import { once } from 'node:events';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { DmaBuf } from 'node-optee';

function work(): void {
  let buf: DmaBuf | undefined;
  parentPort?.on('message', (fd: number) => {
    if (fd < 0) return buf?.close(); // both have tried
    buf = undefined;
    try {
      buf = DmaBuf.fromFd(fd, { own: true });
      parentPort?.postMessage('mine');
    } catch (error) {
      parentPort?.postMessage((error as { code: string }).code);
    }
  });
}

async function main(): Promise<void> {
  const workers = [new Worker(__filename), new Worker(__filename)];
  await Promise.all(workers.map((worker) => once(worker, 'online')));
  const rounds: string[] = [];
  for (let fd = 3; fd < 3 + Number(process.argv[2]); fd++) {
    const told = await Promise.all(
      workers.map(async (worker) => {
        worker.postMessage(fd);
        return ((await once(worker, 'message')) as [string])[0];
      }),
    );
    for (const worker of workers) worker.postMessage(-1);
    rounds.push(told.sort().join());
  }
  console.log(JSON.stringify(rounds));
  process.exit();
}

void (isMainThread ? main() : work());
