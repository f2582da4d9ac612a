/**
 * Ends in the middle of a call: `exit` calls process.exit, `throw` throws, `return` just has nothing more to do. When the
 * call is in the TEE it prints when it was made, by the clock of all processes.
 */
import { TeeContext, value } from 'node-optee';
import { inTee, TEST_TA } from '../../support/census.js';
import { TEST_TA_WAIT } from '../../support/test-ta.js';

async function main(how: string): Promise<void> {
  const tee = TeeContext.open();
  const session = await tee.openSession(TEST_TA);
  const begun = process.hrtime.bigint();
  const call = session.invoke(TEST_TA_WAIT, [value.in(2000)]).then(() => console.log('answered'));
  await inTee();
  console.log(`begun ${begun}`);
  setImmediate(() => {
    if (how === 'exit') process.exit(5);
    if (how === 'throw') throw new Error('thrown on purpose');
  });
  await call;
}

void main(process.argv[2] ?? '');
