import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, duplexPair } from 'node:stream';
import type { Duplex } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { Agent } from '#lib/qemu/agent';
import type { AgentProcess } from '#lib/qemu/agent';
import type { ExitStatus } from '#lib/qemu/guest-error';
import { FrameType, exec, header, numbers } from '#lib/qemu/protocol';
import type { ExecRequest } from '#lib/qemu/protocol';
import { killHostAgents, startHostAgent } from '../support/host-agent.js';
import { until } from '../support/until.js';

let child: ChildProcess;
let socket: Duplex;
let agent: Agent;

const request = (argv: string[], more: Partial<ExecRequest> = {}): ExecRequest => ({
  argv,
  env: { PATH: process.env.PATH as string },
  cwd: '/',
  uid: process.getuid?.() as number,
  gid: process.getgid?.() as number,
  groups: [],
  stdin: false,
  ...more,
});

async function run(argv: string[], more: Partial<ExecRequest> & { input?: string | Buffer } = {}) {
  const { input, ...rest } = more;
  const started = agent.exec(request(argv, { stdin: input !== undefined, ...rest }));
  if (input !== undefined) started.stdin.on('error', () => {}).end(input);
  return output(started);
}

async function output(command: AgentProcess): Promise<ExitStatus & { stdout: string; stderr: string }> {
  const [stdout, stderr, exit] = await Promise.all([
    text(command.stdout),
    text(command.stderr),
    command.exit,
  ]);
  return { ...exit, stdout, stderr };
}

beforeEach(async () => {
  ({ child, socket } = startHostAgent());
  agent = new Agent(socket);
  await agent.ready;
});

afterEach(async () => {
  agent.fail(new Error('test over'));
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  // The sanitizers would have ended it with another status.
  const ended = [child.exitCode, child.signalCode];
  killHostAgents();
  expect(ended).toEqual([0, null]);
});

describe('commands', () => {
  test('output, errors and exit status', async () => {
    expect(await run(['sh', '-c', 'echo out; echo err >&2; exit 7'])).toEqual({
      status: 7,
      signal: null,
      stdout: 'out\n',
      stderr: 'err\n',
    });
  });

  test('arguments, environment and working folder', async () => {
    const argv = ['sh', '-c', 'pwd; printf "%s|" "$A" "$B" "$@"', 'sh', '', 'two words', 'ü\n'];
    const env = { PATH: '/usr/bin:/bin', A: '', B: 'a=b c' };
    expect((await run(argv, { env, cwd: '/usr' })).stdout).toBe('/usr\n|a=b c||two words|ü\n|');
  });

  test('standard input arrives, and ends', async () => {
    expect(await run(['cat'], { input: 'hello' })).toMatchObject({ status: 0, stdout: 'hello' });
    expect(await run(['cat'])).toMatchObject({ status: 0, stdout: '' });
  });

  test('a signal ends a command, and is told from a status', async () => {
    const sleep = agent.exec(request(['sleep', '100']));
    await sleep.started;
    sleep.kill('SIGUSR1');
    expect(await sleep.exit).toEqual({ status: null, signal: 'SIGUSR1' });
    sleep.kill('SIGKILL');
    expect(await run(['sh', '-c', 'kill -9 $$'])).toMatchObject({ status: null, signal: 'SIGKILL' });
    expect(await run(['sh', '-c', 'kill -34 $$'])).toMatchObject({ status: null, signal: 'SIG34' });
  });

  test('a signal reaches the whole process group, even before the command runs', async () => {
    const group = agent.exec(request(['sh', '-c', 'sleep 100 | sleep 100']));
    group.kill('SIGTERM');
    expect(await group.exit).toEqual({ status: null, signal: 'SIGTERM' });
  });

  test('signals have their default actions in commands', async () => {
    const status = (await run(['grep', '-E', '^Sig(Blk|Ign)', '/proc/self/status'])).stdout;
    expect(status).toBe('SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n');
  });

  test('no descriptor of the agent is inherited', async () => {
    await Promise.all([run(['sleep', '0.1'], { input: '' }), run(['sh', '-c', 'ls /proc/self/fd'])]);
    expect((await run(['ls', '/proc/self/fd'])).stdout).toBe(
      execFileSync('ls', ['/proc/self/fd'], { encoding: 'utf8' }),
    );
  });

  test.each([
    [['/does/not/exist'], {}, { errno: 'ENOENT', stage: 'exec' }],
    [['node-optee-no-such-command'], {}, { errno: 'ENOENT', stage: 'exec' }],
    [['/etc/passwd'], {}, { errno: 'EACCES', stage: 'exec' }],
    [['true'], { cwd: '/does/not/exist' }, { errno: 'ENOENT', stage: 'cwd' }],
  ])('%j %j cannot be started', async (argv, more, error) => {
    const failed = agent.exec(request(argv, more));
    await expect(failed.started).rejects.toMatchObject({ code: 'ERR_GUEST_EXEC', ...error });
    await expect(failed.exit).rejects.toMatchObject({ code: 'ERR_GUEST_EXEC', ...error });
    expect(await text(failed.stdout)).toBe('');
    expect(await run(['true'])).toMatchObject({ status: 0 });
  });

  test('what no command can have is refused', () => {
    expect(() => agent.exec(request([]))).toThrow(/argv/);
    expect(() => agent.exec(request(['a\0b']))).toThrow(/argv\[0\].*NUL/);
    expect(() => agent.exec(request(['a'], { env: { 'A=B': 'c' } }))).toThrow(/env/);
    expect(() => agent.exec(request(['a'], { cwd: '\0' }))).toThrow(/cwd/);
    expect(() => agent.exec(request(['x'.repeat(5_000_000)]))).toThrow(/too long/);
  });

  test('children in the background do not delay the exit, what was written before arrives', async () => {
    const start = Date.now();
    const { status, stdout } = await run(['sh', '-c', 'sleep 30 & head -c 60000 /dev/zero']);
    expect([status, stdout.length]).toEqual([0, 60000]);
    expect(Date.now() - start).toBeLessThan(10_000);
  });

  test('an output that the command closes ends before the command does', async () => {
    const closes = agent.exec(
      request(['sh', '-c', 'echo last; exec >&-; read line; echo "$line" >&2'], { stdin: true }),
    );
    expect(await text(closes.stdout)).toBe('last\n');
    closes.stdin.end('go\n');
    expect(await text(closes.stderr)).toBe('go\n');
    expect(await closes.exit).toEqual({ status: 0, signal: null });
  });

  test('many at once', async () => {
    const all = await Promise.all(
      Array.from({ length: 50 }, (_, i) => run(['sh', '-c', `echo ${i}; exit ${i}`])),
    );
    all.forEach((one, i) => expect(one).toMatchObject({ status: i, stdout: `${i}\n` }));
  });
});

describe('more than a few', () => {
  /** `count` commands that run at the same time, with an agent that may have so many descriptors. */
  async function atOnce(files: string, count: number) {
    const other = startHostAgent(files);
    const limited: Agent = new Agent(other.socket, (error) => limited.fail(error));
    await limited.ready;
    const all = Array.from({ length: count }, () => limited.exec(request(['cat'], { stdin: true })));
    const started = await Promise.allSettled(all.map((one) => one.started));
    for (const one of all) one.stdin.on('error', () => {}).end('x');
    const outputs = await Promise.allSettled(all.map(output));
    limited.fail(new Error('test over'));
    await once(other.child, 'exit');
    return { started, outputs };
  }

  test('commands than poll() takes under the limit of before', async () => {
    const { outputs } = await atOnce('1024:4096', 300);
    for (const one of outputs) expect(one).toMatchObject({ value: { status: 0, stdout: 'x' } });
  }, 60_000);

  test('commands than there are descriptors for: the rest is refused one by one', async () => {
    const { started, outputs } = await atOnce('256:256', 40);
    const refused = started.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []));
    expect(refused).toHaveLength(8);
    for (const reason of refused) expect(reason).toMatchObject({ code: 'ERR_GUEST_EXEC', errno: 'EAGAIN' });
    expect(outputs.filter((one) => one.status === 'fulfilled')).toHaveLength(32);
  }, 60_000);

  test('a command has the limit of descriptors that it always had', async () => {
    const other = startHostAgent('1000:2000');
    const limited: Agent = new Agent(other.socket, (error) => limited.fail(error));
    await limited.ready;
    const { stdout } = await output(limited.exec(request(['sh', '-c', 'ulimit -Sn; ulimit -Hn'])));
    limited.fail(new Error('test over'));
    expect(stdout).toBe('1000\n2000\n');
  });
});

describe('children that a command leaves behind', () => {
  test('run on, whatever they write, and nothing is held for them when they have ended', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'node-optee-behind-'));
    const descriptors = () => readdirSync(`/proc/${child.pid}/fd`).length;
    const before = descriptors();
    try {
      // Far more than a pipe holds.
      const late = `sleep 0.2; head -c 1000000 /dev/zero; echo late >&2; touch ${folder}/lived`;
      expect(await run(['sh', '-c', `(${late}) & echo first`])).toMatchObject({
        status: 0,
        stdout: 'first\n',
      });
      await until(() => existsSync(join(folder, 'lived')));
      await until(() => descriptors() === before);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

test('merged outputs keep their order', async () => {
  const script = 'i=0; while [ $i -lt 300 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done';
  const { stdout, stderr } = await run(['sh', '-c', script], { merged: true });
  expect(stderr).toBe('');
  expect(stdout).toBe(Array.from({ length: 300 }, (_, i) => `out ${i}\nerr ${i}\n`).join(''));
});

describe('flow', () => {
  test('100 MiB of random bytes arrive as they were sent', async () => {
    const size = 100 * 1024 * 1024;
    const script = `d=$(mktemp -d); mkfifo $d/f; sha256sum <$d/f >&2 &
      head -c ${size} /dev/urandom | tee $d/f; wait; rm -r $d`;
    const file = agent.exec(request(['sh', '-c', script]));
    const hash = createHash('sha256');
    let received = 0;
    const [, stderr, exit] = await Promise.all([
      pipeline(file.stdout, async (source: AsyncIterable<Buffer>) => {
        for await (const chunk of source) {
          received += chunk.length;
          hash.update(chunk);
        }
      }),
      text(file.stderr),
      file.exit,
    ]);
    expect(received).toBe(size);
    expect(stderr.split(' ')[0]).toBe(hash.digest('hex'));
    expect(exit.status).toBe(0);
  });

  test('20 MiB through standard input and back', async () => {
    const bytes = Buffer.alloc(20 * 1024 * 1024, 'node-optee');
    const cat = agent.exec(request(['cat'], { stdin: true }));
    const [back] = await Promise.all([buffer(cat.stdout), pipeline(Readable.from([bytes]), cat.stdin)]);
    expect(back.equals(bytes)).toBe(true);
    expect(await cat.exit).toEqual({ status: 0, signal: null });
  });

  test('a command that does not read, and one that is not read, hold up nobody', async () => {
    const deaf = agent.exec(request(['sleep', '100'], { stdin: true }));
    const endless = agent.exec(request(['yes']));
    const written = deaf.stdin.on('error', () => {}).write(Buffer.alloc(5 * 1024 * 1024));
    expect(written).toBe(false);
    await Promise.all([deaf.started, endless.started]);
    expect(await run(['cat'], { input: 'through' })).toMatchObject({ status: 0, stdout: 'through' });
    await delay(100);
    // Its window and no more has arrived.
    expect(endless.stdout.readableLength).toBeLessThanOrEqual(256 * 1024);
    deaf.kill('SIGKILL');
    endless.kill('SIGKILL');
    endless.stdout.resume();
    expect((await deaf.exit).signal).toBe('SIGKILL');
    expect((await endless.exit).signal).toBe('SIGKILL');
  });

  test('a slow reader gets everything', async () => {
    const command = agent.exec(request(['sh', '-c', 'head -c 2000000 /dev/zero']));
    let size = 0;
    for await (const chunk of command.stdout) {
      size += (chunk as Buffer).length;
      await delay(5);
    }
    expect(size).toBe(2000000);
    expect(await command.exit).toEqual({ status: 0, signal: null });
  });

  test('an output that nobody wants any more is a broken pipe for the command', async () => {
    const yes = agent.exec(request(['yes']));
    await once(yes.stdout, 'data');
    yes.stdout.destroy();
    expect(await yes.exit).toEqual({ status: null, signal: 'SIGPIPE' });
  });

  test('an input that the command has closed is a broken pipe for the host', async () => {
    const script = 'exec <&-; echo closed; exec sleep 100';
    const command = agent.exec(request(['sh', '-c', script], { stdin: true }));
    await once(command.stdout, 'data');
    // What is written before the news of it arrives is lost, as with a pipe.
    const writing = setInterval(() => command.stdin.write('nobody there'), 10);
    const [error] = await once(command.stdin, 'error');
    clearInterval(writing);
    expect(error).toMatchObject({ code: 'EPIPE' });
    command.kill();
    expect((await command.exit).signal).toBe('SIGTERM');
  });

  test('a command that ends without having read its input', async () => {
    expect(await run(['true'], { input: Buffer.alloc(3 * 1024 * 1024) })).toMatchObject({ status: 0 });
  });
});

describe('terminal', () => {
  const terminal = { rows: 33, columns: 77 };

  async function waitFor(command: AgentProcess, pattern: RegExp): Promise<void> {
    let seen = '';
    for await (const chunk of command.stdout.iterator({ destroyOnReturn: false })) {
      seen += (chunk as Buffer).toString();
      if (pattern.test(seen)) return;
    }
    throw new Error(`${pattern} was not seen in ${JSON.stringify(seen)}`);
  }

  test('has a size that changes, and sends signals', async () => {
    const script = 'trap "stty size" WINCH; tty; stty size; while :; do sleep 0.02; done';
    const sh = agent.exec(request(['sh', '-c', script], { terminal }));
    await waitFor(sh, /\/dev\/pts\/\d+\r\n33 77\r\n/);
    sh.resize({ rows: 40, columns: 100 });
    await waitFor(sh, /40 100\r\n/);
    sh.stdin.write('\x03');
    expect(await sh.exit).toMatchObject({ signal: 'SIGINT' });
  });

  test('echoes, and ends its input with Ctrl-D or when the host does', async () => {
    const cat = agent.exec(request(['cat'], { terminal }));
    cat.stdin.write('line\r\x04');
    expect(await output(cat)).toMatchObject({ status: 0, stdout: 'line\r\nline\r\n' });
    const other = agent.exec(request(['cat'], { terminal }));
    other.stdin.end();
    expect(await output(other)).toMatchObject({ status: 0 });
  });

  test('a command that closes it and opens it again goes on', async () => {
    const script =
      'exec <&- >&- 2>&-; sleep 0.2; exec </dev/tty >/dev/tty; echo again; read line; echo "got $line"';
    const sh = agent.exec(request(['sh', '-c', script], { terminal }));
    await waitFor(sh, /again\r\n/);
    sh.stdin.write('this\r');
    expect(await output(sh)).toMatchObject({ status: 0, stdout: expect.stringContaining('got this\r\n') });
  });

  test('has a size after the end of its input, too', async () => {
    const script = 'trap "stty size </dev/tty" WINCH; cat; echo over; while :; do sleep 0.02; done';
    const sh = agent.exec(request(['sh', '-c', script], { terminal }));
    sh.stdin.end();
    await waitFor(sh, /over\r\n/);
    sh.resize({ rows: 40, columns: 100 });
    await waitFor(sh, /40 100\r\n/);
    sh.kill('SIGKILL');
    await sh.exit;
  });

  test('output right before the exit is not lost', async () => {
    for (let i = 0; i < 20; i++) {
      const { stdout } = await output(agent.exec(request(['sh', '-c', 'seq 1000'], { terminal })));
      expect(stdout.endsWith('\r\n1000\r\n')).toBe(true);
    }
  });
});

describe('an agent that does not keep to the protocol is broken off', () => {
  /** What the host says of an agent that, once there is a command, sends this. */
  async function reasonOf(...frames: Buffer[]): Promise<string> {
    const [ours, theirs] = duplexPair();
    theirs.resume();
    ours.on('end', () => ours.destroy()); // as a socket does
    theirs.write(numbers(FrameType.hello, 0, 0, 2));
    let reason: string | undefined;
    const host: Agent = new Agent(ours, (error, isBroken) => {
      reason ??= `${error.message}${isBroken ? '' : ' (the end)'}`;
      host.fail(error);
    });
    await host.ready;
    const command = host.exec(request(['true'], { stdin: true }));
    for (const frame of frames) theirs.write(frame);
    theirs.end();
    await expect(command.exit).rejects.toThrow();
    return reason ?? '';
  }
  const data = (stream: number) => [header(FrameType.data, stream, 1, 65536), Buffer.alloc(65536)];

  test('more than the window, which nobody has read', async () => {
    const five = Array.from({ length: 5 }, () => data(1)).flat();
    expect(await reasonOf(...five)).toBe("The guest's agent sent more than the window");
    // Each stream has its own.
    const each = [1, 2].flatMap((stream) => Array.from({ length: 4 }, () => data(stream)).flat());
    expect(await reasonOf(...each)).toBe('The connection to the guest ended (the end)');
  });

  test.each([
    ['credit for nothing', numbers(FrameType.credit, 0, 1, 1), /credit beyond the window/],
    ['a frame that is too large', header(FrameType.data, 1, 1, 65537), /a frame of 65537 bytes/],
    ['a frame of no known type', header(0x77, 0, 1, 0), /unknown type 119/],
    ['another protocol', numbers(FrameType.hello, 0, 0, 9), /speaks protocol 9/],
    [
      'an error with controls in it',
      Buffer.concat([header(FrameType.error, 0, 0, 5), Buffer.from('\x1b[31m')]),
      /gave up: \\x1b\[31m/,
    ],
  ])('%s', async (_name, frame, reason) => {
    expect(await reasonOf(frame)).toMatch(reason);
  });
});

describe('an agent that is lost, and one that gets nonsense', () => {
  test('commands end at once when the agent is gone', async () => {
    let failure: Error | undefined;
    const other = startHostAgent();
    const lost: Agent = new Agent(other.socket, (error) => lost.fail((failure = error)));
    await lost.ready;
    // It ends without its agent, too: its input does.
    const cat = lost.exec(request(['cat'], { stdin: true }));
    await cat.started;
    other.child.kill('SIGKILL');
    await expect(cat.exit).rejects.toMatchObject({ code: 'ERR_GUEST_GONE' });
    expect(await text(cat.stdout)).toBe('');
    expect(failure).toMatchObject({ code: 'ERR_GUEST_GONE' });
    expect(() => lost.exec(request(['true']))).toThrow(/ended/);
  });

  test('the agent ends its commands when the host goes', async () => {
    const sleep = agent.exec(request(['sh', '-c', 'echo $$; exec sleep 100']));
    const [pid] = await once(sleep.stdout, 'data');
    agent.fail(new Error('gone'));
    await once(child, 'exit');
    // Gone, or a zombie that this machine's init has yet to reap.
    const stat = () => readFile(`/proc/${Number(pid)}/stat`, 'utf8').catch(() => 'gone) Z');
    for (let i = 0; i < 600 && !(await stat()).includes(') Z'); i++) await delay(50);
    expect(await stat()).toContain(') Z');
  });

  const valid = exec(1, request(['true']));
  const patched = (offset: number, value: number) => {
    const bytes = Buffer.from(valid);
    bytes.writeUInt32LE(value, offset);
    return bytes;
  };
  test.each([
    ['random bytes', Buffer.from('GET / HTTP/1.1\r\n\r\n'), /bytes/],
    ['an unknown type', header(0x77, 0, 1, 0), /unknown type 0x77/],
    ['a huge frame', header(0x01, 0, 1, 0xffffffff), /4294967295 bytes/],
    ['DATA for standard output', header(0x01, 1, 1, 0), /stream 1/],
    ['CREDIT for standard input', numbers(0x03, 0, 1, 1), /stream 0/],
    ['a SIGNAL of no bytes', header(0x11, 0, 1, 0), /0 bytes/],
    ['an EXEC that is cut short', header(0x10, 0, 1, 0), /EXEC of 0 bytes/],
    ['an EXEC with too many groups', patched(12 + 16, 0xffffffff), /counts/],
    ['an EXEC with too many arguments', patched(12 + 20, 0xffffffff), /counts/],
    ['an EXEC with no arguments', patched(12 + 20, 0), /counts/],
    ['an EXEC with fewer strings than it says', patched(12 + 24, 40), /strings/],
    ['an EXEC with more strings than it says', patched(12 + 24, 0), /strings/],
  ])('%s: it says what is wrong and ends', async (_name, bytes, message) => {
    const other = startHostAgent();
    let failure: Error | undefined;
    const bad: Agent = new Agent(other.socket, (error) => bad.fail((failure = error)));
    await bad.ready;
    other.socket.write(bytes);
    const [[status]] = await Promise.all([once(other.child, 'exit'), once(other.socket, 'close')]);
    expect(status).toBe(0);
    expect(failure?.message).toMatch(message);
  });

  test.each([
    [
      'DATA beyond the window',
      (id: number) => Array.from({ length: 9 }, () => [header(1, 0, id, 65536), Buffer.alloc(65536)]).flat(),
      /credit/,
    ],
    ['CREDIT beyond the window', (id: number) => [numbers(3, 1, id, 1)], /window/],
    ['SIGNAL 0', (id: number) => [numbers(0x11, 0, id, 0)], /SIGNAL 0/],
    ['EXEC of a command that runs', (id: number) => [exec(id, request(['true']))], /runs/],
    ['DATA after EOF', (id: number) => [header(2, 0, id, 0), header(1, 0, id, 0)], /after EOF/],
  ])('%s', async (_name, frames, message) => {
    const other = startHostAgent();
    let failure: Error | undefined;
    const bad: Agent = new Agent(other.socket, (error) => bad.fail((failure = error)));
    await bad.ready;
    await bad.exec(request(['sleep', '100'], { stdin: true })).started;
    for (const frame of frames(1)) other.socket.write(frame);
    await Promise.all([once(other.child, 'exit'), once(other.socket, 'close')]);
    expect(failure?.message).toMatch(message);
  });

  test('frames for commands that are over are nothing', async () => {
    for (const frame of [
      header(1, 0, 99, 0),
      header(2, 0, 99, 0),
      numbers(3, 1, 99, 5),
      header(4, 2, 99, 0),
      numbers(0x11, 0, 99, 9),
      numbers(0x12, 0, 99, 0),
    ])
      socket.write(frame);
    expect(await run(['echo', 'fine'])).toMatchObject({ stdout: 'fine\n' });
  });
});
