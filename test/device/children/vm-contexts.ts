/**
 * Contexts of node:vm, each with a copy of the package of its own, which are forgotten with open handles and a call under
 * way. Prints what is left of the TEE.
 * Arguments: how many contexts.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { compileFunction, createContext, runInContext, type Context } from 'node:vm';
import { TeeContext, value, type TeeContext as Tee } from 'node-optee';
import { census, collectGarbage, PTA_STATS, TEST_TA } from '../../support/census.js';
import { sessionsInTee } from '../../support/tee-statistics.js';
import { TEST_TA_VALUES, TEST_TA_WAIT } from '../../support/test-ta.js';

type Package = typeof import('node-optee');

/** Loads a file, and what it loads itself, into a context. */
function load(context: Context, path: string, loaded = new Map<string, { exports: unknown }>()): unknown {
  const known = loaded.get(path);
  if (known !== undefined) return known.exports;
  const module = { exports: {} };
  loaded.set(path, module);
  const own = createRequire(path);
  const require = Object.assign(
    (name: string): unknown =>
      name.startsWith('.') && !name.endsWith('.node')
        ? load(context, own.resolve(name), loaded)
        : (own(name) as unknown),
    { resolve: own.resolve },
  );
  const names = ['exports', 'require', 'module', '__filename', '__dirname'];
  const body = compileFunction(readFileSync(path, 'utf8'), names, {
    filename: path,
    parsingContext: context,
  });
  body.call(module.exports, module.exports, require, module, path, dirname(path));
  return module.exports;
}

/** What a context does that is forgotten. */
async function use(): Promise<{ sum: number; foreign: boolean }> {
  const context = createContext({
    process,
    Buffer,
    setTimeout,
    clearTimeout,
    queueMicrotask,
    AbortController,
    AbortSignal,
    DOMException,
  });
  const copy = load(context, require.resolve('node-optee')) as Package;
  const tee = copy.TeeContext.open();
  const session = await tee.openSession(TEST_TA);
  const shm = tee.allocSharedMemorySync(4096);
  // Bytes of the context's own, whose classes are others.
  const bytes = runInContext('new Uint8Array([1, 2, 3])', context) as Uint8Array;
  shm.write(bytes);
  const [sum] = await session.invoke(TEST_TA_VALUES, [value.inout(1)] as never).catch(() => [undefined]);
  const [own] = await session.invoke(TEST_TA_VALUES, [copy.value.inout(1)]);
  void session.invoke(TEST_TA_WAIT, [copy.value.in(100)]);
  return { sum: own.a, foreign: sum === undefined };
}

async function main(): Promise<void> {
  const warnings: string[] = [];
  process.on('warning', ({ message }) => warnings.push(message));
  const tee: Tee = TeeContext.open({ temporaryMemory: 0 }); // what it keeps would be counted
  const stats = await tee.openSession(PTA_STATS);
  const before = census();
  const found: unknown[] = [];
  for (let i = 0; i < Number(process.argv[2]); i++) found.push(await use());
  const open = await sessionsInTee(stats, TEST_TA);
  for (let i = 0; i < 100; i++) {
    await collectGarbage(50);
    if ((await sessionsInTee(stats, TEST_TA)) === 0 && JSON.stringify(census()) === JSON.stringify(before))
      break;
  }
  const sessions = await sessionsInTee(stats, TEST_TA);
  console.log(JSON.stringify({ before, after: census(), found, open, sessions, warnings: warnings.length }));
  await tee.close();
}

void main();
