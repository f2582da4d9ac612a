import { buffer, DmaHeap, value, type Params, type Session, type TeeContext } from 'node-optee';
import { defineTrustedApplication, slot } from 'node-optee/ta';
import {
  NODE_OPTEE_TEST_TA_UUID,
  TEST_TA_NOTHING,
  TEST_TA_TOUCH,
  TEST_TA_VALUES,
} from '../test/support/test-ta';

const SIZES = [16, 4096, 65536, 1048576] as const;
const DMA_BUF_SIZE = 65536;
/** As in `c/common.h`: what lies before and behind a part of shared memory. */
const PART_MARGIN = 4096;
/** Of protected memory; the second one is that of the machine `dmabuf`. */
const HEAPS = ['protected,secure-video', 'sdp@7e000000'];

/** What a case does once, ready to be measured. */
export interface Prepared {
  /** One call that blocks; of what it returns, a promise is awaited. */
  sync: () => Promise<void> | void;
  /** The same through a description of the TA, on a session of its own. */
  described?: () => void;
  /** One call that is awaited, where the library has that. */
  async?: () => Promise<unknown>;
  /** Releases what was prepared. */
  close?: () => Promise<void> | void;
}

/** A case by the name that the C side has for it too. */
export interface BenchCase {
  readonly name: string;
  /** How many calls a round makes, of those that it makes where a call takes half a millisecond. */
  readonly share: number;
  prepare(tee: TeeContext, session: Session): Prepared;
}

/** Makes the same call of the TA in both ways. Here as below, parameters are made for each call, as in C. */
function invocation(name: string, command: number, params: () => Params): BenchCase {
  const prepare = (_: TeeContext, session: Session): Prepared => {
    return {
      sync: () => void session.invokeSync(command, params()),
      async: () => session.invoke(command, params()),
    };
  };
  return { name, share: 1, prepare };
}

const [Value, Values4] = [
  defineTrustedApplication({
    name: 'value',
    uuid: NODE_OPTEE_TEST_TA_UUID,
    commands: { values: { id: TEST_TA_VALUES, slots: [slot.value.inout('one', 'two')] } },
  }),
  defineTrustedApplication({
    name: 'values4',
    uuid: NODE_OPTEE_TEST_TA_UUID,
    commands: {
      values: {
        id: TEST_TA_VALUES,
        slots: [
          slot.value.inout('one', 'two'),
          slot.value.inout('three', 'four'),
          slot.value.inout('five', 'six'),
          slot.value.inout('seven', 'eight'),
        ],
      },
    },
  }),
];

/** The same calls through a description, too. */
function described(
  bench: BenchCase,
  open: (tee: TeeContext) => { close(): Promise<void>; call(): void },
): BenchCase {
  const prepare = (tee: TeeContext, session: Session): Prepared => {
    // Of all that are prepared only one makes such calls.
    let client: ReturnType<typeof open> | undefined;
    return {
      ...bench.prepare(tee, session),
      described: () => (client ??= open(tee)).call(),
      close: () => client?.close(),
    };
  };
  return { ...bench, prepare };
}

function openValue(tee: TeeContext): { close(): Promise<void>; call(): void } {
  const client = Value.openSync(tee);
  return { close: () => client.close(), call: () => void client.sync.values({ one: 41, two: 1 }) };
}

function openValues4(tee: TeeContext): { close(): Promise<void>; call(): void } {
  const client = Values4.openSync(tee);
  const call = (): void => {
    client.sync.values({ one: 41, two: 1, three: 41, four: 1, five: 41, six: 1, seven: 41, eight: 1 });
  };
  return { close: () => client.close(), call };
}

/** C has outputs in memory of the caller's always; here only with `into` and `inplace`, else in a new array. */
function temporary(direction: 'in' | 'out' | 'inout' | 'into' | 'inplace', size: number): BenchCase {
  const prepare = (_: TeeContext, session: Session): Prepared => {
    const bytes = new Uint8Array(size);
    const param = {
      in: () => buffer.in(bytes),
      out: () => buffer.out(size),
      inout: () => buffer.inout(bytes),
      into: () => buffer.into(bytes),
      inplace: () => buffer.inPlace(bytes),
    }[direction];
    return {
      sync: () => void session.invokeSync(TEST_TA_TOUCH, [param()]),
      async: () => session.invoke(TEST_TA_TOUCH, [param()]),
    };
  };
  return { name: `tmp-${direction}-${size}`, share: size > 65536 ? 0.5 : 1, prepare };
}

function sharedMemory(size: number, part: boolean): BenchCase {
  const prepare = (tee: TeeContext, session: Session): Prepared => {
    const shm = tee.allocSharedMemorySync(part ? size + 2 * PART_MARGIN : size);
    const param = () => (part ? shm.inout({ offset: PART_MARGIN, size }) : shm.inout());
    return {
      sync: () => void session.invokeSync(TEST_TA_TOUCH, [param()]),
      async: () => session.invoke(TEST_TA_TOUCH, [param()]),
      close: () => shm.close(),
    };
  };
  return { name: `shm-${part ? 'part' : 'whole'}-${size}`, share: 1, prepare };
}

function allocation(size: number): BenchCase {
  const prepare = (tee: TeeContext): Prepared => ({ sync: () => tee.allocSharedMemorySync(size).close() });
  return { name: `shm-alloc-${size}`, share: 1, prepare };
}

const dmaBuf: BenchCase = {
  name: 'dmabuf-register',
  share: 5,
  prepare(tee) {
    const heap = DmaHeap.open(HEAPS.find((name) => DmaHeap.list().includes(name)) ?? HEAPS[0]);
    const dma = heap.allocSync(DMA_BUF_SIZE);
    heap.close();
    return { sync: () => tee.registerDmaBufSync(dma).close(), close: () => dma.close() };
  },
};

const openAndClose: BenchCase = {
  name: 'session',
  share: 0.05,
  prepare: (tee) => ({
    // There is no close that blocks.
    sync: () => tee.openSessionSync(NODE_OPTEE_TEST_TA_UUID).close(),
    async: async () => (await tee.openSession(NODE_OPTEE_TEST_TA_UUID)).close(),
  }),
};

export const CASES: readonly BenchCase[] = [
  invocation('empty', TEST_TA_NOTHING, () => []),
  described(
    invocation('value', TEST_TA_VALUES, () => [value.inout(41, 1)]),
    openValue,
  ),
  described(
    invocation('values4', TEST_TA_VALUES, () => [
      value.inout(41, 1),
      value.inout(41, 1),
      value.inout(41, 1),
      value.inout(41, 1),
    ]),
    openValues4,
  ),
  ...(['in', 'out', 'inout', 'into', 'inplace'] as const).flatMap((direction) =>
    SIZES.map((size) => temporary(direction, size)),
  ),
  ...SIZES.map((size) => sharedMemory(size, false)),
  ...SIZES.map((size) => sharedMemory(size, true)),
  ...SIZES.map(allocation),
  dmaBuf,
  openAndClose,
];
