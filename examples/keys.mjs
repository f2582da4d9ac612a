// A private key for TLS that never leaves the TEE, and the request for its certificate.
// The request is made by a library: npm install @peculiar/x509 reflect-metadata
import { webcrypto } from 'node:crypto';
import 'reflect-metadata';
import { Pkcs10CertificateRequestGenerator, SubjectAlternativeNameExtension } from '@peculiar/x509';
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

  // The library asks WebCrypto for two things. These come from the token.
  const subtle = {
    exportKey: async (format, key) => key.publicKey.export({ format: 'der', type: 'spki' }),
    sign: (algorithm, key, data) => key.sign('sha256', data, { dsaEncoding: 'ieee-p1363' }), // in the TEE
  };
  const request = await Pkcs10CertificateRequestGenerator.create(
    {
      name: 'CN=gateway-0001, O=Example',
      extensions: [new SubjectAlternativeNameExtension([{ type: 'dns', value: 'gateway-0001.example' }])],
      keys: { privateKey, publicKey: privateKey },
      signingAlgorithm: { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' },
    },
    { subtle },
  );
  console.log(request.toString('pem'));

  // Later, with the certificate: login.importCertificate(pem, { id: privateKey.id }).
  console.log('the request is signed by its key:', await request.verify(webcrypto));
} finally {
  await pkcs11.close();
}
