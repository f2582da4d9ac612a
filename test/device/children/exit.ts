/** Ends in the middle of a call: `exit` calls process.exit, `throw` throws, `return` just has nothing more to do. */
import { TeeContext, value } from 'node-optee';
import { TEST_TA } from '../../support/census.js';
import { TEST_TA_WAIT } from '../../support/test-ta.js';

async function main(how: string): Promise<void> {
  const tee = TeeContext.open();
  const session = await tee.openSession(TEST_TA);
  const call = session.invoke(TEST_TA_WAIT, [value.in(1000)]).then(() => console.log('"answered"'));
  console.log('"begun"');
  setTimeout(() => {
    if (how === 'exit') process.exit(5);
    if (how === 'throw') throw new Error('thrown on purpose');
  }, 300);
  await call;
}

void main(process.argv[2] ?? '');
