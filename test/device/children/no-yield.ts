/**
 * Loops that never let the event loop turn: each opens and closes, or calls. Prints for each the most that it held at a
 * time, and how much its resident set grew after the first tenth, in MiB.
 * Arguments: rounds.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { buffer, DmaHeap, TeeContext, value } from 'node-optee';
import { PTA_INVOKE_TESTS, TEST_TA } from '../../support/census.js';
import { TEST_TA_TOUCH, TEST_TA_VALUES } from '../../support/test-ta.js';

const ROUNDS = Number(process.argv[2]);
const resident = (): number =>
  Number(/^VmRSS:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) / 1024;
const descriptors = (): number => readdirSync('/proc/self/fd').length;

async function main(): Promise<void> {
  const tee = TeeContext.open();
  const session = await tee.openSession(TEST_TA);
  const bytes = new Uint8Array(4096);
  const ignore = (): void => undefined;
  const loops: Record<string, () => void> = {
    'invokeSync, values': () => session.invokeSync(TEST_TA_VALUES, [value.inout(1)]),
    'invokeSync, buffers': () => session.invokeSync(TEST_TA_TOUCH, [buffer.in(bytes), buffer.out(4096)]),
    'an error': () => {
      try {
        session.invokeSync(0xffff_ffff);
      } catch {
        // as expected
      }
    },
    'a session': () => void tee.openSessionSync(PTA_INVOKE_TESTS).close(),
    'a context': () => void TeeContext.open().close(),
    'shared memory': () => tee.allocSharedMemorySync(4096).close(),
    'a heap': () => DmaHeap.open('system').close(),
    'a call that is aborted at once': () => {
      const controller = new AbortController();
      const { signal } = controller;
      const call = session.invoke(TEST_TA_VALUES, [value.inout(1)], { signal });
      controller.abort();
      call.catch(ignore);
    },
  };
  const found: Record<string, unknown> = {};
  for (const [name, loop] of Object.entries(loops)) {
    let settled = 0;
    let most = 0;
    const before = descriptors();
    for (let i = 0; i < ROUNDS; i++) {
      loop();
      if (i === Math.floor(ROUNDS / 10)) settled = resident();
      if (i % 20 === 0) most = Math.max(most, descriptors() - before);
    }
    found[name] = { descriptors: most, grown: Math.round((resident() - settled) * 10) / 10 };
    await new Promise((resolve) => setTimeout(resolve, 50));
    process.stderr.write(`${name}: ${JSON.stringify(found[name])}\n`);
  }
  console.log(JSON.stringify(found));
  await tee.close();
}

void main();
