/**
 * Runs in the guest, the counterpart of `c/sign.c`: signs with the private key of slot 0, one signature after the other.
 *
 *   node sign.js PIN SIGNATURES [WARM_UP]
 *
 * Without a number of signatures it makes token and key. WARM_UP is a number of HMACs before the signatures: they take the
 * TA no time, so that V8 can compile what both have in common.
 */
import { Pkcs11 } from 'node-optee/pkcs11';

async function main(): Promise<void> {
  const [pin, signatures = '0', warmUp = '0'] = process.argv.slice(2);
  const pkcs11 = await Pkcs11.open();
  try {
    const token = await pkcs11.token({ slot: 0 });
    if (signatures === '0') {
      await token.initialize({ label: 'benchmark', soPin: pin });
      await token.setUserPin({ soPin: pin, pin });
    }
    const login = await token.login({ pin });
    if (signatures === '0') await login.generateKeyPair('ec', { namedCurve: 'P-256', label: 'benchmark' });
    const mac = await login.generateKey('hmac', { length: 256, token: false });
    for (let i = 0; i < Number(warmUp); i++) await mac.sign('sha256', Buffer.from([i]));
    const key = await login.privateKey({ label: 'benchmark' });
    for (let i = 0; i < Number(signatures); i++) await key.sign('sha256', Buffer.from([i]));
  } finally {
    await pkcs11.close();
  }
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
