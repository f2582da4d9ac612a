// What happens where the host has no room: nothing that was said to be written is missing without a word.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { beforeAll, expect, jest, test } from '@jest/globals';
import { buildTa, prepareDevKit, prepareMachine } from 'node-optee/qemu';
import { BUILD_TIMEOUT, CLI, GUEST_TIMEOUT, newFolder } from '../support/guest.js';

jest.setTimeout(GUEST_TIMEOUT);

const ROOT = dirname(dirname(CLI));

beforeAll(() => prepareMachine(), BUILD_TIMEOUT);

/** A program of node-optee with a file system of so many MiB at `folder`, which nobody else sees. */
async function withSmall(folder: string, size: number, program: string, env = {}, after = '') {
  const isRoot = process.getuid?.() === 0;
  const ids = isRoot ? ['-m'] : ['-Urm'];
  const owner = isRoot ? ',uid=1234,gid=1234' : '';
  const script = `mount -t tmpfs -o size=${size}m${owner} none "$1" && shift && { "$@"; status=$?; ${after || ':'}; exit $status; }`;
  const words = [...ids, 'sh', '-c', script, 'sh', folder, process.execPath, '-e', program];
  const child = spawn('unshare', words, {
    cwd: folder,
    env: { ...process.env, FOLDER: folder, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [stdout, stderr, [status]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close') as Promise<[number | null]>,
  ]);
  return { status, stdout, stderr };
}

/** `node-optee qemu` in the folder. */
const cli = (...words: string[]) =>
  `const { spawnSync } = require('node:child_process');
  process.exit(spawnSync(process.execPath, ${JSON.stringify([CLI, 'qemu', ...words])}, { cwd: process.env.FOLDER, stdio: 'inherit' }).status)`;

test.each([
  ['cp', ['sh', '-c', 'head -c 8000000 /dev/urandom >/tmp/a && cp /tmp/a a && echo copied']],
  [
    'writeFileSync',
    [
      'node',
      '-e',
      "for (let i = 0; i < 80; i++) fs.writeFileSync('f' + i, Buffer.alloc(1e5, i)); console.log('copied')",
    ],
  ],
])('a share with 4 MB of room: %s of 8 MB is the status 125, with a sentence', async (_name, command) => {
  const folder = newFolder();
  const { status, stdout, stderr } = await withSmall(folder, 4, cli(...command));
  // The command itself may think that all is well.
  expect(stdout.replace('copied\n', '')).toBe('');
  expect(stderr).toContain(
    `node-optee qemu: Not all that ${command[0]} wrote to ${folder} could be written there: no space left on device (ENOSPC)\n`,
  );
  expect(status).toBe(125);
});

test('where there is room, all of it is there, and the status is the command’s', async () => {
  const folder = newFolder();
  const command = cli(
    'sh',
    '-c',
    'head -c 8000000 /dev/urandom >/tmp/a && cp /tmp/a a && cmp /tmp/a a && exit 7',
  );
  const { status, stdout, stderr } = await withSmall(folder, 16, command, {}, 'stat -c %s "$FOLDER/a"');
  expect({ status, stdout, stderr }).toMatchObject({ status: 7, stdout: '8000000\n' });
});

test('programs are told by guest.run: the error has the outputs and how the command ended', async () => {
  const folder = newFolder();
  const program = `const { Guest } = require(${JSON.stringify(require.resolve('node-optee/qemu'))});
    (async () => {
      const guest = await Guest.boot({ share: process.env.FOLDER });
      const run = (script) => guest.run(['sh', '-c', script]).catch((error) => error);
      const small = await run('echo small > small; exit 3');
      const error = await run('echo out; head -c 8000000 /dev/zero > a; exit 4');
      const { code, errno, exit, stdout } = error;
      await guest.run(['rm', 'a']);
      const again = await run('echo again > again');
      await guest.close();
      console.log(JSON.stringify({ small: small.status, code, errno, exit, stdout: String(stdout), again: again.status }));
    })();`;
  const { stdout } = await withSmall(folder, 4, program);
  expect(JSON.parse(stdout)).toEqual({
    small: 3,
    code: 'ERR_GUEST_SHARE',
    errno: 'ENOSPC',
    exit: { status: 4, signal: null },
    stdout: 'out\n',
    again: 0,
  });
});

test('a full TMPDIR, where QEMU keeps what the guest writes to its own disk, ends the run with a reason', async () => {
  const folder = newFolder();
  const words = [
    '--share',
    newFolder(),
    'sh',
    '-c',
    'head -c 64000000 /dev/urandom >/root/a; sync; sleep 1000',
  ];
  const { status, stderr } = await withSmall(folder, 8, cli(...words), { TMPDIR: folder });
  expect(stderr).toMatch(
    /^node-optee qemu: The guest ended\. QEMU could not write the guest's disk: No space left on device/m,
  );
  expect(stderr).toContain(`in ${folder}`);
  expect(status).toBe(125);
});

test('a TMPDIR that is not there is the reason', async () => {
  const folder = newFolder();
  const { status, stderr } = await withSmall(folder, 8, cli('--share', newFolder(), 'true'), {
    TMPDIR: join(folder, 'none'),
  });
  expect(stderr).toMatch(
    /^node-optee qemu: The guest did not come up\. QEMU ended with status 1: .*No such file or directory/m,
  );
  expect(status).toBe(125);
});

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
  expect({ status, stderr }).toMatchObject({ status: 0 });
  expect(JSON.parse(stdout)).toEqual({
    code: expect.stringMatching(/^TEE_ERROR_(STORAGE_NO_SPACE|GENERIC|OUT_OF_MEMORY)$/),
    many: true,
    before: true,
    after: true,
  });
}, 600_000);
