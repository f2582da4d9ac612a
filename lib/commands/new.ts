import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { taProblem } from '../ta/names.js';
import { projectFiles } from './new-project.js';

const USAGE = `Usage: node-optee new NAME

Makes a folder NAME with a Trusted Application, a client of it and a test that runs both in the guest: its description in
NAME.ta.mjs, the TA's own C in ta, README.md with what to do next. The TA gets a new UUID.

  --help   this text
`;

/** `node-optee new`: gets the words after `new`, returns the exit status (2 where they are wrong). */
export async function run(args: string[]): Promise<number> {
  let name: string;
  try {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: { help: { type: 'boolean', short: 'h' } },
    });
    if (values.help) {
      process.stdout.write(USAGE);
      return 0;
    }
    if (positionals.length !== 1) throw new TypeError('exactly one NAME is needed');
    name = checkName(positionals[0] as string);
  } catch (error) {
    process.stderr.write(`node-optee new: ${(error as Error).message}\n\n${USAGE}`);
    return 2;
  }
  if (existsSync(name) && !isEmptyFolder(name)) {
    process.stderr.write(`node-optee new: ${name} is there already\n`);
    return 1;
  }
  const files = projectFiles({ name, uuid: randomUUID(), version: ownVersion() });
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(name, path)), { recursive: true });
    writeFileSync(join(name, path), text);
  }
  process.stdout.write(`${name} is there. Next:\n\n  cd ${name} && npm install && npm test\n`);
  return 0;
}

/** It becomes a folder, a package, a prefix in C and a class in JavaScript. */
function checkName(name: string): string {
  if (!/^[a-z][a-z0-9]*([_-][a-z0-9]+)*$/.test(name)) {
    throw new TypeError(
      `NAME must be lower-case letters and digits, like notary or key-store, but is '${name}'`,
    );
  }
  const problem = taProblem(name.replaceAll('-', '_'));
  if (problem !== undefined) throw new TypeError(`NAME: ${problem}`);
  if (name === 'node-optee' || name === 'node_modules')
    throw new TypeError(`NAME: '${name}' is another thing's`);
  return name;
}

function isEmptyFolder(path: string): boolean {
  try {
    return readdirSync(path).length === 0;
  } catch {
    return false; // a file
  }
}

function ownVersion(): string {
  const { version } = JSON.parse(readFileSync(join(__dirname, '../../package.json'), 'utf8')) as {
    version: string;
  };
  return version;
}
