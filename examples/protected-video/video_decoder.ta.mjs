// Decodes frames into protected memory. (That of a real film would also decrypt them.)
import { defineTrustedApplication, slot } from 'node-optee/ta';

export const VideoDecoder = defineTrustedApplication({
  name: 'video_decoder',
  uuid: 'cec4a2a8-1485-476c-a63c-2eb8dd94ce96', // also BINARY in ta/video_decoder/Makefile
  results: { VIDEO_DECODER_NOT_PROTECTED: 0x80000001 },
  commands: {
    // Pairs of bytes: how many pixels, and which.
    decode: { id: 0, slots: [slot.bytes.in('runs', { max: 65536 }), slot.memory.out('frame')] },
  },
});
