// Random bytes of the TEE.
import { defineTrustedApplication, slot } from 'node-optee/ta';

export const Random = defineTrustedApplication({
  name: 'random',
  uuid: '79144fa6-140f-4570-b638-9657ef9c483f', // also BINARY in ta/Makefile
  commands: {
    // As many as there is room for.
    generate: { id: 0, slots: [slot.bytes.out('bytes', { max: 65536 })] },
  },
});
