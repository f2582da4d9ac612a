// The addon of this machine's architecture with an old C library; that for arm64 has its smoke tests in a guest.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { beforeAll, expect, test } from '@jest/globals';
import { oldGlibc } from '../support/old-glibc.js';

const ROOT = join(require.resolve('node-optee/package.json'), '..');

let command: string[];
beforeAll(async () => {
  command = await oldGlibc(process.arch as 'arm64' | 'x64');
}, 300_000);

test('loads and runs with the C library of Debian 11 or older', () => {
  const code = `
    const { DmaBuf, TeeContext } = require('node-optee');
    const { header } = process.report.getReport();
    const error = (refused) => {
      try { refused(); } catch ({ message }) { return message; }
    };
    console.log(JSON.stringify({
      glibc: header.glibcVersionRuntime,
      open: error(() => TeeContext.open('/dev/tee99')),
      buf: error(() => DmaBuf.fromFd(0)),
      list: TeeContext.list().length,
      addon: process.report.getReport().sharedObjects.some((name) => name.endsWith('/node-optee.node')),
    }));`;
  const [loader = '', ...options] = command;
  const output = execFileSync(loader, [...options, process.execPath, '-e', code], {
    cwd: ROOT,
    encoding: 'utf8',
  });
  const { glibc, ...used } = JSON.parse(output) as { glibc: string };
  const [, minor] = glibc.split('.').map(Number);
  expect(minor).toBeLessThanOrEqual(31);
  expect(used).toEqual({
    open: expect.stringContaining("open '/dev/tee99'"),
    buf: expect.stringContaining('must be a dma-buf'),
    list: expect.any(Number),
    addon: true,
  });
});
