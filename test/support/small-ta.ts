import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildTa, prepareDevKit } from 'node-optee/qemu';
import { newFolder } from './guest.js';

/**
 * Builds a TA of one file.
 * @param uuid in the usual form
 * @param invoke the body of its command handler: `session`, `command`, `types` and `params` are at hand
 * @param logLevel of its own messages
 * @returns the folder of its `.ta`
 */
export async function smallTa(uuid: string, invoke: string, logLevel?: number): Promise<string> {
  const dir = newFolder();
  const [a = '', b, c, ...rest] = uuid.split('-');
  const bytes = rest.join('').match(/../g) ?? [];
  const unused = (...names: string[]) => names.map((name) => `(void)${name};`).join(' ');
  const files = {
    Makefile: `BINARY = ${uuid}\ninclude $(TA_DEV_KIT_DIR)/mk/ta_dev_kit.mk\n`,
    'sub.mk': 'srcs-y += ta.c\n',
    'user_ta_header_defines.h': `
      #define TA_UUID {0x${a}, 0x${b}, 0x${c}, {${bytes.map((byte) => `0x${byte}`).join(', ')}}}
      #define TA_FLAGS 0
      #define TA_STACK_SIZE 4096
      #define TA_DATA_SIZE 32768\n`,
    'ta.c': `
      #include <stdio.h>
      #include <tee_internal_api.h>
      #include <trace.h>
      TEE_Result TA_CreateEntryPoint(void) { return TEE_SUCCESS; }
      void TA_DestroyEntryPoint(void) {}
      TEE_Result TA_OpenSessionEntryPoint(uint32_t types, TEE_Param params[4], void **session) {
        ${unused('types', 'params', 'session')}
        return TEE_SUCCESS;
      }
      void TA_CloseSessionEntryPoint(void *session) { (void)session; }
      TEE_Result TA_InvokeCommandEntryPoint(void *session, uint32_t command, uint32_t types, TEE_Param params[4]) {
        ${unused('session', 'command', 'types', 'params')}
        ${invoke}
      }\n`,
  };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text);
  const level = logLevel === undefined ? {} : { logLevel };
  await buildTa({ dir, devKit: await prepareDevKit(), ...level });
  return join(dir, 'build');
}
