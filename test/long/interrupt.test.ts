// What happens to a build that is ended, or that is not alone.
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cache } from '#lib/qemu/build/cache';
import { copyCache } from '../support/cache-copy';

// They build, and on a busy machine that takes many minutes.
jest.setTimeout(30 * 60_000);

const CLI = require.resolve('node-optee/package.json').replace('package.json', 'dist/cli.js');

let home: string;
let cache: Cache;
let builds: ChildProcess[];
beforeEach(() => {
  builds = [];
});
afterEach(() => {
  for (const build of builds) build.kill('SIGKILL');
  rmSync(home, { recursive: true, force: true, maxRetries: 10 });
});

interface Build {
  readonly process: ChildProcess;
  readonly closed: Promise<unknown>;
  readonly output: string;
}

function start(...args: string[]): Build {
  const child = spawn(process.execPath, [CLI, ...args], {
    env: { ...process.env, XDG_CACHE_HOME: home },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  builds.push(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  }
  return {
    process: child,
    closed: once(child, 'close'),
    get output() {
      return output;
    },
  };
}

const build = (): Build => start('qemu', '--build', '--machine', 'dynamic');

async function until(condition: () => boolean, what: () => string = () => ''): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    if (tries > 30_000) throw new Error(`this did not come: ${condition.toString()}\n${what()}`);
    await sleep(20);
  }
}

/** Command lines of the processes that work below a folder. */
function workingIn(folder: string): string[] {
  return readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid))
    .flatMap((pid) => {
      try {
        const isThere = readlinkSync(`/proc/${pid}/cwd`).startsWith(folder);
        return isThere ? [readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')] : [];
      } catch {
        return [];
      }
    });
}

function partsOf(name: string): string[] {
  const parts = join(cache.path, 'parts');
  return existsSync(parts) ? readdirSync(parts).filter((part) => part.startsWith(name)) : [];
}

test('Ctrl-C while packages are downloaded ends at once, and leaves no part and no lock', async () => {
  home = mkdtempSync(join(tmpdir(), 'node-optee-interrupt-'));
  cache = new Cache(join(home, 'node-optee'));
  const first = build();
  await until(() => first.output.includes('Packages'));
  const began = Date.now();
  first.process.kill('SIGINT');
  expect(await first.closed).toEqual([130, null]);
  // The download alone takes longer.
  expect(Date.now() - began).toBeLessThan(15_000);
  expect(partsOf('')).toEqual([]);
  await cache.locked(() => cache.sweep());
  expect(existsSync(join(cache.path, 'work'))).toBe(false);
});

test('Ctrl-C between two parts: the second try builds only what is missing', async () => {
  // They are built beside each other, and OP-TEE takes much longer.
  ({ home, cache } = copyCache(/^(optee-dynamic|node-24)-/));
  const first = build();
  await until(
    () => partsOf('node-24-').length === 1,
    () => first.output,
  );
  first.process.kill('SIGINT');
  expect(await first.closed).toEqual([130, null]);
  expect(partsOf('node-24-')).toHaveLength(1);
  expect(partsOf('optee-dynamic-')).toEqual([]);

  const second = build();
  expect(await second.closed).toEqual([0, null]);
  expect(second.output).toContain('[1/1] OP-TEE OS');
  expect(partsOf('optee-dynamic-')).toHaveLength(1);
  expect(existsSync(join(cache.path, 'work'))).toBe(false);
});

test('in the middle of OP-TEE its compilers end with the builder, and the next try begins anew', async () => {
  ({ home, cache } = copyCache(/^(optee|firmware)-dynamic-/));
  for (const [signal, end] of [
    ['SIGKILL', [null, 'SIGKILL']],
    ['SIGINT', [130, null]],
  ] as const) {
    const current = build();
    await until(
      () => workingIn(home).some((line) => line.includes('aarch64-linux-gnu-gcc')),
      () => current.output,
    );
    current.process.kill(signal);
    expect(await current.closed).toEqual(end);
    await until(() => workingIn(home).length === 0);
    expect(partsOf('optee-dynamic-')).toEqual([]);
  }
  await cache.locked(() => cache.sweep());
  expect(existsSync(join(cache.path, 'work'))).toBe(false);
});

test('Ctrl-C in the build of a TA: the second try builds it', async () => {
  ({ home, cache } = copyCache(/^$/));
  const ta = join(home, 'ta');
  mkdirSync(ta);
  const rules = [
    'BINARY = 00112233-4455-6677-8899-aabbccddeeff',
    'include $(TA_DEV_KIT_DIR)/mk/ta_dev_kit.mk',
    // Half of a source file is there when the signal comes.
    'slow.c:',
    '\techo "int half" > $@; test -e quick || sleep 1000; echo "= 1;" >> $@',
  ];
  writeFileSync(join(ta, 'Makefile'), rules.join('\n') + '\n');
  writeFileSync(join(ta, 'sub.mk'), 'srcs-y += slow.c entry.c\n');
  writeFileSync(
    join(ta, 'user_ta_header_defines.h'),
    `#define TA_UUID {0x00112233, 0x4455, 0x6677, {0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}}
    #define TA_FLAGS 0
    #define TA_STACK_SIZE 2048
    #define TA_DATA_SIZE 4096\n`,
  );
  writeFileSync(
    join(ta, 'entry.c'),
    `#include <tee_internal_api.h>
    TEE_Result TA_CreateEntryPoint(void) { return TEE_SUCCESS; }
    void TA_DestroyEntryPoint(void) {}
    TEE_Result TA_OpenSessionEntryPoint(uint32_t t, TEE_Param p[4], void **s) { (void)t; (void)p; (void)s; return TEE_SUCCESS; }
    void TA_CloseSessionEntryPoint(void *s) { (void)s; }
    TEE_Result TA_InvokeCommandEntryPoint(void *s, uint32_t c, uint32_t t, TEE_Param p[4]) { (void)s; (void)c; (void)t; (void)p; return TEE_SUCCESS; }\n`,
  );
  const first = start('ta', ta);
  await until(
    () => existsSync(join(ta, 'slow.c')),
    () => first.output,
  );
  first.process.kill('SIGINT');
  await first.closed;
  await until(() => workingIn(home).length === 0);
  expect(existsSync(join(ta, 'slow.c'))).toBe(false);

  writeFileSync(join(ta, 'quick'), '');
  const second = start('ta', ta);
  expect({ end: await second.closed, output: second.output }).toMatchObject({ end: [0, null] });
  expect(second.output).toBe(`${join(ta, 'build/00112233-4455-6677-8899-aabbccddeeff.ta')}\n`);
});

test('of two builds at once one waits, and finds all there', async () => {
  ({ home, cache } = copyCache(/^node-24-/));
  const both = [build(), build()];
  for (const { closed } of both) expect(await closed).toEqual([0, null]);
  const outputs = both.map(({ output }) => output);
  expect(outputs.filter((output) => output.includes('[1/1] Node.js'))).toHaveLength(1);
  expect(outputs.filter((output) => output.includes('Waiting for another build'))).toHaveLength(1);
  expect(partsOf('node-24-')).toHaveLength(1);
});
