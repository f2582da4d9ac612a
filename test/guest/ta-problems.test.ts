/** Every way in which a first TA goes wrong, with the real development kit: each is a sentence that names the file. */
import { appendFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, jest, test } from '@jest/globals';
import { buildTa, prepareDevKit } from 'node-optee/qemu';
import { BUILD_TIMEOUT, newFolder } from '../support/guest.js';

jest.setTimeout(BUILD_TIMEOUT);

const UUID = '8aaaf200-2450-11e4-abe2-0002a5d5c51b';
const OTHER = '8aaaf200-2450-11e4-abe2-0002a5d5c51c';
let devKit: string;
beforeAll(async () => {
  devKit = await prepareDevKit();
});

test('from an empty Makefile to a TA', async () => {
  const dir = newFolder();
  const write = (name: string, text: string): void => writeFileSync(join(dir, name), text);
  const makefile = (binary: string): void =>
    write('Makefile', `${binary}\ninclude $(TA_DEV_KIT_DIR)/mk/ta_dev_kit.mk\n`);
  const problem = (): Promise<string> =>
    buildTa({ dir, devKit }).then(
      () => 'none',
      ({ message }: Error) => message,
    );

  makefile('');
  expect(await problem()).toContain(`${dir}/Makefile sets no BINARY. Put the TA's UUID there`);
  makefile('BINARY = hello');
  expect(await problem()).toContain(`${dir}/sub.mk is missing. It names the TA's C files`);
  write('sub.mk', 'srcs-y += ta.c\n');
  expect(await problem()).toContain(`${dir}/sub.mk names ta.c with srcs-y, and there is no such file`);
  write(
    'ta.c',
    '#include <tee_internal_api.h>\nint own(void);\nint user(void);\nint user(void) { return own(); }\n',
  );
  expect(await problem()).toMatch(/user_ta_header_defines\.h is missing[^]*TA_UUID[^]*TA_DATA_SIZE/);
  write('user_ta_header_defines.h', '#define TA_FLAGS 0\n');
  const macros = await problem();
  for (const name of ['TA_UUID', 'TA_STACK_SIZE', 'TA_DATA_SIZE']) {
    expect(macros).toContain(`${dir}/user_ta_header_defines.h has no ${name}`);
  }
  expect(macros).not.toContain('TA_FLAGS,');
  appendFileSync(
    join(dir, 'user_ta_header_defines.h'),
    '#define TA_UUID {0x8aaaf200, 0x2450, 0x11e4, {0xab, 0xe2, 0, 2, 0xa5, 0xd5, 0xc5, 0x1b}}\n' +
      '#define TA_STACK_SIZE 4096\n#define TA_DATA_SIZE 32768\n',
  );
  const functions = await problem();
  expect(functions).toContain(`There is no function own: write it, in a file that ${dir}/sub.mk names`);
  for (const name of ['Create', 'Destroy', 'OpenSession', 'CloseSession', 'InvokeCommand']) {
    expect(functions).toContain(`The TA has no TA_${name}EntryPoint, which OP-TEE calls.`);
  }
  appendFileSync(
    join(dir, 'ta.c'),
    `int own(void) { return 1; }
TEE_Result TA_CreateEntryPoint(void) { return TEE_SUCCESS; }
void TA_DestroyEntryPoint(void) {}
TEE_Result TA_OpenSessionEntryPoint(uint32_t t, TEE_Param p[4], void **s) { return t || p || s; }
void TA_CloseSessionEntryPoint(void *s) { (void)s; }
TEE_Result TA_InvokeCommandEntryPoint(void *s, uint32_t c, uint32_t t, TEE_Param p[4]) { return s || c || t || p; }
`,
  );
  expect(await problem()).toContain(`${dir}/Makefile: BINARY is 'hello', which is no UUID`);
  makefile(`BINARY = ${OTHER}`);
  expect(await problem()).toBe(
    `${dir}/user_ta_header_defines.h: TA_UUID is ${UUID}, but BINARY in ${dir}/Makefile is ${OTHER}. They must be the ` +
      'same, else OP-TEE does not load the TA',
  );
  makefile(`BINARY = ${UUID}`);
  expect(await buildTa({ dir, devKit })).toEqual([join(dir, 'build', `${UUID}.ta`)]);
});
