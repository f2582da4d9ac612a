// The TA signs, node:crypto verifies. In the guest: node examples/run.cjs hash-and-sign
import { createPublicKey, verify } from 'node:crypto';
import { TeeContext } from 'node-optee';
import { HashAndSign } from './hash_and_sign.ta.mjs';

const tee = TeeContext.open();
try {
  const signer = await HashAndSign.open(tee);
  const { x, y } = await signer.publicKey();
  const coordinate = (bytes) => Buffer.from(bytes).toString('base64url');
  const key = createPublicKey({
    format: 'jwk',
    key: { kty: 'EC', crv: 'P-256', x: coordinate(x), y: coordinate(y) },
  });

  const data = Buffer.from('signed in the secure world');
  const { signature } = await signer.sign({ data });
  const check = (bytes) => verify('sha256', bytes, { key, dsaEncoding: 'ieee-p1363' }, signature);
  console.log('the signature is', check(data) ? 'good' : 'bad');
  console.log('of other data it is', check(Buffer.from('something else')) ? 'good' : 'bad');
} finally {
  await tee.close(); // and its sessions with it
}
