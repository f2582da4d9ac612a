// Shows frames that lie in protected memory.
import { defineTrustedApplication, slot } from 'node-optee/ta';

export const VideoDisplay = defineTrustedApplication({
  name: 'video_display',
  uuid: 'ca5c2978-9d83-4343-aa54-890e5d3a8fe2', // also BINARY in ta/video_display/Makefile
  commands: {
    // There is no screen here: the SHA-256 of the frame stands for it.
    show: { id: 0, slots: [slot.memory.in('frame'), slot.bytes.out('hash', { size: 32 })] },
  },
});
