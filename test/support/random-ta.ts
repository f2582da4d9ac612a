/** Small descriptions at random: none or some commands, with none or some slots of any kind. */
import fc from 'fast-check';
import {
  array,
  bool,
  defineTrustedApplication,
  enumeration,
  octets,
  slot,
  struct,
  u16,
  u32,
  u64,
  u8,
} from 'node-optee/ta';

type Make = (...args: unknown[]) => unknown;
const [values, bytes, structs, texts, memories] = [
  slot.value,
  slot.bytes,
  slot.struct,
  slot.text,
  slot.memory,
] as unknown as Record<string, Make>[];

/** Names of the dispatcher's own are among them. */
const NAMES = [
  ...['a', 'b', 'i', 'text', 'size', 'copy', 'params', 'types', 'command', 'result', 'enough', 'given'],
  ...['param', 'userName', 'readPCR7'],
];
const LONG_NAMES = ['aNameThatIsLongEnoughForALineToBeBroken', 'anotherOneThatFillsALineNearlyByItself'];
const MODES = [
  enumeration({ OFF: 0, ON: 1 }),
  enumeration({ ONLY: 7 }),
  enumeration({ lastOfAll: 0xffff_ffff }),
];
const NARROW = [u8, u16, u32, bool, ...MODES] as unknown as Make[];

const Inner = struct('inner', { isSet: bool, modes: array(MODES[0], 2), last: u8 });
const STRUCTS = [
  struct('one', { only: u8 }),
  struct('padded', { level: u8, limit: u64, mode: MODES[2] }),
  struct('outer', { inners: array(array(Inner, 2), 3), name: octets(5), end: u16 }),
  Inner,
];

const direction = fc.constantFrom('in', 'out', 'inout');
const size = fc.integer({ min: 1, max: 70_000 });

/** Makes a slot with these two names. */
const slotArbitrary: fc.Arbitrary<(...names: string[]) => unknown> = fc.oneof(
  fc.tuple(direction, fc.subarray(NARROW, { minLength: 1, maxLength: 2 })).map(
    ([way, types]) =>
      (...names: string[]) =>
        values[way](...types.map((type, i) => type(names[i]))),
  ),
  direction.map((way) => (name: string) => values[way]((u64 as unknown as Make)(name))),
  fc.tuple(fc.constantFrom('in', 'out', 'inout'), size, fc.boolean(), fc.boolean()).map(
    ([way, max, isFixed, optional]) =>
      (name: string) =>
        bytes[way](name, { ...(isFixed ? { size: max } : { max }), ...(way === 'in' ? { optional } : {}) }),
  ),
  fc.tuple(direction, fc.constantFrom(...STRUCTS)).map(
    ([way, type]) =>
      (name: string) =>
        structs[way](name, type),
  ),
  fc.tuple(direction, fc.integer({ min: 1, max: 300 }), fc.boolean()).map(
    ([way, max, optional]) =>
      (name: string) =>
        texts[way](name, { max, ...(way === 'in' ? { optional } : {}) }),
  ),
  fc.tuple(direction, fc.option(size, { nil: undefined }), fc.boolean()).map(
    ([way, max, optional]) =>
      (name: string) =>
        memories[way](name, { max, optional }),
  ),
);
const slotsWith = (names: readonly string[]): fc.Arbitrary<unknown[]> =>
  fc
    .tuple(
      fc.array(slotArbitrary, { maxLength: 4 }),
      fc.shuffledSubarray([...names], { minLength: 8, maxLength: 8 }),
    )
    .map(([makers, own]) => makers.map((make, i) => make(own[2 * i], own[2 * i + 1])));

/**
 * A described TA.
 * @param long with names that do not fit into a line, too
 */
export function randomTa(long: boolean): fc.Arbitrary<object> {
  const names = long ? [...NAMES, ...LONG_NAMES] : NAMES;
  return fc
    .record({
      name: fc.constantFrom('x', 'notary', ...(long ? ['an_application_with_a_long_name'] : [])),
      open: slotsWith(names.filter((name) => name !== 'params')), // an option of open
      commands: fc.dictionary(
        fc.constantFrom('go', 'signHash', 'do', ...(long ? LONG_NAMES : [])),
        slotsWith(names),
        {
          maxKeys: 3,
        },
      ),
    })
    .map(({ name, open, commands }) =>
      (defineTrustedApplication as unknown as (definition: unknown) => object)({
        name,
        uuid: '8aaaf200-2450-11e4-abe2-0002a5d5c51b',
        open,
        commands: Object.fromEntries(
          Object.entries(commands).map(([command, slots], id) => [command, { id, slots }]),
        ),
      }),
    );
}
