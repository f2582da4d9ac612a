// One session by numbers, one by names. In the guest: node examples/run.cjs hello-world
import { TeeContext, value } from 'node-optee';
import { HelloWorld } from './hello_world.ta.mjs';

const tee = TeeContext.open();
try {
  const session = await tee.openSession('8aaaf200-2450-11e4-abe2-0002a5d5c51b');
  const [answer] = await session.invoke(0, [value.inout(41)]);
  console.log(answer.a); // 42

  const hello = await HelloWorld.open(tee);
  const { number } = await hello.increment({ number: 42 });
  console.log(number); // 43
} finally {
  await tee.close(); // and its sessions with it
}
