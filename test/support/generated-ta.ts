import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildTa, prepareDevKit } from 'node-optee/qemu';
import { descriptionOf, type Description } from '#lib/ta/description';
import { generate } from '#lib/ta/generate/index';
import { newFolder } from './guest.js';

/** Every warning is an error. */
export const WARNINGS = ['-std=c11', '-Wall', '-Wextra', '-Wpedantic', '-Wconversion', '-Wshadow', '-Werror'];

/** The description of a described TA. */
export function descriptionIn(ta: unknown): Description {
  const description = descriptionOf(ta);
  if (description === undefined) throw new TypeError('no described TA');
  return description;
}

/**
 * Generates the C of a described TA and builds it.
 * @param source makes the TA's own file of the dispatcher's header
 * @returns the folder of its `.ta`
 */
export async function generatedTa(ta: unknown, source: (header: string) => string): Promise<string> {
  const description = descriptionIn(ta);
  const { name, uuid } = description;
  const dir = newFolder();
  const files = generate(description, 'test.mjs');
  for (const { name: file, text } of files) writeFileSync(join(dir, file), text);
  const header = files.find((file) => file.name === `${name}_dispatch.h`)?.text ?? '';
  writeFileSync(join(dir, 'own.c'), source(header));
  writeFileSync(join(dir, 'Makefile'), `BINARY = ${uuid}\ninclude $(TA_DEV_KIT_DIR)/mk/ta_dev_kit.mk\n`);
  writeFileSync(
    join(dir, 'sub.mk'),
    `srcs-y += own.c\nsrcs-y += ${name}_dispatch.c\nglobal-incdirs-y += .\n` +
      `cflags-${name}_dispatch.c-y += ${WARNINGS.join(' ')}\n`,
  );
  writeFileSync(
    join(dir, 'user_ta_header_defines.h'),
    `#include "${name}_ta.h"\n#define TA_UUID ${name.toUpperCase()}_UUID\n#define TA_FLAGS 0\n` +
      `#define TA_STACK_SIZE (4096 + ${name.toUpperCase()}_DISPATCH_STACK_SIZE)\n#define TA_DATA_SIZE 32768\n`,
  );
  mkdirSync(join(dir, 'build'));
  await buildTa({ dir, devKit: await prepareDevKit() });
  return join(dir, 'build');
}
