/** Another process on the same token: finds a key, or makes the TA panic. */
import { buffer, TeeContext } from 'node-optee';
import { Pkcs11, PKCS11_TA } from 'node-optee/pkcs11';
import { pack } from '#lib/pkcs11/serializer';

const [what = '', label = ''] = process.argv.slice(2);

async function main(): Promise<unknown> {
  if (what === 'sign') {
    const pkcs11 = await Pkcs11.open();
    const token = await pkcs11.token({ slot: 0 });
    const login = await token.login({ pin: 'user-1234' });
    const key = await login.privateKey({ label });
    const signature = await key.sign('sha256', Buffer.from('from another process'));
    const labels = (await login.privateKeys()).map((one) => one.label);
    await pkcs11.close();
    return { signature: signature.toString('hex'), labels };
  }
  // A login of the security officer on a token that was never initialized: any client can do this.
  const tee = TeeContext.open();
  const session = await tee.openSession(PKCS11_TA);
  const slot = Number(label);
  const [, , handle] = await session.invoke(6, [buffer.inout(pack(slot, 6)), undefined, buffer.out(4)]);
  const number = new DataView(handle.buffer, handle.byteOffset).getUint32(0, true);
  const error = await session
    .invoke(13, [buffer.inout(pack(number, 0, 4, Buffer.from('1234')))])
    .catch((thrown: unknown) => thrown);
  await tee.close();
  return { code: (error as { code?: string }).code };
}

main().then(
  (found) => console.log(JSON.stringify(found)),
  (error: unknown) => {
    console.error(error);
    process.exitCode = 1;
  },
);
