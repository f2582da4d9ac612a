// The test TA's commands that have the same numbers each time, or none: see include/node_optee_test_ta.h. After a change:
// node dist/cli.js ta generate test/ta/values.ta.mjs --out test/ta/generated
import { defineTrustedApplication, slot } from 'node-optee/ta';

export const TestTa = defineTrustedApplication({
  name: 'test_ta',
  uuid: '346e01a1-3d71-4feb-894b-ae252d064bde',
  commands: {
    nothing: { id: 0 },
    count: { id: 13, slots: [slot.value.inout('count', 'last')] },
  },
});
