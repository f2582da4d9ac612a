// A private key for TLS that never leaves the TEE, and the request for its certificate.
import { verify } from 'node:crypto';
import { Pkcs11 } from 'node-optee/pkcs11';

const [soPin, pin] = ['security officer', 'user-1234']; // in a product: from where the board keeps its secrets

const pkcs11 = await Pkcs11.open();
try {
  // The first start of the device: a token that was never used.
  const tokens = await pkcs11.tokens();
  const free = tokens.find(({ label }) => label === 'example') ?? tokens.find((one) => !one.initialized);
  if (free === undefined) throw new Error('all tokens are in use');
  const token = await pkcs11.token({ slot: free.slot });
  await token.initialize({ label: 'example', soPin });
  await token.setUserPin({ soPin, pin });

  const login = await token.login({ pin });
  const { privateKey } = await login.generateKeyPair('ec', { namedCurve: 'P-256', label: 'tls' });

  // PKCS #10 (RFC 2986). A library that takes a function to sign with does this as well.
  const der = (tag, ...content) => {
    const bytes = Buffer.concat(content);
    const { length } = bytes;
    const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 255];
    return Buffer.concat([Buffer.from([tag, ...size]), bytes]);
  };
  const COMMON_NAME = Buffer.from('0603550403', 'hex');
  const ECDSA_WITH_SHA256 = Buffer.from('06082a8648ce3d040302', 'hex');
  const name = der(0x30, der(0x31, der(0x30, COMMON_NAME, der(0x0c, Buffer.from('gateway-0001')))));
  const publicKey = privateKey.publicKey.export({ format: 'der', type: 'spki' });
  const info = der(0x30, Buffer.from('020100', 'hex'), name, publicKey, der(0xa0));
  const signature = await privateKey.sign('sha256', info); // in the TEE; the event loop goes on
  const request = der(0x30, info, der(0x30, ECDSA_WITH_SHA256), der(0x03, Buffer.from([0]), signature));
  const lines = request.toString('base64').replace(/.{64}(?=.)/g, '$&\n');
  console.log(`-----BEGIN CERTIFICATE REQUEST-----\n${lines}\n-----END CERTIFICATE REQUEST-----`);

  // Later, with the certificate: login.importCertificate(pem, { id: privateKey.id }).
  console.log('the request is signed by its key:', verify('sha256', info, privateKey.publicKey, signature));
} finally {
  await pkcs11.close();
}
