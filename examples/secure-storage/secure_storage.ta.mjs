// Objects with a name, in the storage of the TA: encrypted, and out of reach of other TAs.
import { defineTrustedApplication, slot } from 'node-optee/ta';

const name = slot.text.in('name', { max: 64 });

export const SecureStorage = defineTrustedApplication({
  name: 'secure_storage',
  uuid: 'cdf2c3c4-5ff5-4a2f-ab37-9cc78cf49aea', // also BINARY in ta/Makefile
  commands: {
    // Takes the place of an object with this name.
    write: { id: 0, slots: [name, slot.bytes.in('data', { max: 4096 })] },
    // A larger object is asked for again, with the room that it needs.
    read: { id: 1, slots: [name, slot.bytes.out('data', { max: 4096, initial: 64 })], repeatable: true },
    remove: { id: 2, slots: [name] },
  },
});
