/** The files of a new project. */

/** What differs from one to another. */
export interface Project {
  /** 'key-store' */
  readonly name: string;
  readonly uuid: string;
  /** Of node-optee. */
  readonly version: string;
}

/** The files by their paths in the project's folder. */
export function projectFiles(project: Project): Record<string, string> {
  const { name } = project;
  const cName = name.replaceAll('-', '_');
  return {
    'package.json': packageJson(project),
    '.gitignore': 'node_modules/\nta/build/\nta/generated/\n',
    [`${name}.ta.mjs`]: description(project, cName),
    'client.mjs': client(name),
    [`test/${name}.test.mjs`]: test(name),
    'test/run.mjs': runner(name),
    'ta/Makefile': makefile(project),
    'ta/sub.mk': subMk(cName),
    'ta/user_ta_header_defines.h': defines(name, cName),
    [`ta/${cName}.c`]: source(cName),
    'README.md': readme(name, cName),
  };
}

/** 'key-store' is KeyStore in JavaScript. */
function classOf(name: string): string {
  const pascal = name.replace(/(?:^|[-_])(.)/g, (_, letter: string) => letter.toUpperCase());
  return pascal in globalThis ? `${pascal}Ta` : pascal;
}

function packageJson({ name, version }: Project): string {
  const content = {
    name,
    version: '0.1.0',
    private: true,
    type: 'module',
    scripts: {
      generate: `node-optee ta generate ${name}.ta.mjs --out ta/generated`,
      build: 'npm run -s generate && node-optee ta ta --install',
      start: 'npm run -s build && node-optee qemu --ta ta/build node client.mjs',
      test: 'node test/run.mjs',
    },
    dependencies: { 'node-optee': `^${version}` },
  };
  return `${JSON.stringify(content, null, 2)}\n`;
}

const description = ({ name, uuid }: Project, cName: string): string => `\
// What ${name} can do. The client's methods and the C in ta/generated are made from this.
import { defineTrustedApplication, slot } from 'node-optee/ta';

export const ${classOf(name)} = defineTrustedApplication({
  name: '${cName}',
  uuid: '${uuid}', // also BINARY in ta/Makefile
  results: { ${cName.toUpperCase()}_NOT_POLITE: 0x80000001 },
  commands: {
    add: { id: 0, slots: [slot.value.in('a', 'b'), slot.value.out('sum')] },
    greet: { id: 1, slots: [slot.text.in('name', { max: 64 }), slot.text.out('greeting', { max: 80 })] },
  },
});
`;

const client = (name: string): string => `\
// A program that uses the TA: npm start.
import { TeeContext } from 'node-optee';
import { ${classOf(name)} } from './${name}.ta.mjs';

const tee = TeeContext.open();
try {
  const ta = await ${classOf(name)}.open(tee);
  const { sum } = await ta.add({ a: 40, b: 2 });
  const { greeting } = await ta.greet({ name: 'world' });
  console.log(\`\${greeting} The answer is \${sum}.\`);
} finally {
  await tee.close(); // and its sessions with it
}
`;

const test = (name: string): string => `\
// Runs in the guest, against the TA: npm test.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { TeeContext } from 'node-optee';
import { ${classOf(name)} } from '../${name}.ta.mjs';

let tee;
let ta;
before(async () => {
  tee = TeeContext.open();
  ta = await ${classOf(name)}.open(tee);
});
after(() => tee.close());

test('add', async () => {
  assert.deepEqual(await ta.add({ a: 40, b: 2 }), { sum: 42 });
});

test('greet', async () => {
  assert.deepEqual(await ta.greet({ name: 'Zoë' }), { greeting: 'Hello, Zoë!' });
});

test("the TA's own error", async () => {
  await assert.rejects(ta.greet({ name: '' }), { code: '${name.replaceAll('-', '_').toUpperCase()}_NOT_POLITE' });
});

test('what the description does not allow is not sent', async () => {
  await assert.rejects(ta.add({ a: 1 }), { code: 'ERR_INVALID_ARG_TYPE' });
});
`;

const runner = (name: string): string => `\
// npm test: generates and builds, boots the guest, and runs test/*.test.mjs in it.
// npm test -- --watch: again after each change, in the same guest.
import { spawnSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Guest } from 'node-optee/qemu';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

const build = () => spawnSync('npm', ['run', '-s', 'build'], { cwd: root, stdio: 'inherit' }).status === 0;

async function runTests(guest) {
  const files = readdirSync(join(root, 'test')).filter((file) => file.endsWith('.test.mjs'));
  const tests = guest.spawn(['node', '--test', ...files.map((file) => join('test', file))], { stdin: false });
  tests.stdout.pipe(process.stdout, { end: false });
  tests.stderr.pipe(process.stderr, { end: false });
  return (await tests.exit).status;
}

/** When the newest of the sources was changed. */
function changed(folder = root) {
  const times = readdirSync(folder, { withFileTypes: true })
    .filter(({ name }) => !['node_modules', 'build', 'generated', '.git'].includes(name))
    .map((entry) => {
      const path = join(folder, entry.name);
      return entry.isDirectory() ? changed(path) : statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
    });
  return Math.max(0, ...times);
}

let seen = changed();
async function nextChange() {
  while (changed() === seen) await delay(300);
  seen = changed();
}

const watch = process.argv.includes('--watch');
while (!build()) {
  if (!watch) process.exit(1);
  await nextChange();
}
const guest = await Guest.boot({ share: root, tas: [join(root, 'ta/build')] });
try {
  process.exitCode = await runTests(guest);
  while (watch) {
    await nextChange();
    console.log('\\n${name} has changed.');
    // Sessions of the old TA ended with the tests: the next one loads the new TA.
    if (build()) await runTests(guest);
  }
} finally {
  await guest.close();
}
`;

const makefile = ({ name, uuid }: Project): string => `\
# Built by \`node-optee ta ta\`. The UUID is that in ../${name}.ta.mjs: the name of the .ta file.
BINARY = ${uuid}

include $(TA_DEV_KIT_DIR)/mk/ta_dev_kit.mk
`;

const subMk = (cName: string): string => `\
# The files to compile. A function that is declared in generated/${cName}_dispatch.h and is in none of them is a link error.
global-incdirs-y += . generated
srcs-y += ${cName}.c
srcs-y += generated/${cName}_dispatch.c

cflags-y += -Wall -Wextra -Werror
`;

const defines = (name: string, cName: string): string => `\
/* What OP-TEE wants to know of the TA. */
#ifndef USER_TA_HEADER_DEFINES_H
#define USER_TA_HEADER_DEFINES_H

#include <${cName}_ta.h>

#define TA_UUID ${cName.toUpperCase()}_UUID

/* 0: one instance for each session. TA_FLAG_SINGLE_INSTANCE | TA_FLAG_MULTI_SESSION: one for all. */
#define TA_FLAGS 0

/* Bytes. The dispatcher's copies of structs and texts are on the stack; TEE_Malloc takes from the data. */
#define TA_STACK_SIZE (4096 + ${cName.toUpperCase()}_DISPATCH_STACK_SIZE)
#define TA_DATA_SIZE (32 * 1024)

#define TA_VERSION "0.1"
#define TA_DESCRIPTION "${name}"

#endif
`;

const source = (cName: string): string => `\
/*
 * The TA's own code: a function for each command. Their prototypes, and what there is to know about their
 * arguments, are in generated/${cName}_dispatch.h.
 */
#include <stdio.h>
#include <tee_internal_api.h>

#include "${cName}_dispatch.h"

/* What is kept from one call of a session to the next. */
struct ${cName}_session {
  uint32_t calls;
};

/* A session opens. Another result than TEE_SUCCESS refuses it. */
TEE_Result ${cName}_open(struct ${cName}_session *session) {
  session->calls = 0;
  return TEE_SUCCESS;
}

TEE_Result ${cName}_add(struct ${cName}_session *session, uint32_t a, uint32_t b, uint32_t *sum) {
  session->calls++;
  *sum = a + b;
  return TEE_SUCCESS;
}

TEE_Result ${cName}_greet(struct ${cName}_session *session, const char *name,
${' '.repeat(`TEE_Result ${cName}_greet(`.length)}char greeting[${cName.toUpperCase()}_GREET_GREETING_MAX + 1]) {
  session->calls++;
  if (name[0] == '\\0') return ${cName.toUpperCase()}_NOT_POLITE;
  snprintf(greeting, ${cName.toUpperCase()}_GREET_GREETING_MAX + 1, "Hello, %s!", name);
  return TEE_SUCCESS;
}

/* What OP-TEE calls. The dispatcher checks each call, and hands it to one of the functions above. */

TEE_Result TA_CreateEntryPoint(void) {
  return TEE_SUCCESS;
}

void TA_DestroyEntryPoint(void) {}

TEE_Result TA_OpenSessionEntryPoint(uint32_t types, TEE_Param params[TEE_NUM_PARAMS], void **context) {
  struct ${cName}_session *session = TEE_Malloc(sizeof(*session), TEE_MALLOC_FILL_ZERO);
  if (session == NULL) return TEE_ERROR_OUT_OF_MEMORY;

  const TEE_Result result = ${cName}_open_session(session, types, params);
  if (result == TEE_SUCCESS)
    *context = session;
  else
    TEE_Free(session);
  return result;
}

void TA_CloseSessionEntryPoint(void *context) {
  TEE_Free(context);
}

TEE_Result TA_InvokeCommandEntryPoint(void *context, uint32_t command, uint32_t types,
                                      TEE_Param params[TEE_NUM_PARAMS]) {
  return ${cName}_invoke(context, command, types, params);
}
`;

const readme = (name: string, cName: string): string => `\
# ${name}

A Trusted Application (TA) for OP-TEE, and a program in Node.js that uses it.

\`\`\`sh
npm install
npm test              # builds the TA, boots an emulated arm64 machine with OP-TEE, and runs test/*.test.mjs there
npm test -- --watch   # again after each change, without a new boot
npm start             # client.mjs in that machine
\`\`\`

The first run builds the machine from Debian's sources: ten minutes to half an hour, once for all projects. It installs
the Debian packages that it needs (as root or with sudo).

## What is where

- \`${name}.ta.mjs\` describes the TA: its commands, and what each takes and brings back. The client's methods are made from
  it, and the C in \`ta/generated\`.
- \`ta/${cName}.c\` is the TA: a function for each command.
- \`client.mjs\` is a program that uses it, \`test/${name}.test.mjs\` its tests.

## A new command

1. Add it in \`${name}.ta.mjs\`, with an id of its own:

   \`\`\`js
   multiply: { id: 2, slots: [slot.value.in('a', 'b'), slot.value.out('product')] },
   \`\`\`

2. \`npm run generate\`. The prototype of its function is in \`ta/generated/${cName}_dispatch.h\` now. Write the function in
   \`ta/${cName}.c\`; without it the build ends with a link error that has its name:

   \`\`\`c
   TEE_Result ${cName}_multiply(struct ${cName}_session *session, uint32_t a, uint32_t b, uint32_t *product) {
     session->calls++;
     *product = a * b;
     return TEE_SUCCESS;
   }
   \`\`\`

3. Use it: \`const { product } = await ta.multiply({ a: 6, b: 7 });\`

The dispatcher has checked types, sizes, texts and enumerations before your function is called. Bytes (\`slot.bytes\`) and
shared memory (\`slot.memory\`) are the client's own memory, which it can change while you read it.

## On a real board

Sign the TA with the board's key: build \`ta\` with the development kit of the board's OP-TEE
(\`make -C ta TA_DEV_KIT_DIR=… CROSS_COMPILE=aarch64-linux-gnu-\`), and put the \`.ta\` file into \`/lib/optee_armtz\`. The
client runs as it is.
`;
