import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { Guest } from 'node-optee/qemu';
import type { GuestError } from 'node-optee/qemu';
import { BUILD_TIMEOUT, GUEST_TIMEOUT, newFolder, processesWith } from '../support/guest.js';
import { until } from '../support/until.js';

jest.setTimeout(GUEST_TIMEOUT);

/** A link that leads out of the folder of TAs. */
const LINKED_TA = '21111111-2222-3333-4444-555555555555.ta';

let share: string;
let tas: string;
let guest: Guest;

beforeAll(async () => {
  share = join(newFolder(), 'a share, with ü');
  tas = newFolder();
  mkdirSync(share);
  chownSync(share, 1234, 1234);
  writeFileSync(join(tas, '11111111-2222-3333-4444-555555555555.ta'), 'first build');
  const elsewhere = newFolder();
  // QEMU reads them as the share's owner.
  for (const folder of [tas, elsewhere]) chmodSync(folder, 0o755);
  writeFileSync(join(elsewhere, 'built.ta'), 'built elsewhere');
  symlinkSync(join(elsewhere, 'built.ta'), join(tas, LINKED_TA));
  guest = await Guest.boot({ share, tas: [tas], user: 'tester', env: { FROM_HOST: 'yes = yes' } });
}, BUILD_TIMEOUT);

afterAll(async () => {
  await guest?.close();
});

const sh = async (script: string, options = {}) => {
  const { status, signal, stdout, stderr } = await guest.run(['sh', '-c', script], options);
  return { status, signal, stdout: stdout.toString(), stderr: stderr.toString() };
};

/** How many processes of the guest have this pattern, which must not match itself, in their command line. */
const running = async (pattern: string) => Number((await sh(`ps | grep -c "${pattern}"`)).stdout);

test('the machine: devices, heaps, Node.js', async () => {
  const script =
    'ls /dev/tee0 /dev/teepriv0 && ls /dev/dma_heap && node -p process.arch && uname -m && hostname';
  const { status, stdout } = await sh(script);
  expect(status).toBe(0);
  expect(stdout).toMatch(/^\/dev\/tee0\n\/dev\/teepriv0\n/);
  expect(stdout).toContain('protected,secure-video\n');
  expect(stdout).toContain('\narm64\naarch64\nnode-optee\n');
});

test('its clock is the host’s', async () => {
  const { stdout } = await sh('date +%s');
  expect(Math.abs(Number(stdout) - Date.now() / 1000)).toBeLessThan(30);
});

test('loopback works', async () => {
  const script = `const s = require('net').createServer((c) => c.end('hello')).listen(0, '127.0.0.1', () =>
    require('net').connect(s.address().port, '127.0.0.1').on('data', (d) => { console.log(String(d)); s.close(); }))`;
  const { stdout, stderr } = await guest.run(['node', '-e', script]);
  expect([stdout.toString(), stderr.toString()]).toEqual(['hello\n', '']);
});

describe('who runs a command', () => {
  test('the user: the share’s owner, in the groups tee and video', async () => {
    const { stdout } = await sh('id; id -un; echo $HOME $USER; touch $HOME/file && echo home');
    expect(stdout).toBe(
      'uid=1234(tester) gid=1234(tester) groups=44(video),500(tee),1234(tester)\ntester\n/home/tester tester\nhome\n',
    );
  });

  test('may use the TEE and the heaps, not the supplicant’s device nor files of root', async () => {
    const { stdout } = await sh(
      'for f in /dev/tee0 /dev/teepriv0 /dev/dma_heap/* /etc/passwd; do test -w $f && echo $f; done',
    );
    expect(stdout).toContain('/dev/tee0\n');
    expect(stdout).toContain('/dev/dma_heap/protected,secure-video\n');
    expect(stdout).not.toMatch(/teepriv0|passwd/);
    const { stdout: modes } = await sh(
      'stat -c "%a %U %G" /dev/tee0 /dev/teepriv0 "/dev/dma_heap/protected,secure-video"',
    );
    expect(modes).toBe('660 root tee\n600 root root\n660 root video\n');
  });

  test('can be root', async () => {
    expect((await sh('id; echo $HOME', { user: 'root' })).stdout).toBe('uid=0(root) gid=0(root)\n/root\n');
  });

  test('cannot be anybody else', async () => {
    await expect(guest.run(['id'], { user: 'nobody' })).rejects.toThrow(
      /^user must be root, or the guest's user, tester: Guest.boot\({ user }\) sets the guest's user/,
    );
  });

  test.each<[Record<string, unknown>, string]>([
    [{ times: 1 }, 'options has no times; there are env, cwd, user'],
    [{ timeout: '1s' }, "timeout must be a number, not string '1s'"],
    [{ timeout: 2 ** 31 }, 'timeout must be a whole number from 0 to 2147483647'],
    [{ cwd: 5 }, 'cwd must be a string'],
    [{ stdin: 5 }, 'stdin must be a string, a Uint8Array or a Readable'],
    [{ signal: 5 }, 'signal must be an AbortSignal'],
    [{ env: { A: 1 } }, 'env.A must be a string'],
  ])('%j is refused, and named', async (options, message) => {
    await expect(guest.run(['true'], options)).rejects.toThrow(message);
  });

  test('a terminal without a size is refused', () => {
    expect(() => guest.spawn(['sh'], { terminal: { rows: 5 } as never })).toThrow(
      /^terminal.columns must be/,
    );
    expect(() => guest.spawn(['sh'], { timeout: 5 } as never)).toThrow(/^options has no timeout/);
  });

  test('may open its own outputs by name', async () => {
    expect(await sh('echo out >/dev/stdout; echo err >/dev/stderr')).toMatchObject({
      stdout: 'out\n',
      stderr: 'err\n',
    });
  });
});

describe('a command', () => {
  test('outputs and status', async () => {
    expect(await sh('echo out; echo err >&2; exit 7')).toEqual({
      status: 7,
      signal: null,
      stdout: 'out\n',
      stderr: 'err\n',
    });
    expect(await sh('kill -9 $$')).toMatchObject({ status: null, signal: 'SIGKILL' });
  });

  test('a real-time signal, which has no name, keeps its number', async () => {
    expect(await sh('kill -34 $$')).toMatchObject({ status: null, signal: 'SIG34' });
  });

  test('environment and working folder', async () => {
    const script = 'pwd; echo "$FROM_HOST|$MINE|$LANG|$NODE_OPTEE_GUEST"';
    const { stdout } = await sh(script, { env: { MINE: 'x' } });
    expect(stdout).toBe(`${share}\nyes = yes|x|C.UTF-8|1\n`);
    expect((await sh('pwd', { cwd: '/usr' })).stdout).toBe('/usr\n');
  });

  test.each<[string, string | Buffer | Readable]>([
    ['a string', 'héllo'],
    ['bytes', Buffer.from('héllo')],
    ['a stream', Readable.from(['hé', 'llo'])],
  ])('standard input from %s', async (_name, stdin) => {
    expect((await guest.run(['cat'], { stdin })).stdout.toString()).toBe('héllo');
  });

  test('a stream that fails as standard input fails the run', async () => {
    const stdin = new Readable({
      read() {
        this.destroy(new Error('source broke'));
      },
    });
    await expect(guest.run(['cat'], { stdin })).rejects.toThrow('source broke');
  });

  test('32 MiB of random bytes arrive as they are', async () => {
    const bytes = randomBytes(32 << 20);
    writeFileSync(join(share, 'random'), bytes);
    const { stdout } = await guest.run(['cat', 'random']);
    expect(stdout.equals(bytes)).toBe(true);
    rmSync(join(share, 'random'));
  });

  test('8 MiB go in and come back', async () => {
    const bytes = Buffer.alloc(8 << 20, 'node-optee ');
    const { stdout } = await guest.run(['cat'], { stdin: bytes });
    expect(stdout.equals(bytes)).toBe(true);
  });

  test('many at once', async () => {
    const results = await Promise.all(Array.from({ length: 20 }, (_, i) => sh(`echo ${i}; exit ${i}`)));
    results.forEach((result, i) => expect(result).toMatchObject({ status: i, stdout: `${i}\n` }));
  });

  test(
    '1,000 at once',
    async () => {
      const all = await Promise.all(
        Array.from({ length: 1000 }, (_, i) => guest.run(['sh', '-c', `sleep 5; echo ${i}`])),
      );
      all.forEach(({ status, stdout }, i) => expect([status, stdout.toString()]).toEqual([0, `${i}\n`]));
    },
    3 * GUEST_TIMEOUT,
  );

  test('cannot be started', async () => {
    const error = { name: 'GuestError', code: 'ERR_GUEST_EXEC' };
    await expect(guest.run(['no-such-command'])).rejects.toMatchObject({
      ...error,
      errno: 'ENOENT',
      stage: 'exec',
    });
    await expect(guest.run(['/etc/passwd'])).rejects.toMatchObject({ ...error, errno: 'EACCES' });
    await expect(guest.run(['true'], { cwd: '/nowhere' })).rejects.toMatchObject({ ...error, stage: 'cwd' });
  });

  test('timeout: what it wrote is in the error, and it is gone', async () => {
    const hangs = ['sh', '-c', 'trap "" TERM; echo before; while :; do sleep 0.1; done'];
    // On a busy machine it may not have come to that yet.
    let written: Buffer | undefined;
    for (let timeout = 300; !written?.length && timeout < 60_000; timeout *= 2) {
      const error: unknown = await guest.run(hangs, { timeout }).catch((reason: unknown) => reason);
      expect(error).toMatchObject({ code: 'ERR_GUEST_TIMEOUT' });
      written = (error as GuestError).stdout;
    }
    expect(written?.toString()).toBe('before\n');
    await until(async () => (await running('[t]rap')) === 0);
    expect(await running('[t]rap')).toBe(0);
  });

  test('abort: it rejects at once, and it is gone', async () => {
    const controller = new AbortController();
    const hangs = guest.run(['sleep', '98765'], { signal: controller.signal });
    const rejected = expect(hangs).rejects.toMatchObject({
      name: 'AbortError',
      code: 'ABORT_ERR',
      cause: 'enough',
    });
    await until(async () => (await running('[9]8765')) === 1);
    controller.abort('enough');
    await rejected;
    await until(async () => (await running('[9]8765')) === 0);
    expect(await running('[9]8765')).toBe(0);
  });

  test('signals, and a terminal', async () => {
    const command = guest.spawn([
      'sh',
      '-c',
      'trap "echo got; exit 5" USR1; echo ready; while :; do sleep 0.1; done',
    ]);
    await once(command.stdout, 'data');
    command.kill('SIGUSR1');
    expect(await text(command.stdout)).toBe('got\n');
    expect(await command.exit).toEqual({ status: 5, signal: null });

    const terminal = guest.spawn(['sh', '-c', 'tty; stty size; echo $TERM; id -un'], {
      terminal: { rows: 12, columns: 34 },
    });
    const seen = await text(terminal.stdout);
    expect(seen).toMatch(/^\/dev\/pts\/\d+\r\n12 34\r\n\S+\r\ntester\r\n$/);
  });
});

describe('the share', () => {
  test('the host’s files are there, and change', async () => {
    for (let i = 0; i < 20; i++) {
      writeFileSync(join(share, 'file'), `content ${100 + i}`);
      expect((await sh('cat file')).stdout).toBe(`content ${100 + i}`);
    }
    rmSync(join(share, 'file'));
    expect((await sh('cat file')).status).toBe(1);
  });

  test('what the guest writes is there when the command has ended, and belongs to the share’s owner', async () => {
    await sh('mkdir -p made && echo guest > made/file && chmod 750 made && ln -s file made/link');
    const made = statSync(join(share, 'made'));
    expect(readFileSync(join(share, 'made/link'), 'utf8')).toBe('guest\n');
    expect([made.mode & 0o777, made.uid, made.gid]).toEqual([0o750, 1234, 1234]);
  });

  test('what is written and not closed is on the host a little later', async () => {
    const script = "const fd = fs.openSync('log', 'w'); fs.writeSync(fd, 'line'); setInterval(() => {}, 1e6)";
    const writer = guest.spawn(['node', '-e', script]);
    const content = () => {
      try {
        return readFileSync(join(share, 'log'), 'utf8');
      } catch {
        return '';
      }
    };
    await until(() => content() === 'line');
    writer.kill('SIGKILL');
    expect(content()).toBe('line');
  });

  test('what it cannot do is what docs/guest.md says', async () => {
    const script = `
      const { createServer } = require('net');
      try { require('child_process').execFileSync('mkfifo', ['fifo'], { stdio: 'pipe' }); } catch ({ message }) {
        console.log('mkfifo', /No such device or address/.test(message));
      }
      const fd = fs.openSync('unlinked', 'w+');
      fs.unlinkSync('unlinked');
      try { fs.ftruncateSync(fd, 10); } catch ({ code }) { console.log('ftruncate', code); }
      createServer().on('error', ({ code }) => console.log('listen', code)).listen(process.cwd() + '/socket');`;
    const { stdout } = await guest.run(['node', '-e', script]);
    expect(stdout.toString()).toBe('mkfifo true\nftruncate ENOENT\nlisten ENXIO\n');
  });

  test('programs and libraries run from it', async () => {
    const script =
      'cp /usr/bin/busybox busybox && ./busybox echo works && printf "#!/bin/sh\\necho script\\n" > s && chmod +x s && ./s';
    expect(await sh(script)).toMatchObject({ stdout: 'works\nscript\n' });
    // Node.js finds no addon in it, but it has been mapped when it says so.
    const library =
      'cp /usr/lib/aarch64-linux-gnu/libz.so.1 z.node && node -e "require(process.cwd() + \'/z.node\')"';
    expect((await sh(library)).stderr).toContain('Module did not self-register');
  });

  test('many files survive', async () => {
    await sh('mkdir many && cd many && for i in $(seq 100); do echo $i > f$i; done');
    const sum = Array.from({ length: 100 }, (_, i) =>
      Number(readFileSync(join(share, `many/f${i + 1}`), 'utf8')),
    );
    expect(sum.reduce((a, b) => a + b)).toBe(5050);
  });

  test('permissions of the host hold for the user', async () => {
    writeFileSync(join(share, 'secret'), 'of root');
    chmodSync(join(share, 'secret'), 0o600);
    chownSync(join(share, 'secret'), 0, 0);
    expect((await sh('cat secret')).status).toBe(1);
    // QEMU is the share's owner: what that user may not on the host, nobody in the guest may.
    expect((await sh('cat secret', { user: 'root' })).status).toBe(1);
  });

  test('root of the guest makes no file of root’s on the host, and QEMU is not root', async () => {
    const script =
      'touch by-root; chown 0:0 by-root; cp /usr/bin/busybox setuid; chown 0:0 setuid; chmod 4755 setuid';
    await sh(script, { user: 'root' });
    for (const name of ['by-root', 'setuid']) expect(statSync(join(share, name)).uid).toBe(1234);
    await sh('mknod device c 1 3', { user: 'root' });
    expect(existsSync(join(share, 'device'))).toBe(false);
    const status = readFileSync(`/proc/${guest.pid}/status`, 'utf8');
    expect(status).toMatch(/^Uid:\t1234\t1234\t1234\t1234\nGid:\t1234\t1234\t1234\t1234$/m);
    expect(status).toMatch(/^Groups:\t\s*$/m);
    expect(status).toMatch(/^CapEff:\t0+$/m);
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    expect(status).toMatch(/^Seccomp:\t2$/m);
  });
});

test('TAs of a folder are where tee-supplicant looks, and a new build is seen', async () => {
  const path = '/usr/lib/optee_armtz/11111111-2222-3333-4444-555555555555.ta';
  expect((await sh(`cat ${path}`, { user: 'root' })).stdout).toBe('first build');
  writeFileSync(join(tas, '11111111-2222-3333-4444-555555555555.ta'), 'second build');
  expect((await sh(`cat ${path}`, { user: 'root' })).stdout).toBe('second build');
  expect((await sh(`echo no > ${path}`, { user: 'root' })).status).not.toBe(0);
  const linked = await sh(`cat /usr/lib/optee_armtz/${LINKED_TA}`, { user: 'root' });
  expect(linked.stdout).toBe('built elsewhere');
});

test("a TA's panic does the machine no harm", async () => {
  const { status, stdout } = await guest.run(['xtest', '-t', 'regression', '1007'], { user: 'root' });
  expect(stdout.toString()).toContain('1 test case of which 0 failed');
  expect(status).toBe(0);
  expect(guest.logs.secure).toContain('TA panicked');
  expect((await sh('echo still here')).stdout).toBe('still here\n');
});

describe('tee-supplicant', () => {
  const root = (script: string) => sh(script, { user: 'root', timeout: 60_000 });
  const works = async () => {
    const { status, stdout } = await root('xtest -t regression 1007');
    expect(stdout).toContain('1 test case of which 0 failed');
    expect(status).toBe(0);
  };

  test('a client that is killed while its TA is loaded: the next one finds a supplicant', async () => {
    // Killed at many moments: some of them are in the loading.
    await root('for i in $(seq 30); do xtest -t regression 1007 & usleep $((i * 10000)); kill -9 $!; done');
    await works();
  });

  test('killed: it is started again, and the log says so', async () => {
    for (let i = 0; i < 3; i++) {
      const pid = Number((await root('pidof tee-supplicant')).stdout);
      await root(`kill -9 ${pid}`);
      await until(async () => {
        const now = Number((await root('pidof tee-supplicant')).stdout);
        return now > 0 && now !== pid;
      });
    }
    await works();
    expect(guest.logs.kernel).toContain('tee-supplicant ended (signal 9); it is started again');
    // It has the signals of any program, not those of the agent.
    expect((await root('grep SigBlk /proc/$(pidof tee-supplicant)/status')).stdout).toMatch(/\t0+\n/);
  });

  test('told to end: it stays down, until somebody starts it', async () => {
    await root('kill $(pidof tee-supplicant); sleep 2');
    expect((await root('pidof tee-supplicant')).stdout).toBe('');
    expect(guest.logs.kernel).toContain('tee-supplicant ended (signal 15); it was told to, and stays down');
    await root('setsid tee-supplicant >/dev/null 2>&1 </dev/null &');
    await until(async () => (await root('pidof tee-supplicant')).stdout !== '');
    await works();
  });
});

test('await using switches the guest off', async () => {
  let used: Guest;
  {
    await using other = await Guest.boot({ cpus: 1 });
    used = other;
    expect((await other.run(['true'])).status).toBe(0);
  }
  expect(used.logs.kernel).toContain('reboot: Power down');
  await expect(used.run(['true'])).rejects.toMatchObject({ code: 'ERR_GUEST_CLOSED' });
});

test('close ends everything, and can be called again', async () => {
  const other = await Guest.boot({ share });
  const pending = other.run(['sleep', '100']);
  await Promise.all([
    other.close(),
    other.close(),
    expect(pending).rejects.toMatchObject({ code: 'ERR_GUEST_CLOSED' }),
  ]);
  await other.closed;
  await other.close();
  await expect(other.run(['true'])).rejects.toMatchObject({ code: 'ERR_GUEST_CLOSED' });
  expect(other.logs.kernel).toContain('reboot: Power down');
  expect(processesWith(dirname(share)).length).toBe(1); // the guest of this file
});
