// A hash that takes time: SHA-256 over and over, so that guessing passwords from it takes long, too.
import { defineTrustedApplication, slot } from 'node-optee/ta';

export const HttpService = defineTrustedApplication({
  name: 'http_service',
  uuid: '0d08af83-8142-4bee-acab-cc55eed04922', // also BINARY in ta/Makefile
  commands: {
    // Can be cancelled.
    stretch: {
      id: 0,
      slots: [
        slot.value.in('rounds'),
        slot.bytes.in('data', { max: 1024 }),
        slot.bytes.out('hash', { size: 32 }),
      ],
    },
  },
});
