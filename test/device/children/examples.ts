/** Runs the examples that its arguments name, one after the other in one process, each after a line with its name. */
import { basename } from 'node:path';
import { pathToFileURL } from 'node:url';

async function main(paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    console.log(`--- ${basename(path)}`);
    await import(pathToFileURL(path).href);
  }
}

void main(process.argv.slice(2));
