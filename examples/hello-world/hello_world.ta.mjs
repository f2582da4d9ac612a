// The "hello world" of OP-TEE's examples: a number, and one more.
import { defineTrustedApplication, slot } from 'node-optee/ta';

export const HelloWorld = defineTrustedApplication({
  name: 'hello_world',
  uuid: '8aaaf200-2450-11e4-abe2-0002a5d5c51b', // also BINARY in ta/Makefile
  commands: {
    increment: { id: 0, slots: [slot.value.inout('number')] },
  },
});
