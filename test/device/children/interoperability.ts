/**
 * A program of the guest's: makes one object of each kind on a token, or finds all objects and uses each.
 *
 *   node interoperability.js init LABEL | init-identity LABEL | make LABEL | use LABEL
 *
 * What it prints at last is JSON; the host looks whether it is right.
 */
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { Pkcs11, type TokenLogin } from 'node-optee/pkcs11';
import { CERTIFICATE } from '../../support/certificate.js';
import { CURVES, DATA, IV, PIN, SECRET, SO_PIN, TEXT } from '../../support/interoperability.js';

const [what, tokenLabel = ''] = process.argv.slice(2);

/** @returns the public keys, by label */
async function make(login: TokenLogin): Promise<Record<string, string>> {
  const publicKeys: Record<string, string> = {};
  const pairs = [
    ...CURVES.map((namedCurve) => [`node ${namedCurve}`, 'ec', { namedCurve }] as const),
    ['node Ed25519', 'ed25519', {}],
    ['node RSA', 'rsa', { modulusLength: 2048 }],
  ] as const;
  for (const [i, [label, type, options]] of pairs.entries()) {
    const { privateKey } = await login.generateKeyPair(type, { ...options, id: `a${i}`, label });
    publicKeys[label] = pem(privateKey.publicKey);
  }
  const own = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const imported = await login.importPrivateKey(own.privateKey, { id: 'a6', label: 'node import' });
  publicKeys['node import'] = pem(imported.privateKey.publicKey);
  await login.generateKey('aes', { length: 256, id: 'a7', label: 'node AES' });
  await login.importSecretKey(SECRET, { type: 'aes', id: 'a8', label: 'node AES import' });
  await login.importSecretKey(SECRET, { type: 'hmac', id: 'a9', label: 'node HMAC' });
  await login.importCertificate(CERTIFICATE, { id: 'a0', label: 'node certificate' });
  await login.importData(DATA, { label: 'node data', application: 'interoperability' });
  return publicKeys;
}

const pem = (key: KeyObject): string => key.export({ type: 'spki', format: 'pem' }).toString();

/** Each with what it does. */
async function use(login: TokenLogin): Promise<unknown> {
  const found = [];
  for (const key of await login.privateKeys()) {
    const algorithm = key.asymmetricKeyType === 'ed25519' ? null : 'sha256';
    const signature = (await key.sign(algorithm, TEXT)).toString('hex');
    found.push({ kind: 'private key', ...named(key), publicKey: pem(key.publicKey), signature });
  }
  for (const key of await login.publicKeys()) {
    found.push({ kind: 'public key', ...named(key), publicKey: pem(key.publicKey) });
  }
  for (const key of await login.secretKeys()) {
    if (key.type === 'aes') {
      const algorithm = `aes-${key.symmetricKeySize * 8}-cbc`;
      const { ciphertext } = await key.encrypt(algorithm, TEXT, { iv: IV, autoPadding: false });
      found.push({ kind: 'AES', ...named(key), ciphertext: ciphertext.toString('hex') });
    } else {
      const mac = await key.sign('sha256', TEXT);
      found.push({ kind: 'HMAC', ...named(key), mac: mac.toString('hex') });
    }
  }
  for (const certificate of await login.certificates()) {
    found.push({ kind: 'certificate', ...named(certificate), raw: certificate.raw.toString('hex') });
  }
  for (const data of await login.dataObjects()) {
    found.push({ kind: 'data', ...named(data), data: (await data.read()).toString('hex') });
  }
  return found;
}

const named = ({ id, label }: { id: Buffer; label: string }) => ({ id: id.toString('hex'), label });

async function main(): Promise<unknown> {
  const pkcs11 = await Pkcs11.open();
  try {
    if (what === 'init') {
      const token = await pkcs11.token({ slot: 0 });
      await token.initialize({ label: tokenLabel, soPin: SO_PIN });
      await token.setUserPin({ soPin: SO_PIN, pin: PIN });
      return undefined;
    }
    if (what === 'init-identity') {
      const token = await pkcs11.token({ slot: 1 });
      await token.initialize({ label: tokenLabel, identity: 'user' });
      await token.setUserIdentity({ so: { identity: 'user' }, user: { identity: 'user' } });
      const login = await token.login({ identity: 'user' });
      await login.generateKeyPair('ec', { namedCurve: 'P-256', id: 'a0', label: 'node identity' });
      return undefined;
    }
    const token = await pkcs11.token({ label: tokenLabel });
    const login = await token.login((await token.info()).identity ? { identity: 'user' } : { pin: PIN });
    return what === 'make' ? await make(login) : await use(login);
  } finally {
    await pkcs11.close();
  }
}

main().then(
  (found) => console.log(JSON.stringify(found ?? null)),
  (error: unknown) => {
    console.error(error);
    process.exitCode = 1;
  },
);
