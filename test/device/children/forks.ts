/**
 * A worker thread registers and closes shared memory without a pause while this thread starts programs. Prints how many
 * programs there were, and how many had a descriptor of the TEE's.
 * Arguments: how many programs.
 */
import { spawnSync } from 'node:child_process';
import { isMainThread, Worker } from 'node:worker_threads';
import { TeeContext } from 'node-optee';

function work(): void {
  const tee = TeeContext.open();
  for (;;) tee.allocSharedMemorySync(4096).close();
}

function main(): void {
  new Worker(__filename);
  const programs = Number(process.argv[2]);
  let inherited = 0;
  for (let i = 0; i < programs; i++) {
    const { stdout } = spawnSync('ls', ['-l', '/proc/self/fd'], { encoding: 'utf8' });
    if (stdout.includes('tee')) inherited++;
  }
  console.log(JSON.stringify({ programs, inherited }));
  process.exit();
}

if (isMainThread) main();
else work();
