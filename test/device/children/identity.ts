/**
 * As another user, opens sessions with each login. Prints by login what os_test and the test TA say of their client, or
 * the error. Arguments: uid, gid, one supplementary group.
 */
import { buffer, Login, TeeContext, value, type Session } from 'node-optee';
import { OS_TEST, TEST_TA } from '../../support/census.js';
import { TEST_TA_IDENTITY } from '../../support/test-ta.js';

async function identity(session: Session, command: number): Promise<[number, Buffer]> {
  const [{ a }, uuid] = await session.invoke(command, [value.out(), buffer.out(16)]);
  return [a, Buffer.from(uuid)];
}

async function main([uid, gid, group]: number[]): Promise<void> {
  process.setgroups?.([group]);
  process.setgid?.(gid);
  process.setuid?.(uid);
  const tee = TeeContext.open();
  const found: Record<string, unknown> = {};
  for (const login of [Login.public, Login.user, Login.group(gid), Login.group(group), Login.group(0)]) {
    try {
      const [method, bytes] = await identity(await tee.openSession(OS_TEST, { login }), 20);
      // os_test hands out its struct, whose first three fields are little-endian.
      bytes.subarray(0, 4).reverse();
      bytes.subarray(4, 6).reverse();
      bytes.subarray(6, 8).reverse();
      const [same, own] = await identity(await tee.openSession(TEST_TA, { login }), TEST_TA_IDENTITY);
      found[login.name] = [method, bytes.toString('hex'), same, own.toString('hex')];
    } catch (error) {
      found[login.name] = (error as { code: string }).code;
    }
  }
  await tee.close();
  console.log(JSON.stringify(found));
}

void main(process.argv.slice(2).map(Number));
