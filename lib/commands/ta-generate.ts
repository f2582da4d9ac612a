import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { descriptionOf, type Description } from '../ta/description.js';
import { generate, type GeneratedFile } from '../ta/generate/index.js';

const USAGE = `Usage: node-optee ta generate FILE --out DIR [--export NAME] [--check]

Writes the C of the Trusted Application that FILE describes into DIR: <name>_ta.h with its UUID, numbers and structs, and
<name>_dispatch.h and .c, which check each call and hand it to one function per command. FILE is a module (.mjs, .js, .cjs,
or .ts where this Node.js takes types away) that exports what defineTrustedApplication made. Prints the paths of the files;
one that is as it should be is not touched.

  --out DIR      folder for the files; made where it is not there
  --export NAME  which of several exports to take
  --check        writes nothing; ends with 1 where a file is missing or not as it should be
  --help         this text
`;

/** What the user has to put right. */
class GenerateError extends Error {}

/** `node-optee ta generate`: gets the words after `generate`, returns the exit status (2 where they are wrong). */
export async function run(args: string[]): Promise<number> {
  let words;
  try {
    words = parseArgs({
      args,
      allowPositionals: true,
      options: {
        out: { type: 'string' },
        export: { type: 'string' },
        check: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    });
    if (words.values.help) {
      process.stdout.write(USAGE);
      return 0;
    }
    if (words.positionals.length !== 1) throw new TypeError('exactly one FILE is needed');
    if (words.values.out === undefined || words.values.out === '') throw new TypeError('--out DIR is needed');
  } catch (error) {
    process.stderr.write(`node-optee ta generate: ${(error as Error).message}\n\n${USAGE}`);
    return 2;
  }
  const [file] = words.positionals as [string];
  const { out, export: name, check } = words.values as { out: string; export?: string; check?: boolean };
  try {
    const files = generateFrom(await load(file, name), file);
    return check === true ? checkFiles(files, out) : writeFiles(files, out);
  } catch (error) {
    if (!(error instanceof GenerateError)) throw error;
    process.stderr.write(`node-optee ta generate: ${error.message}\n`);
    return 1;
  }
}

function generateFrom(description: Description, file: string): GeneratedFile[] {
  try {
    return generate(description, basename(file));
  } catch (error) {
    throw new GenerateError(`${file}: ${(error as Error).message}`, { cause: error });
  }
}

/** The description in a module. */
async function load(file: string, wanted: string | undefined): Promise<Description> {
  const path = resolve(file);
  let loaded: Record<string, unknown>;
  try {
    loaded = (await import(pathToFileURL(path).href)) as Record<string, unknown>;
  } catch (error) {
    throw new GenerateError(loadProblem(file, path, error as NodeJS.ErrnoException), { cause: error });
  }
  const all = new Map<Description, string[]>();
  for (const [name, value] of exportsOf(loaded)) {
    const description = descriptionOf(value);
    if (description === undefined) continue;
    all.set(description, [...(all.get(description) ?? []), name]);
  }
  const names = [...all.values()].map(([name = '']) => name);
  if (all.size === 0) {
    throw new GenerateError(`${file} exports nothing that defineTrustedApplication made: export const X = …`);
  }
  if (wanted === undefined && all.size > 1) {
    throw new GenerateError(`${file} exports several TAs: say --export with one of ${names.join(', ')}`);
  }
  for (const [description, own] of all) {
    if (wanted === undefined || own.includes(wanted)) return description;
  }
  throw new GenerateError(`${file} exports no TA as ${wanted}; there are ${names.join(', ')}`);
}

/** Exports by name. Those of a CommonJS module may be seen in its default only. */
function exportsOf(loaded: Record<string, unknown>): [string, unknown][] {
  const { default: main } = loaded;
  const inner = typeof main === 'object' && main !== null ? Object.entries(main) : [];
  return [...Object.entries(loaded), ...inner];
}

function loadProblem(file: string, path: string, { code, message }: NodeJS.ErrnoException): string {
  if (code === 'ERR_MODULE_NOT_FOUND' && message.includes(path)) return `there is no file ${file}`;
  if (code === 'ERR_UNKNOWN_FILE_EXTENSION' && /\.[cm]?ts$/.test(file)) {
    return (
      `this Node.js (${process.version}) loads no TypeScript: run Node.js 22.18 or newer, or write ${file} as JavaScript ` +
      '(.mjs), which has the same types'
    );
  }
  return `${file} cannot be loaded: ${message}`;
}

function isCurrent(path: string, text: string): boolean {
  try {
    return readFileSync(path, 'utf8') === text;
  } catch {
    return false;
  }
}

function writeFiles(files: readonly GeneratedFile[], out: string): number {
  try {
    mkdirSync(out, { recursive: true });
    for (const { name, text } of files) {
      const path = join(out, name);
      // make goes by the time of a file.
      if (!isCurrent(path, text)) writeFileSync(path, text);
      process.stdout.write(`${path}\n`);
    }
  } catch (error) {
    throw new GenerateError(`--out ${out} cannot be written: ${(error as Error).message}`, { cause: error });
  }
  return 0;
}

function checkFiles(files: readonly GeneratedFile[], out: string): number {
  const stale = files.filter(({ name, text }) => !isCurrent(join(out, name), text));
  for (const { name } of stale) {
    process.stderr.write(`node-optee ta generate: ${join(out, name)} is not up to date: generate it again\n`);
  }
  return stale.length === 0 ? 0 : 1;
}
