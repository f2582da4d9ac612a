/** The test TA as a description; see `test/ta/include/node_optee_test_ta.h`. */
import {
  array,
  bool,
  defineTrustedApplication,
  enumeration,
  octets,
  slot,
  struct,
  u32,
  u64,
  u8,
} from 'node-optee/ta';
import * as TA from './test-ta.js';

/** struct test_ta_param */
export const Param = struct('param', {
  type: enumeration({
    NONE: 0,
    VALUE_INPUT: 1,
    VALUE_OUTPUT: 2,
    VALUE_INOUT: 3,
    MEMREF_INPUT: 5,
    MEMREF_OUTPUT: 6,
    MEMREF_INOUT: 7,
  }),
  flags: u32,
  a: u32,
  b: u32,
});
export const Params = struct('params', { all: array(Param, 4) });

/** Any struct; TRANSFORM changes each byte. */
export const Config = struct('config', { level: u8, limit: u64, name: octets(5), last: u8 });

export const TestTa = defineTrustedApplication({
  name: 'test_ta',
  uuid: TA.NODE_OPTEE_TEST_TA_UUID,
  results: { TEST_TA_LOCKED: 0x80000001 },
  open: [
    slot.value.in(u32('result', { default: 0 }), u32('wait', { default: 0 })),
    slot.value.inout('one', 'two'),
    slot.text.in('kept', { max: 64 }),
    slot.text.out('reversed', { max: 64 }),
  ],
  commands: {
    nothing: { id: TA.TEST_TA_NOTHING },
    values: {
      id: TA.TEST_TA_VALUES,
      slots: [
        slot.value.in('a', 'b'),
        slot.value.inout('one', 'two'),
        slot.value.out('sumOfA', 'sumOfB'),
        slot.value.inout(u64('wide')),
      ],
    },
    count: { id: TA.TEST_TA_COUNT, slots: [slot.value.inout('count', 'last')] },
    checksum: {
      id: TA.TEST_TA_CHECKSUM,
      slots: [slot.bytes.in('data', { max: 4096 }), slot.value.out('sum', 'hash')],
    },
    copyText: {
      id: TA.TEST_TA_COPY,
      slots: [slot.text.in('text', { max: 4096 }), slot.text.out('copy', { max: 4096 })],
    },
    fillText: {
      id: TA.TEST_TA_FILL,
      slots: [
        slot.text.inout('text', { max: 20 }),
        slot.value.in(u8('byte')),
        slot.value.in('offset', 'length'),
      ],
    },
    write: {
      id: TA.TEST_TA_WRITE,
      slots: [slot.bytes.out('data', { max: 4096, initial: 16 }), slot.value.in('size')],
      repeatable: true,
    },
    transform: { id: TA.TEST_TA_TRANSFORM, slots: [slot.struct.inout('config', Config)] },
    answer: {
      id: TA.TEST_TA_RESULT,
      slots: [
        slot.value.in('result', 'size'),
        slot.bytes.out('data', { size: 32 }),
        slot.value.out(bool('wrong')),
      ],
    },
    wait: {
      id: TA.TEST_TA_WAIT,
      slots: [slot.value.in('milliseconds'), slot.value.out('waited', 'cancelled')],
    },
    remember: {
      id: TA.TEST_TA_PARAMS,
      slots: [
        slot.value.in('a', 'b'),
        slot.bytes.in('data', { max: 9, optional: true }),
        slot.memory.inout('memory', { optional: true }),
        slot.bytes.inout('more', { max: 9 }),
      ],
    },
    remembered: { id: TA.TEST_TA_PARAMS_READ, slots: [slot.struct.out('params', Params)] },
    panic: { id: TA.TEST_TA_PANIC },
  },
});

/** The same TA's commands with other slots, which one description cannot have: an id is there once. */
export const Memory = defineTrustedApplication({
  name: 'memory',
  uuid: TA.NODE_OPTEE_TEST_TA_UUID,
  commands: {
    fill: {
      id: TA.TEST_TA_FILL,
      slots: [slot.memory.out('memory', { min: 1, max: 8192 }), slot.value.in(u8('byte'))],
    },
    write: { id: TA.TEST_TA_WRITE, slots: [slot.bytes.out('data', { size: 32 }), slot.value.in('size')] },
    checksum: { id: TA.TEST_TA_CHECKSUM, slots: [slot.memory.in('memory'), slot.value.out('sum', 'hash')] },
  },
});
