/** Becomes another user, with groups or without, and prints how that goes. Arguments: uid, gid, supplementary groups. */
import { Login, TeeContext, value } from 'node-optee';
import { TEST_TA } from '../../support/census.js';
import { TEST_TA_VALUES } from '../../support/test-ta.js';

async function main([uid, gid, ...groups]: number[]): Promise<void> {
  process.setgroups?.(groups);
  process.setgid?.(gid);
  process.setuid?.(uid);
  const devices = TeeContext.list().map(({ path, version, error }) => ({
    path,
    implementation: version?.implementation,
    code: error?.code,
  }));
  try {
    const tee = TeeContext.open();
    const session = await tee.openSession(TEST_TA, { login: Login.user });
    const [found] = await session.invoke(TEST_TA_VALUES, [value.inout(1)]);
    await tee.close();
    console.log(JSON.stringify({ devices, found }));
  } catch (error) {
    const { name, message, code, errno, path } = error as NodeJS.ErrnoException;
    console.log(JSON.stringify({ devices, error: { name, message, code, errno, path } }));
  }
}

void main(process.argv.slice(2).map(Number));
