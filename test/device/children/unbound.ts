/**
 * Takes the TEE's driver away under an open session, and gives it back: for a guest of its own. Prints what worked
 * meanwhile, and afterwards.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { TeeContext, value, type Session } from 'node-optee';
import { TEST_TA } from '../../support/census.js';
import { startSupplicant, stopSupplicant } from '../../support/supplicant.js';
import { TEST_TA_VALUES } from '../../support/test-ta.js';
import { until } from '../../support/until.js';

/** Says something to the driver, which answers when it is done. */
const driver = (what: 'bind' | 'unbind') =>
  spawn('sh', ['-c', `echo firmware:optee >/sys/bus/platform/drivers/optee/${what}`], { stdio: 'inherit' });

async function call(session: Session): Promise<unknown> {
  try {
    return (await session.invoke(TEST_TA_VALUES, [value.inout(41)]))[0].a;
  } catch (error) {
    return (error as { code: string }).code;
  }
}

function open(): string {
  try {
    void TeeContext.open().close();
    return 'works';
  } catch (error) {
    return (error as { code: string }).code;
  }
}

async function main(): Promise<void> {
  const tee = TeeContext.open();
  const session = await tee.openSession(TEST_TA);
  const unbinding = driver('unbind');
  const unbound = once(unbinding, 'exit');
  await until(() => !existsSync('/dev/teepriv0'));
  await stopSupplicant(); // which has that one open
  await until(() => !existsSync('/dev/tee0'));
  await delay(200);
  const meanwhile = { waits: unbinding.exitCode === null, call: await call(session), open: open() };
  await tee.close();
  await unbound;
  const without = open();
  await once(driver('bind'), 'exit');
  await until(() => existsSync('/dev/tee0') && existsSync('/dev/teepriv0'));
  await startSupplicant();
  const again = TeeContext.open();
  const after = await call(await again.openSession(TEST_TA));
  await again.close();
  console.log(JSON.stringify({ meanwhile, without, after }));
}

void main();
