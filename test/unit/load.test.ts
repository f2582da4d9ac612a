import { execFile } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';

const ROOT = join(require.resolve('node-optee/package.json'), '..');

const run = promisify(execFile);
const LOADED = `process.report.getReport().sharedObjects.some((name) => name.endsWith('.node'))`;

test.each([
  ['require', `const m = require('node-optee'); console.log(Object.keys(m).sort().join(), ${LOADED})`, []],
  [
    'import',
    `import * as m from 'node-optee'; console.log(Object.keys(m).sort().join(), ${LOADED})`,
    ['--input-type=module'],
  ],
])('%s gives the same names and does not load the addon', async (_, code, flags) => {
  const { stdout } = await run(process.execPath, [...flags, '-e', code]);
  expect(stdout.trim()).toBe(
    'AbortError,DmaBuf,DmaHeap,Login,Parameter,Session,SessionPool,SharedMemory,TEE_RESULTS,TeeContext,TeeError,TeeSystemError,buffer,reportedSize,value false',
  );
});

const MODEL = process.allowedNodeEnvironmentFlags.has('--permission')
  ? ['--permission', '--allow-fs-read=*']
  : ['--experimental-permission', '--allow-fs-read=*'];
const PERMISSION = /^ERR_DLOPEN_DISABLED .*permission model.*--allow-addons/;
const NO_ADDONS = /^ERR_DLOPEN_DISABLED (?!.*permission model).*--no-addons/;

test.each([
  ['the permission model', MODEL, {}, PERMISSION],
  ['--no-addons', ['--no-addons'], {}, NO_ADDONS],
  ['--no-addons in NODE_OPTIONS', [], { NODE_OPTIONS: '--no-addons' }, NO_ADDONS],
  ['--no-addons beside the permission for it', [...MODEL, '--allow-addons', '--no-addons'], {}, NO_ADDONS],
])('where %s forbids the addon, the error says so', async (_, flags, env, expected) => {
  const code = `
    const { TeeContext } = require('node-optee');
    try { TeeContext.list(); } catch ({ code, message }) { console.log(code, message); }`;
  const { stdout } = await run(process.execPath, [...flags, '--no-warnings', '-e', code], {
    env: { ...process.env, ...env },
  });
  expect(stdout).toMatch(expected);
});

describe('without prebuilds', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'node-optee-load-'));
    cpSync(join(ROOT, 'dist'), join(folder, 'dist'), { recursive: true });
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));
  const list = async (): Promise<string> => {
    const code = `
      const { TeeContext } = require(${JSON.stringify(join(folder, 'dist'))});
      try { console.log(TeeContext.list().length >= 0); } catch ({ code, message }) { console.log(code, message); }`;
    return (await run(process.execPath, ['-e', code])).stdout.trim();
  };

  test('what node-gyp built in a clone is taken', async () => {
    const target = `linux-${process.arch}`;
    const release = join(folder, 'build/Release');
    mkdirSync(release, { recursive: true });
    copyFileSync(join(ROOT, `prebuilds/${target}/node-optee.node`), join(release, 'node-optee.node'));
    expect(await list()).toBe('true');
  });

  test('the error names bundlers and what to do', async () => {
    expect(await list()).toMatch(
      /^ERR_TEE_ADDON_MISSING .* is missing.*bundler.*docs\/bundlers\.md.*build-addon\.mjs/,
    );
  });

  test('the error on another architecture names those that there are', async () => {
    const code = `
      Object.defineProperty(process, 'arch', { value: 'riscv64' });
      const { TeeContext } = require(${JSON.stringify(join(folder, 'dist'))});
      try { TeeContext.list(); } catch ({ code, message }) { console.log(code, message); }`;
    const { stdout } = await run(process.execPath, ['-e', code]);
    expect(stdout).toMatch(
      /^ERR_TEE_ADDON_MISSING .* no native addon for linux-riscv64.*linux-arm64 and linux-x64/,
    );
  });
});

test('both give the same classes', async () => {
  const code = `
    import { createRequire } from 'node:module';
    import { TeeError } from 'node-optee';
    console.log(createRequire(process.cwd() + '/x.js')('node-optee').TeeError === TeeError)`;
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', code]);
  expect(stdout.trim()).toBe('true');
});
