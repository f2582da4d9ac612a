// What happens where the host has no room: nothing that was said to be written is missing without a word.
import { join } from 'node:path';
import { beforeAll, expect, jest, test } from '@jest/globals';
import { prepareMachine } from 'node-optee/qemu';
import { BUILD_TIMEOUT, GUEST_TIMEOUT, newFolder } from '../support/guest.js';
import { cli, withSmall } from '../support/small-disk.js';

jest.setTimeout(GUEST_TIMEOUT);

beforeAll(() => prepareMachine(), BUILD_TIMEOUT);

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
