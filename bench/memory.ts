import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { buffer, TeeContext, type Session } from 'node-optee';
import { NODE_OPTEE_TEST_TA_UUID, TEST_TA_NOTHING, TEST_TA_TOUCH } from '../test/support/test-ta';
import type { Memory } from './results';

/** Each ends with a garbage collection. */
const STEPS = { full: 40, quick: 4 };
const SESSIONS = 8;
/** Around the pages and the size classes of temporary memory, each way. */
const SIZES = [1, 16, 100, 4095, 4096, 4097, 20000, 65536, 65537, 200000, 1048576];

/** Garbage is not what we look for: it is collected before each look. */
function garbageCollector(): () => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
}

/** Splits the calls into equal steps and looks at the resident set after each. */
async function residentSet(
  calls: number,
  steps: number,
  work: (calls: number) => Promise<void>,
): Promise<number[]> {
  const collect = garbageCollector();
  const resident: number[] = [];
  for (let step = 0; step < steps; step++) {
    await work(Math.ceil(calls / steps));
    collect();
    resident.push(process.memoryUsage.rss());
  }
  return resident;
}

/** A quarter of the calls blocks, the others are 8 deep over 8 sessions. */
function emptyCalls(sessions: readonly Session[]): (calls: number) => Promise<void> {
  return async (calls) => {
    const blocking = Math.floor(calls / 4);
    for (let i = 0; i < blocking; i++) sessions[0].invokeSync(TEST_TA_NOTHING);
    let left = calls - blocking;
    await Promise.all(
      sessions.map(async (session) => {
        while (left-- > 0) await session.invoke(TEST_TA_NOTHING);
      }),
    );
  };
}

function mixedBuffers(sessions: readonly Session[]): (calls: number) => Promise<void> {
  let number = 0;
  return async (calls) => {
    let left = calls;
    await Promise.all(
      sessions.map(async (session) => {
        while (left-- > 0) {
          const size = SIZES[number++ % SIZES.length];
          await session.invoke(TEST_TA_TOUCH, [
            buffer.in(new Uint8Array(size)),
            buffer.out(size),
            buffer.inout(new Uint8Array(16)),
          ]);
        }
      }),
    );
  };
}

export async function measureMemory(quick: boolean, note: (text: string) => void): Promise<Memory> {
  const tee = TeeContext.open({ threads: SESSIONS });
  try {
    const opening = Array.from({ length: SESSIONS }, () => tee.openSession(NODE_OPTEE_TEST_TA_UUID));
    const sessions = await Promise.all(opening);
    const counts = quick
      ? { empty: 320, buffers: 44, steps: STEPS.quick }
      : { empty: 200_000, buffers: 10_000, steps: STEPS.full };
    note(`resident set over ${counts.empty} empty calls`);
    const empty = await residentSet(counts.empty, counts.steps, emptyCalls(sessions));
    note(`resident set over ${counts.buffers} calls with buffers`);
    const buffers = await residentSet(counts.buffers, counts.steps, mixedBuffers(sessions));
    return {
      emptyCalls: { calls: counts.empty, resident: empty },
      buffers: { calls: counts.buffers, resident: buffers },
    };
  } finally {
    await tee.close();
  }
}
