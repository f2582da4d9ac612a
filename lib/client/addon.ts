import { createRequire } from 'node:module';
import * as path from 'node:path';

/**
 * Loads the native addon. Only native.ts calls it.
 * @throws Error with the reason, and what to do; code ERR_DLOPEN_DISABLED, ERR_TEE_ADDON_MISSING, or that of process.dlopen
 */
export function loadAddon(): unknown {
  const target = `${process.platform}-${process.arch}`;
  const root = path.join(__dirname, '../..');
  const load = createRequire(__filename);
  const tried: string[] = [];
  for (const file of [`prebuilds/${target}/node-optee.node`, 'build/Release/node-optee.node']) {
    const full = path.join(root, file);
    try {
      return load(full);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === 'MODULE_NOT_FOUND') {
        tried.push(file);
      } else if (code === 'ERR_DLOPEN_DISABLED') {
        throw Object.assign(
          new Error(
            "node-optee's native addon may not be loaded: Node runs with its permission model. Add --allow-addons " +
              'to its command line.',
            { cause: error },
          ),
          { code },
        );
      } else {
        throw Object.assign(
          new Error(`node-optee's native addon ${full} cannot be loaded: ${message}`, { cause: error }),
          code === undefined ? {} : { code },
        );
      }
    }
  }
  throw Object.assign(
    new Error(
      `node-optee has no native addon for ${target} (looked for ${tried.join(' and ')} in ${root}). ` +
        'The package has those for linux-arm64 and linux-x64, with glibc. In a clone of its repository, ' +
        '"node scripts/build-addon.mjs" builds it for this machine.',
    ),
    { code: 'ERR_TEE_ADDON_MISSING' },
  );
}
