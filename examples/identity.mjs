// Telling a TA who the client is. The kernel vouches for it, so a process cannot claim to be another.
import { buffer, Login, TeeContext, value } from 'node-optee';

const TA = '346e01a1-3d71-4feb-894b-ae252d064bde';
const IDENTITY = 18; // login method, and the client's UUID as the TA sees it

const tee = TeeContext.open();
try {
  for (const login of [Login.public, Login.user, Login.group(process.getegid())]) {
    const session = await tee.openSession(TA, { login });
    const [method, uuid] = await session.invoke(IDENTITY, [value.out(), buffer.out(16)]);
    console.log(String(login), 'is', method.a, Buffer.from(uuid).toString('hex'));
    await session.close();
  }
} finally {
  await tee.close();
}
