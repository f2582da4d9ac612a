// Signs with a key that is made in the TA, and never leaves it.
import { defineTrustedApplication, slot } from 'node-optee/ta';

export const HashAndSign = defineTrustedApplication({
  name: 'hash_and_sign',
  uuid: '6f1c2b5e-8d3a-4f0b-9c61-2e7f4a5b9d10', // also BINARY in ta/Makefile
  commands: {
    // The point of a P-256 key.
    publicKey: { id: 0, slots: [slot.bytes.out('x', { size: 32 }), slot.bytes.out('y', { size: 32 })] },
    // ECDSA with SHA-256; r and s one after the other.
    sign: {
      id: 1,
      slots: [slot.bytes.in('data', { max: 65536 }), slot.bytes.out('signature', { size: 64 })],
    },
  },
});
