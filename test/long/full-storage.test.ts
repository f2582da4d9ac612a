// The same of the guest's cache, and of the storage of TAs.
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { beforeAll, expect, jest, test } from '@jest/globals';
import { buildTa, prepareDevKit, prepareMachine } from 'node-optee/qemu';
import { BUILD_TIMEOUT, CLI, GUEST_TIMEOUT, newFolder } from '../support/guest.js';
import { cli, withSmall } from '../support/small-disk.js';

jest.setTimeout(GUEST_TIMEOUT);

const ROOT = dirname(dirname(CLI));

beforeAll(() => prepareMachine(), BUILD_TIMEOUT);

test('a full disk under the cache: an import says so, and leaves nothing half made', async () => {
  const file = join(newFolder(), 'guest.tar');
  expect(spawnSync(process.execPath, [CLI, 'qemu', '--export', file], { stdio: 'pipe' }).status).toBe(0);
  const folder = newFolder();
  const left = 'find "$FOLDER" -type f ! -name lock';
  const { status, stdout, stderr } = await withSmall(
    folder,
    24,
    cli('--import', file),
    { XDG_CACHE_HOME: folder },
    left,
  );
  expect(stderr).toContain(`${file} is not imported: ENOSPC: no space left on device`);
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
}, 600_000);

test('a full disk under --storage: the TA is told, what it stored before is whole, and there is room after a deletion', async () => {
  const folder = newFolder();
  const ta = join(ROOT, 'build', 'ta');
  await buildTa({ dir: join(ROOT, 'test', 'ta'), devKit: await prepareDevKit(), out: ta });
  const client = `
    const { TeeContext, buffer } = require(${JSON.stringify(join(ROOT, 'dist', 'index.js'))});
    const TA = require(${JSON.stringify(join(ROOT, 'build', 'test', 'support', 'test-ta.js'))});
    const session = TeeContext.open().openSessionSync(TA.NODE_OPTEE_TEST_TA_UUID);
    const name = (i) => buffer.in(Buffer.from('object ' + i));
    const write = (i) => session.invokeSync(TA.TEST_TA_STORAGE_WRITE, [name(i), buffer.in(new Uint8Array(16000).fill(i + 1))]);
    let stored = 0, code;
    while (code === undefined && stored < 1000) {
      try { write(stored); stored++; } catch (error) { code = error.code; }
    }
    const whole = () => Array.from({ length: stored }, (_, i) => {
      const [, data] = session.invokeSync(TA.TEST_TA_STORAGE_READ, [name(i), buffer.out(16000)]);
      return data.length === 16000 && data.every((byte) => byte === i + 1);
    }).every(Boolean);
    const before = whole();
    for (const i of [stored - 1, stored - 2]) session.invokeSync(TA.TEST_TA_STORAGE_DELETE, [name(i)]);
    stored -= 2;
    write(stored++);
    console.log(JSON.stringify({ code, many: stored > 3, before, after: whole() }));`;
  const command = ['--share', ROOT, '--ta', ta, '--storage', join(folder, 'storage'), 'node', '-e', client];
  const { status, stdout, stderr } = await withSmall(folder, 1, cli(...command));
  if (status !== 0) throw new Error(`It ended with ${status}: ${stderr}`);
  expect(JSON.parse(stdout)).toEqual({
    code: expect.stringMatching(/^TEE_ERROR_(STORAGE_NO_SPACE|GENERIC|OUT_OF_MEMORY)$/),
    many: true,
    before: true,
    after: true,
  });
}, 600_000);
