/** Copies that a pool makes of what a waiting request takes in. */
import { expect, test } from '@jest/globals';
import { buffer } from 'node-optee';
import { Handle } from '#lib/client/handle';
import { RequestPlace, type Native, type SessionHandle, type Settle, type Ticket } from '#lib/client/native';
import { readPoolOptions, SessionPool } from '#lib/client/pool';
import { Session } from '#lib/client/session';
import { answerOf } from '../support/answer.js';

const CALLEE = { uuid: '8aaaf200-2450-11e4-abe2-0002a5d5c51b', path: '/dev/tee0', globalPlatform: true };

/** What makes one, which no declaration tells. */
const makeOf = <T>(type: unknown): ((made: object) => T) => (type as { make: (made: object) => T }).make;

/** A pool whose only session has the addon's part played, so that the memory which the addon is given can be looked at. */
function poolOf(): {
  pool: SessionPool;
  seen: Uint8Array[];
  inputs: number[][];
  settle: Map<Ticket, Settle>;
} {
  const [seen, inputs, settle] = [[] as Uint8Array[], [] as number[][], new Map<Ticket, Settle>()];
  const n = {
    request: new Float64Array(RequestPlace.length),
    settle,
    invoke: (...args: unknown[]): Ticket => {
      for (const arg of args) {
        if (!(arg instanceof Uint8Array)) continue;
        seen.push(arg);
        inputs.push([...arg]);
      }
      return 1;
    },
    closeSession: (): Ticket => 0,
  } as unknown as Native;
  const context = new Handle(CALLEE, 'TeeContext', 1, () => undefined);
  const session = makeOf<Session>(Session)({
    n,
    callee: CALLEE,
    number: 1 as SessionHandle,
    outputs: [],
    nullMemref: true,
    context,
    contextClosed: () => Promise.resolve(),
  });
  const pool = makeOf<SessionPool>(SessionPool)({
    uuid: CALLEE.uuid,
    options: readPoolOptions({ max: 1 }, true),
    nullMemref: true,
    open: () => Promise.resolve(session),
    context,
    pools: new Set(),
  });
  return { pool, seen, inputs, settle };
}

/** Lets everything run that waits for nothing. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test.each([true, false])('with wipe %p', async (wipe) => {
  const { pool, seen, inputs, settle } = poolOf();
  const [secret, place] = [Uint8Array.of(1, 2), Uint8Array.of(3, 4)];
  // There is no session yet, so this waits for one.
  const call = pool.invoke(7, [buffer.in(secret), buffer.inPlace(place)], { wipe });
  await turn();
  expect(inputs).toEqual([
    [1, 2],
    [3, 4],
  ]);
  const bytes = (): number[][] => seen.map((each) => [...each]);
  expect(bytes()).toEqual(
    wipe
      ? [
          [0, 0],
          [0, 0],
        ]
      : inputs,
  );
  // The addon writes what came back.
  seen[1].set([5, 6]);
  settle.get(1)?.(
    answerOf({}, [
      [0, 2],
      [1, 2],
    ]),
  )(() => undefined);
  expect(await call).toEqual([undefined, place]);
  expect([[...secret], [...place]]).toEqual([
    [1, 2],
    [5, 6],
  ]);
  expect(bytes()[1]).toEqual(wipe ? [0, 0] : [5, 6]);
  // With a session that is idle, nothing is copied: the caller's own stay as they are.
  const second = pool.invoke(7, [buffer.in(secret)], { wipe });
  await turn();
  expect(seen[2]).toBe(secret);
  settle.get(1)?.(answerOf({}, [[0, 2]]))(() => undefined);
  await second;
  expect([...secret]).toEqual([1, 2]);
  await pool.close();
});
