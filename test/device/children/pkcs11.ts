/** Another process on the same token: finds a key, or makes the TA panic. */
import { buffer, TeeContext } from 'node-optee';
import { Pkcs11, PKCS11_TA } from 'node-optee/pkcs11';
import { Attribute, Command, KeyType, Mechanism, ObjectClass } from '#lib/pkcs11/constants';
import { encodeMechanism, encodeTemplate, pack } from '#lib/pkcs11/serializer';

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
  // GCM with a tag of 64 bits, by a client that is not even logged in: any client can do this. The TA does not look at the
  // result of TEE_AEInit, and the additional data then meets an operation that was not initialized: TEE_AEUpdateAAD panics.
  const tee = TeeContext.open();
  const session = await tee.openSession(PKCS11_TA);
  const ask = async (command: number, control: Uint8Array): Promise<number> => {
    const [result, , out] = await session.invoke(command, [buffer.inout(control), undefined, buffer.out(4)]);
    const value = Buffer.from(result).readUInt32LE();
    if (value !== 0) throw new Error(`command ${command}: result ${value}`);
    return Buffer.from(out).readUInt32LE();
  };
  const handle = await ask(Command.OPEN_SESSION, pack(0, 6));
  const template = encodeTemplate([
    [Attribute.CLASS, ObjectClass.SECRET_KEY],
    [Attribute.KEY_TYPE, KeyType.AES],
    [Attribute.ENCRYPT, true],
    [Attribute.VALUE, new Uint8Array(16)],
  ]);
  const key = await ask(Command.CREATE_OBJECT, pack(handle, template));
  const mechanism = encodeMechanism({
    id: Mechanism.AES_GCM,
    parameters: pack(12, new Uint8Array(12), 4, new Uint8Array(4), 64),
  });
  const found = await session.invoke(Command.ENCRYPT_INIT, [buffer.inout(pack(handle, key, mechanism))]).then(
    ([result]) => ({ result: Buffer.from(result).readUInt32LE() }),
    (error: { code?: string }) => ({ code: error.code }),
  );
  await tee.close();
  return found;
}

main().then(
  (found) => console.log(JSON.stringify(found)),
  (error: unknown) => {
    console.error(error);
    process.exitCode = 1;
  },
);
