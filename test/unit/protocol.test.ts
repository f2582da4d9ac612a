/** The enums of native/core/protocol.h and their twins in lib/client/native.ts. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';

const ROOT = join(require.resolve('node-optee/package.json'), '..');

/** Each enum of a source text: its names and values. */
function enums(file: string, begin: RegExp): Map<string, Record<string, number>> {
  const text = readFileSync(join(ROOT, file), 'utf8').replace(/\/\*[^]*?\*\/|\/\/.*$/gm, '');
  const found = new Map<string, Record<string, number>>();
  for (const [, name, body] of text.matchAll(begin)) {
    const entries = [...(body ?? '').matchAll(/(\w+) = (-?\w+)/g)];
    found.set(name ?? '', Object.fromEntries(entries.map(([, entry, value]) => [entry, Number(value)])));
  }
  return found;
}

const native = enums('native/core/protocol.h', /enum (?:class )?(\w+) : \w+ \{([^}]*)\}/g);
const typescript = enums('lib/client/native.ts', /const enum (\w+) \{([^}]*)\}/g);

test('the same enums are on both sides', () => {
  expect([...native.keys()].sort()).toEqual([
    'Aborted',
    'AnswerFlags',
    'Operation',
    'ParamKind',
    'Place',
    'RequestFlags',
    'RequestPlace',
    'Status',
  ]);
  expect([...typescript.keys()].sort()).toEqual([...native.keys()].sort());
});

test.each([...native.keys()])('%s has the same names and values on both sides', (name) => {
  expect(Object.keys(native.get(name) ?? {})).not.toHaveLength(0);
  expect(typescript.get(name)).toEqual(native.get(name));
});
