/** The C that is generated from a description: how it looks, that it compiles, and in the guest what it does. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { beforeAll, expect, jest, test } from '@jest/globals';
import fc from 'fast-check';
import { Guest, prepareDevKit, prepareNodeModules } from 'node-optee/qemu';
import { defineTrustedApplication, slot } from 'node-optee/ta';
import { generate } from '#lib/ta/generate/index';
import { layOut, type FieldType } from '#lib/ta/layout';
import { Every, everySource } from '../support/every-slot.js';
import { descriptionIn, generatedTa, WARNINGS } from '../support/generated-ta.js';
import { BUILD_TIMEOUT, newFolder } from '../support/guest.js';
import { randomTa } from '../support/random-ta.js';

jest.setTimeout(BUILD_TIMEOUT);

const ROOT = dirname(require.resolve('node-optee/package.json'));
const COMPILER = 'aarch64-linux-gnu-gcc';

let kit: string;
beforeAll(async () => {
  kit = await prepareDevKit();
});

/** Writes the files of a description into a new folder. */
function written(ta: unknown): string {
  const folder = newFolder();
  for (const { name, text } of generate(descriptionIn(ta), 'test.mjs'))
    writeFileSync(join(folder, name), text);
  return folder;
}

/** Compiles files, and all is said as an error. */
function compile(folder: string, ...files: string[]): void {
  const own = execFileSync(COMPILER, ['-print-file-name=include'], { encoding: 'utf8' }).trim();
  const includes = ['-nostdinc', '-isystem', join(kit, 'include'), '-isystem', own];
  const target = ['-D__LP64__=1', '-DARM64=1', '-DTRACE_LEVEL=1'];
  const args = [...WARNINGS, '-Os', ...includes, ...target, '-c', ...files];
  const { status, stderr } = spawnSync(COMPILER, args, { cwd: folder, encoding: 'utf8' });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
}

/** Are files as clang-format has them? */
function checkFormat(folder: string, files: readonly string[]): void {
  writeFileSync(join(folder, '.clang-format'), readFileSync(join(ROOT, '.clang-format')));
  const args = ['--dry-run', '-Werror', ...files];
  const { status, stderr } = spawnSync('clang-format', args, { cwd: folder, encoding: 'utf8' });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
}

const Notary = defineTrustedApplication({
  name: 'notary',
  uuid: '8aaaf200-2450-11e4-abe2-0002a5d5c51b',
  results: { NOTARY_LOCKED: 0x80000001 },
  commands: {
    count: { id: 0, slots: [slot.value.inout('count', 'step')] },
    hash: { id: 2, slots: [slot.bytes.in('data', { max: 65536 }), slot.bytes.out('hash', { size: 32 })] },
  },
});

test('the same description gives the same text, which is as it was', () => {
  const files = generate(descriptionIn(Notary), 'notary.mjs');
  expect(generate(descriptionIn(Notary), 'notary.mjs')).toEqual(files);
  for (const { name, text } of files) {
    expect([name, text]).toEqual([name, readFileSync(join(ROOT, 'test/guest/generated', name), 'utf8')]);
  }
});

test('an empty TA, and one with everything: no warnings, formatted', () => {
  const empty = defineTrustedApplication({ name: 'empty', uuid: descriptionIn(Notary).uuid, commands: {} });
  for (const [ta, name] of [
    [empty, 'empty'],
    [Notary, 'notary'],
    [Every, 'every'],
  ] as const) {
    const folder = written(ta);
    compile(folder, `${name}_dispatch.c`);
    checkFormat(
      folder,
      ['_ta.h', '_dispatch.h', '_dispatch.c'].map((end) => name + end),
    );
  }
});

test.each([
  ['no warnings, formatted', false],
  ['with names that do not fit into a line: no warnings', true],
])('small TAs at random: %s', (_, long) => {
  const numRuns = process.env['NODE_OPTEE_LONG'] ? 500 : 40;
  const folder = newFolder();
  const files = fc.sample(randomTa(long), { numRuns, seed: 17 }).flatMap((ta, i) => {
    mkdirSync(join(folder, String(i)));
    return generate(descriptionIn(ta), 'test.mjs').map(({ name, text }) => {
      writeFileSync(join(folder, String(i), name), text);
      return join(String(i), name);
    });
  });
  // Object files go over one another in the folder; nobody needs them.
  compile(folder, ...files.filter((file) => file.endsWith('.c')));
  if (!long) checkFormat(folder, files);
});

test('what cannot be said in C is refused', () => {
  const uuid = descriptionIn(Notary).uuid;
  const twice = defineTrustedApplication({
    name: 'twice',
    uuid,
    results: { TWICE_GO_PARAM_TYPES: 1 },
    commands: { go: { id: 0 } },
  });
  expect(() => generate(descriptionIn(twice), 'x')).toThrow(/In C, TWICE_GO_PARAM_TYPES would be both/);
  const long = defineTrustedApplication({
    name: 'long',
    uuid,
    commands: { go: { id: 0, slots: [slot.text.in('text', { max: 65537 })] } },
  });
  expect(() => generate(descriptionIn(long), 'x')).toThrow(/long\.go\.text: a text of 65537 bytes/);
});

test('C and TypeScript agree on the layout of 500 structs', () => {
  const scalar = fc.constantFrom<FieldType>(
    ...(['u8', 'u16', 'u32', 'u64', 'bool'] as const).map((kind) => ({ kind })),
    { kind: 'enumeration', members: [{ name: 'A', value: 1 }] },
    { kind: 'octets', length: 3 },
  );
  const any = fc.letrec<{ type: FieldType }>((tie) => ({
    type: fc.oneof(
      { maxDepth: 3, depthSize: 'small' },
      scalar,
      fc.record({
        kind: fc.constant('array' as const),
        element: tie('type'),
        length: fc.integer({ min: 1, max: 5 }),
      }),
      fc
        .array(tie('type'), { minLength: 1, maxLength: 4 })
        .map((types): FieldType => ({ kind: 'struct', struct: layOut('inner', named(types)) })),
    ),
  })).type;
  const named = (types: readonly FieldType[]): [string, FieldType][] =>
    types.map((type, i) => [`f${i}`, type]);
  const structs = fc.sample(fc.array(any, { minLength: 1, maxLength: 8 }), { numRuns: 500, seed: 17 });
  const lines: string[] = ['#include <stdbool.h>', '#include <stddef.h>', '#include <stdint.h>'];
  // Without the padding that the generated header names: C itself says where fields are.
  let count = 0;
  const declare = (type: FieldType, name: string): string => {
    switch (type.kind) {
      case 'array':
        return declare(type.element, `${name}[${type.length}]`);
      case 'octets':
        return `uint8_t ${name}[${type.length}];`;
      case 'struct':
        return `struct s${emit(type.struct.fields.map((field) => [field.name, field.type]))} ${name};`;
      case 'bool':
        return `bool ${name};`;
      case 'enumeration':
        return `uint32_t ${name};`;
      default:
        return `uint${type.kind.slice(1)}_t ${name};`;
    }
  };
  const emit = (fields: readonly (readonly [string, FieldType])[]): number => {
    const members = fields.map(([name, type]) => declare(type, name));
    const n = count++;
    const layout = layOut('s', fields);
    lines.push(`struct s${n} { ${members.join(' ')} };`);
    lines.push(`_Static_assert(sizeof(struct s${n}) == ${layout.size}, "size");`);
    lines.push(`_Static_assert(_Alignof(struct s${n}) == ${layout.alignment}, "alignment");`);
    for (const { name, offset } of layout.fields)
      lines.push(`_Static_assert(offsetof(struct s${n}, ${name}) == ${offset}, "offset");`);
    return n;
  };
  for (const types of structs) emit(named(types));
  const folder = newFolder();
  writeFileSync(join(folder, 'structs.c'), `${lines.join('\n')}\n`);
  compile(folder, 'structs.c');
  expect(structs).toHaveLength(500);
});

test('every slot in the guest, both ways; whatever is wrong is refused, and nothing beside it is touched', async () => {
  const runs = process.env['NODE_OPTEE_LONG'] ? 20_000 : 2_000;
  const ta = await generatedTa(Every, everySource);
  const guest = await Guest.boot({ share: ROOT, tas: [ta], nodeModules: await prepareNodeModules(ROOT) });
  try {
    const child = ['node', join(ROOT, 'build/test/device/children/generated.js'), String(runs)];
    const { status, stdout, stderr } = await guest.run(child, { cwd: ROOT, timeout: BUILD_TIMEOUT / 2 });
    expect({ status, stderr: stderr.toString() }).toEqual({ status: 0, stderr: '' });
    const counts = JSON.parse(stdout.toString()) as Record<string, number>;
    // Each answer came often enough to mean something.
    for (const result of [0, 0xffff0006, 0xffff0010, 0xffff000a]) {
      expect(counts[result] ?? 0).toBeGreaterThan(runs / 100);
    }
  } finally {
    await guest.close();
  }
});
