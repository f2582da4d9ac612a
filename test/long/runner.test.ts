import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { buffer } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  copyFileSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { prepareMachine } from 'node-optee/qemu';
import { TEST_TA } from '../support/census.js';
import {
  CLI,
  BUILD_TIMEOUT,
  GUEST_TIMEOUT,
  newFolder,
  processesWith,
  promptly,
  qemu,
  startQemu,
} from '../support/guest.js';
import { smallTa } from '../support/small-ta.js';
import { until } from '../support/until.js';

jest.setTimeout(GUEST_TIMEOUT);

const ROOT = dirname(dirname(CLI));

let share: string;

beforeAll(async () => {
  await prepareMachine();
  share = newFolder();
  chmodSync(share, 0o755);
  // As root's QEMU would be root, which is said on standard error.
  if (process.getuid?.() === 0) chownSync(share, 1234, 1234);
}, BUILD_TIMEOUT);

/** No QEMU of this file's share stays. */
async function expectNothingLeft(): Promise<void> {
  await until(() => processesWith(share).length === 0);
  expect(processesWith(share)).toEqual([]);
}

describe('node-optee qemu', () => {
  test('runs in the share, with variables; both outputs and the status are the command’s', async () => {
    const script = 'pwd; echo $A; echo err >&2; exit 7';
    const { status, stdout, stderr } = await qemu(share, '--env', 'A=b=c', '--', 'sh', '-c', script);
    expect(stdout.toString()).toBe(`${share}\nb=c\n`);
    expect({ status, stderr }).toEqual({ status: 7, stderr: 'err\n' });
    await expectNothingLeft();
  });

  test.each([
    ['a signal', ['sh', '-c', 'kill -TERM $$'], 143, /^$/],
    ['a real-time signal', ['sh', '-c', 'kill -34 $$'], 162, /^$/],
    ['not found', ['no-such-command'], 127, /no-such-command: no such file/],
    ['not executable', ['/etc/passwd'], 126, /\/etc\/passwd: permission denied/],
  ])('%s', async (_name, command, expected, message) => {
    const { status, stderr } = await qemu(share, '--', ...command);
    expect(stderr).toMatch(message);
    expect(status).toBe(expected);
  });

  test('a command that hangs ends at the time-out', async () => {
    const hangs = ['--', 'sh', '-c', 'echo begun; sleep 1000'];
    // On a busy machine it may not have come to that yet.
    let written = '';
    for (let timeout = 1; written === '' && timeout < 60; timeout *= 2) {
      const { status, stdout, stderr } = await qemu(share, '--timeout', String(timeout), ...hangs);
      expect(status).toBe(124);
      expect(stderr).toContain(`did not end within ${timeout} s`);
      written = stdout.toString();
    }
    expect(written).toBe('begun\n');
    await expectNothingLeft();
  });

  test(
    '100 MiB of random bytes arrive with the same SHA-256',
    async () => {
      const script =
        'mkfifo /tmp/f; sha256sum </tmp/f >&2 & dd if=/dev/urandom bs=65536 count=1600 2>/dev/null | tee /tmp/f; wait';
      const { status, stdout, stderr } = await qemu(share, '--', 'sh', '-c', script);
      expect([status, stdout.length]).toEqual([0, 104857600]);
      expect(stderr.split(' ')[0]).toBe(createHash('sha256').update(stdout).digest('hex'));
    },
    5 * GUEST_TIMEOUT,
  );

  test('a panic is the status 125 with its text and both logs, in under 5 seconds', async () => {
    const { child, ended } = startQemu(share, [
      '--',
      'sh',
      '-c',
      'echo now; echo c > /proc/sysrq-trigger; sleep 100',
    ]);
    const begun = Date.now();
    await once(child.stdout as NodeJS.ReadableStream, 'data');
    const up = Date.now();
    const { status, stderr } = await ended;
    expect(Date.now() - up).toBeLessThan(promptly(up - begun));
    expect(status).toBe(125);
    expect(stderr).toMatch(
      /^node-optee qemu: Linux in the guest panicked: Kernel panic - not syncing: sysrq triggered crash\n/,
    );
    expect(stderr).toContain('Call trace:');
    expect(stderr).toContain('OP-TEE version');
    await expectNothingLeft();
  });

  test.each([
    ['dynamic', 'protected,secure-video'],
    ['static', 'protected,secure-video'],
    ['dmabuf', 'sdp@7e000000'],
  ])('--machine %s: the devices, and the heap of the protected memory', async (machine, heap) => {
    const script = 'ls /dev/tee0 /dev/teepriv0 && ls /dev/dma_heap && node -p process.arch';
    const { status, stdout } = await qemu(share, '--machine', machine, '--', 'sh', '-c', script);
    const lines = stdout.toString().split('\n');
    expect(lines.slice(0, 2)).toEqual(['/dev/tee0', '/dev/teepriv0']);
    expect(lines).toContain(heap);
    expect(lines.slice(-2)).toEqual(['arm64', '']);
    expect(status).toBe(0);
  });

  test('two guests at once', async () => {
    const script = (n: number) => `echo ${n} > file${n}; sleep 1; cat file${n}; exit ${n}`;
    const results = await Promise.all([3, 4].map((n) => qemu(share, '--', 'sh', '-c', script(n))));
    expect(results.map(({ status, stdout }) => [status, stdout.toString()])).toEqual([
      [3, '3\n'],
      [4, '4\n'],
    ]);
  });

  test('--verbose shows both logs on standard error', async () => {
    const { stdout, stderr } = await qemu(share, '--verbose', '--', 'echo', 'out');
    expect(stdout.toString()).toBe('out\n');
    expect(stderr).toMatch(/^\[kernel\] .*Booting Linux/m);
    expect(stderr).toMatch(/^\[secure\] I\/TC/m);
  });

  test('--user, --ta', async () => {
    const tas = newFolder();
    chmodSync(tas, 0o755);
    writeFileSync(join(tas, '11111111-2222-3333-4444-555555555555.ta'), 'the TA');
    const script = 'id -nG; cat /usr/lib/optee_armtz/11111111*.ta';
    const { stdout } = await qemu(share, '--user', 'dev', '--ta', tas, '--', 'sh', '-c', script);
    expect(stdout.toString()).toBe('dev video tee\nthe TA');
  });

  test('--memory, --cpus', async () => {
    const script = 'nproc; grep MemTotal /proc/meminfo';
    const { status, stdout } = await qemu(share, '--memory', '700', '--cpus', '3', '--', 'sh', '-c', script);
    const [cpus, memory] = stdout.toString().split('\n');
    expect({ status, cpus }).toEqual({ status: 0, cpus: '3' });
    // The kernel's own part is not in it.
    const mib = Number(/\d+/.exec(memory)?.[0]) / 1024;
    expect(mib).toBeGreaterThan(550);
    expect(mib).toBeLessThan(700);
  });

  test('--node-modules: the dependencies of the share are those for arm64', async () => {
    const options = ['--share', ROOT, '--node-modules', '--'];
    const { status, stdout, stderr } = await qemu(share, ...options, 'ls', 'node_modules/@unrs');
    // The clone can be root's.
    expect(stderr).toMatch(/^(QEMU runs as root: .*\n)?$/);
    expect(status).toBe(0);
    expect(stdout.toString()).toContain('resolver-binding-linux-arm64-gnu\n');
    expect(stdout.toString()).not.toContain('x64');
  });

  test('node-optee ta builds a TA that the guest loads', async () => {
    const out = newFolder();
    const source = join(ROOT, 'test/ta');
    const built = await startQemu(share, [source, '--out', out], { command: 'ta' }).ended;
    expect(built).toMatchObject({ status: 0, stdout: Buffer.from(`${join(out, `${TEST_TA}.ta`)}\n`) });
    const invoke = ['node', 'dist/cli.js', 'invoke', TEST_TA, '1', 'value-inout:41', 'value-out'];
    const { status, stdout } = await qemu(share, '--share', ROOT, '--ta', out, '--', ...invoke);
    expect(stdout.toString()).toContain('a 42 ');
    expect(status).toBe(0);
  });

  test('a TA that prints what OP-TEE and the firmware print when they panic ends nothing', async () => {
    const uuid = '8b5c8a5e-2f0a-4d0c-9f6e-0d5a1c3b7e21';
    const ta = await smallTa(
      uuid,
      `printf("E/TC:0 0 Panic 'said a TA' at a.c:1 <b>\\nPANIC at PC : 0x0000000000000001\\n");
      return TEE_SUCCESS;`,
    );
    const script = `node dist/cli.js invoke ${uuid} 0 && sleep 5 && echo lived`;
    const options = ['--verbose', '--share', ROOT, '--ta', ta];
    const { status, stdout, stderr } = await qemu(share, ...options, 'sh', '-c', script);
    expect(stderr).toMatch(/^\[secure\] E\/TC:0 0 Panic 'said a TA'/m);
    expect(stdout.toString()).toContain('lived\n');
    expect(status).toBe(0);
  });

  test('a share that would hide the guest’s system is refused', async () => {
    const { status, stderr } = await qemu(share, '--share', '/usr', '--', 'true');
    expect(stderr).toContain("share would hide the guest's own /usr/bin");
    expect(status).toBe(2);
  });
});

test('too few descriptors for a guest are a reason, not a stack trace', () => {
  const words = ['-c', 'ulimit -n 30; exec "$@"', 'sh', process.execPath, CLI, 'qemu', 'true'];
  const { status, stderr } = spawnSync('sh', words, { cwd: share, encoding: 'utf8' });
  expect(stderr).toMatch(
    /^node-optee qemu: The guest did not come up\. QEMU did not start: spawn \S+ EMFILE\n/,
  );
  expect(status).toBe(125);
});

test('outputs that are one file keep their order', () => {
  const script = 'for i in $(seq 300); do echo out $i; echo err $i >&2; done';
  const words = ['-c', 'exec "$@" 2>&1', 'sh', process.execPath, CLI, 'qemu', 'sh', '-c', script];
  const { stdout } = spawnSync('sh', words, { cwd: share, encoding: 'utf8' });
  expect(stdout).toBe(Array.from({ length: 300 }, (_, i) => `out ${i + 1}\nerr ${i + 1}\n`).join(''));
});

describe('standard streams', () => {
  test('standard input goes in', async () => {
    const { child, ended } = startQemu(share, ['--', 'cat'], { stdin: 'pipe' });
    const bytes = Buffer.alloc(3_000_000, 'input ');
    child.stdin?.end(bytes);
    expect((await ended).stdout.equals(bytes)).toBe(true);
  });

  test('one that never ends does not delay the exit', async () => {
    const script = 'read line; echo "got $line"; exit 3';
    const { child, ended } = startQemu(share, ['--', 'sh', '-c', script], { stdin: 'pipe' });
    child.stdin?.write('a line\n');
    const { status, stdout } = await ended;
    expect([status, stdout.toString()]).toEqual([3, 'got a line\n']);
  });

  test('without a command it is a shell that reads standard input', async () => {
    const { child, ended } = startQemu(share, [], { stdin: 'pipe' });
    child.stdin?.end('echo from the shell\nexit 9\n');
    const { status, stdout } = await ended;
    expect([status, stdout.toString()]).toEqual([9, 'from the shell\n']);
  });

  test('a reader that goes away is a broken pipe for the command', async () => {
    const { child, ended } = startQemu(share, ['--', 'yes']);
    ended.catch(() => {});
    await once(child.stdout as NodeJS.ReadableStream, 'data');
    child.stdout?.destroy();
    const [status] = await once(child, 'exit');
    expect(status).toBe(141);
    await expectNothingLeft();
  });

  describe('a pipe that nobody reads', () => {
    // More than the pipe takes, and less than what is buffered on the way to it.
    const fill = 'head -c 262144 /dev/zero; echo written >&2';
    let pipe: number;

    beforeEach(() => {
      const path = join(newFolder(), 'pipe');
      execFileSync('mkfifo', [path]);
      // Open at both ends, so that it can be opened at all.
      pipe = openSync(path, constants.O_RDWR);
    });
    afterEach(() => closeSync(pipe));

    test('does not hold up the time-out', async () => {
      const { ended } = startQemu(share, ['--timeout', '1', '--', 'sh', '-c', fill], { stdout: pipe });
      const { status, stderr } = await ended;
      expect(stderr).toContain('sh did not end within 1 s');
      expect(status).toBe(124);
      await expectNothingLeft();
    });

    test('does not hold up the end by a signal', async () => {
      const command = ['--', 'sh', '-c', `${fill}; sleep 1000`];
      const { child, ended } = startQemu(share, command, { stdout: pipe });
      await once(child.stderr as NodeJS.ReadableStream, 'data');
      child.kill('SIGTERM');
      expect((await ended).status).toBe(143);
      await expectNothingLeft();
    });
  });

  test('an output that cannot be written is said, and a status of its own', async () => {
    const full = openSync('/dev/full', 'w');
    const { status, stderr } = await startQemu(share, ['--', 'echo', 'hi'], { stdout: full }).ended;
    closeSync(full);
    expect(stderr).toBe('node-optee qemu: what echo wrote is lost: ENOSPC: no space left on device, write\n');
    expect(status).toBe(125);
  });
});

describe('Ctrl-Z', () => {
  test('stops QEMU, too, and both go on together', async () => {
    const { child, ended } = startQemu(share, ['sh', '-c', 'while :; do echo tick; sleep 0.1; done']);
    ended.catch(() => {});
    await once(child.stdout as NodeJS.ReadableStream, 'data');
    const pids = [child.pid as number, ...processesWith(share).filter((pid) => pid !== child.pid)];
    expect(pids).toHaveLength(2);
    const states = () => pids.map((pid) => /\) (\S)/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1]);
    child.kill('SIGTSTP');
    await until(() => states().every((state) => state === 'T'));
    child.kill('SIGCONT');
    await until(() => states().every((state) => state !== 'T'));
    await once(child.stdout as NodeJS.ReadableStream, 'data');
    child.kill('SIGTERM');
    await expectNothingLeft();
  });
});

describe('signals', () => {
  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const)('%s ends the guest', async (signal, expected) => {
    const { child, ended } = startQemu(share, ['--', 'sh', '-c', 'echo begun; sleep 1000']);
    const begun = Date.now();
    await once(child.stdout as NodeJS.ReadableStream, 'data');
    const up = Date.now();
    child.kill(signal);
    expect((await ended).status).toBe(expected);
    expect(Date.now() - up).toBeLessThan(promptly(up - begun));
    await expectNothingLeft();
  });

  test('SIGINT during the boot; a second try works', async () => {
    const { child, ended } = startQemu(share, ['--verbose', '--', 'true']);
    await once(child.stderr as NodeJS.ReadableStream, 'data');
    child.kill('SIGINT');
    expect((await ended).status).toBe(130);
    await expectNothingLeft();
    expect((await qemu(share, '--', 'true')).status).toBe(0);
  });

  test('even SIGKILL leaves no QEMU behind', async () => {
    const { child, ended } = startQemu(share, ['--', 'sh', '-c', 'echo begun; sleep 1000']);
    await once(child.stdout as NodeJS.ReadableStream, 'data');
    child.kill('SIGKILL');
    await ended;
    await expectNothingLeft();
  });

  test('QEMU killed from outside is the status 125', async () => {
    const { child, ended } = startQemu(share, ['--', 'sh', '-c', 'echo begun; sleep 1000']);
    await once(child.stdout as NodeJS.ReadableStream, 'data');
    const machines = processesWith(share).filter((pid) => pid !== child.pid);
    expect(machines.length).toBe(1);
    process.kill(machines[0], 'SIGKILL');
    const { status, stderr } = await ended;
    expect(status).toBe(125);
    expect(stderr).toContain('The guest ended. QEMU ended by SIGKILL');
  });
});

describe('on a terminal', () => {
  /** script(1) gives the command a terminal. */
  function onTerminal(command: string) {
    const child = spawn('script', ['-qec', command, '/dev/null'], {
      cwd: share,
      env: { ...process.env, TERM: 'xterm', SHELL: '/bin/sh' },
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    let seen = '';
    child.stdout.on('data', (chunk: Buffer) => (seen += chunk.toString()));
    const waitFor = async (pattern: RegExp) => {
      while (!pattern.test(seen)) {
        if (child.exitCode !== null) throw new Error(`ended before ${pattern}: ${JSON.stringify(seen)}`);
        await delay(20);
      }
    };
    return { child, waitFor, seen: () => seen };
  }

  test('without a command it is a shell, and the terminal is as it was afterwards', async () => {
    const cli = `${process.execPath} ${CLI} qemu`;
    const terminal = onTerminal(`stty rows 31 cols 91; stty -g; ${cli}; echo "status $?"; stty -g`);
    // eslint-disable-next-line no-control-regex -- a terminal is full of them
    await terminal.waitFor(/# (\x1b\[6n)?$/);
    terminal.child.stdin.write('stty size; echo $TERM; tty\r');
    await terminal.waitFor(/31 91\r\nxterm\r\n\/dev\/pts\/\d+\r\n/);
    terminal.child.stdin.write('sh -c \'echo be"gun"; exec sleep 1000\'\r');
    await terminal.waitFor(/begun\r\n/);
    // Ctrl-C is for the guest: it ends the sleep, not us.
    terminal.child.stdin.write('\x03');
    terminal.child.stdin.write('echo still "here"; exit 6\r');
    await terminal.waitFor(/still here\r\n/);
    await terminal.waitFor(/status 6\r\n\S+\r\n/);
    const [before, after] = terminal.seen().match(/[0-9a-f]+(:[0-9a-f]+){10,}/g) as string[];
    expect(after).toBe(before);
    terminal.child.kill();
  });

  test('a command has no input, and does not wait for any', async () => {
    const terminal = onTerminal(`${process.execPath} ${CLI} qemu -- sh -c 'cat; echo over'`);
    await terminal.waitFor(/over\r\n/);
    if (terminal.child.exitCode === null) await once(terminal.child, 'exit');
    expect(terminal.child.exitCode).toBe(0);
  });
});

test('what node-optee qemu prints with a closed standard error does not matter', async () => {
  const child = spawn(process.execPath, [CLI, 'qemu', '--verbose', '--', 'echo', 'out'], {
    cwd: share,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  child.stderr.destroy();
  const [stdout] = await Promise.all([buffer(child.stdout), once(child, 'close')]);
  expect([child.exitCode, stdout.toString()]).toEqual([0, 'out\n']);
});

test('native parts for the host are named when a program dies of them', async () => {
  const addon = join(share, 'node_modules', 'addon.node');
  mkdirSync(dirname(addon), { recursive: true });
  copyFileSync(process.execPath, addon);
  const hint = (path: string, remedy: string) =>
    `node-optee qemu: ${path} is for x86-64, and the guest is arm64: ${remedy}\n`;
  const addonRun = await qemu(share, 'node', '-e', `require('./node_modules/addon.node')`);
  const program = await qemu(share, './node_modules/addon.node');
  rmSync(join(share, 'node_modules'), { recursive: true });
  if (process.arch !== 'x64') return;
  const remedy = '--node-modules installs the dependencies for arm64';
  expect(addonRun.stderr).toContain(hint(addon, remedy));
  expect(addonRun.status).toBe(1);
  expect(program.stderr).toContain(hint(addon, remedy));
  // execvp(3) gives what Linux does not take to a shell.
  expect(program.status).not.toBe(0);
});
