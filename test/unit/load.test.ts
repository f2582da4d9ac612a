import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from '@jest/globals';

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
    'AbortError,DmaBuf,DmaHeap,Login,Parameter,Session,SharedMemory,TEE_RESULTS,TeeContext,TeeError,TeeSystemError,buffer,value false',
  );
});

test('under the permission model the addon needs a permission, and the error names it', async () => {
  const code = `
    const { TeeContext } = require('node-optee');
    try { TeeContext.list(); } catch ({ code, message }) { console.log(code, message); }`;
  const model = process.allowedNodeEnvironmentFlags.has('--permission')
    ? '--permission'
    : '--experimental-permission';
  const flags = [model, '--allow-fs-read=*', '--no-warnings'];
  const { stdout } = await run(process.execPath, [...flags, '-e', code]);
  expect(stdout).toMatch(/^ERR_DLOPEN_DISABLED .*--allow-addons/);
});

test('both give the same classes', async () => {
  const code = `
    import { createRequire } from 'node:module';
    import { TeeError } from 'node-optee';
    console.log(createRequire(process.cwd() + '/x.js')('node-optee').TeeError === TeeError)`;
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', code]);
  expect(stdout.trim()).toBe('true');
});
