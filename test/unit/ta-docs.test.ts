// The code of docs/ta.md, of docs/from-libteec.md and of the README's description, compiled as a user's own.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { defineTrustedApplication, slot } from 'node-optee/ta';
import ts from 'typescript';

const ROOT = dirname(require.resolve('node-optee/package.json'));
/** In the package, so that its own name leads to it. */
const FOLDER = join(ROOT, 'build', 'docs-ta');

/** The code blocks of a page in these languages. */
function blocks(page: string, ...languages: string[]): string[] {
  const text = readFileSync(join(ROOT, page), 'utf8');
  return [...text.matchAll(/^```(\w+)\n(.*?)^```$/gms)]
    .filter(([, language]) => languages.includes(language ?? ''))
    .map(([, , code]) => code ?? '');
}

/** What a page's code needs, and does not say. */
const GIVEN = `
  declare const data: Uint8Array;
  declare const signal: AbortSignal;`;

/** Imports first, the rest as one function per block. */
function program(given: string, codes: readonly string[]): string {
  const imports = new Set(codes.flatMap((code) => code.match(/^import .*$/gm) ?? []));
  const bodies = codes.map((code) => code.replace(/^import .*$/gm, ''));
  return [...imports, given, 'async function use() {', ...bodies, '}', 'void use();'].join('\n');
}

function compile(...names: string[]): string[] {
  const options: ts.CompilerOptions = {
    strict: true,
    noEmit: true,
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    types: ['node'],
    skipLibCheck: true,
  };
  const files = names.map((name) => join(FOLDER, name));
  return ts
    .getPreEmitDiagnostics(ts.createProgram(files, options))
    .map(
      ({ file, messageText }) => `${file?.fileName}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`,
    );
}

beforeAll(() => void mkdirSync(FOLDER, { recursive: true }));
afterAll(() => rmSync(FOLDER, { recursive: true }));

describe('the code of the pages', () => {
  test('compiles', () => {
    const [description = '', ...rest] = blocks('docs/ta.md', 'ts', 'js');
    expect(rest.length).toBeGreaterThanOrEqual(3);
    writeFileSync(join(FOLDER, 'notary.ts'), description);
    writeFileSync(
      join(FOLDER, 'client.ts'),
      program(GIVEN, [rest.join('\n')]).replace('catch (error)', 'catch (error: any)'),
    );

    const readme = blocks('README.md', 'js').filter((code) => code.includes('node-optee/ta'));
    expect(readme).toHaveLength(1);
    const open = `${GIVEN} import { TeeContext } from 'node-optee'; declare const tee: TeeContext;`;
    writeFileSync(join(FOLDER, 'readme.ts'), program(open, readme));

    const libteec = blocks('docs/from-libteec.md', 'js');
    const session = `${GIVEN} import { buffer, type Session } from 'node-optee'; import { Notary } from './notary.js';
      import type { ClientOf } from 'node-optee/ta'; declare const NOTARY_CMD_HASH: 2; declare const session: Session;
      declare const notary: ClientOf<typeof Notary>;`;
    writeFileSync(
      join(FOLDER, 'libteec.ts'),
      program(
        session,
        libteec.map((code) => `{ ${code} }`),
      ),
    );

    expect(compile('notary.ts', 'client.ts', 'readme.ts', 'libteec.ts')).toEqual([]);
  }, 120_000);

  test('the message that docs/ta.md shows is what a user gets', () => {
    const [shown = ''] = readFileSync(join(ROOT, 'docs/ta.md'), 'utf8').match(/^TypeError: .*$/m) ?? [];
    const define = defineTrustedApplication as (definition: unknown) => void;
    const slots = [slot.bytes.in('data', { max: 1 }), slot.bytes.out('data', { size: 32 })];
    const definition = {
      name: 'notary',
      uuid: '0b0c2d1e-6f4a-4f5e-9b1d-7c8a90e1f203',
      commands: { hash: { id: 2, slots } },
    };
    let message = '';
    try {
      define(definition);
    } catch (error) {
      message = String(error);
    }
    expect(message).toBe(shown);
  });
});
