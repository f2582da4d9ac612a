/** The package as a new user has it: README's first example, and the walk from an empty folder to a TA of one's own. */
import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { prepareDevKit, prepareMachine } from 'node-optee/qemu';
import { BUILD_TIMEOUT, GUEST_TIMEOUT, processesWith } from '../support/guest.js';
import { installPacked, type Packed } from '../support/packed.js';
import { until } from '../support/until.js';

const ROOT = dirname(require.resolve('node-optee/package.json'));

let packed: Packed;
let watching: Watching | undefined;
beforeAll(async () => {
  await prepareMachine();
  await prepareDevKit();
  packed = installPacked();
}, BUILD_TIMEOUT);
afterAll(() => {
  watching?.kill('SIGKILL');
  packed?.remove();
});

test(
  "README's first example, word for word",
  () => {
    const readme = readFileSync(join(ROOT, 'README.md'), 'utf8');
    const [, code = ''] = /^```js\n(.*?)^```$/ms.exec(readme) ?? [];
    const [command = ''] = /^npx node-optee qemu .*hello.*$/m.exec(readme) ?? [];
    writeFileSync(join(packed.app, 'hello.mjs'), code);
    const { status, stdout } = spawnSync('sh', ['-c', command], { cwd: packed.app, encoding: 'utf8' });
    expect({ status, stdout }).toEqual({ status: 0, stdout: '42\n' });
  },
  GUEST_TIMEOUT,
);

/** Changes a file of the project. */
function edit(path: string, from: string, to: string): void {
  const text = readFileSync(path, 'utf8');
  expect(text).toContain(from);
  writeFileSync(path, text.replace(from, to));
}

/** The code of the second chapter of the guide: of the description, of the TA and of a test. */
function commandOfGuide(): string[] {
  const guide = readFileSync(join(ROOT, 'docs/getting-started.md'), 'utf8');
  const [, chapter = ''] = /^## 2\. A command$(.*?)^## /ms.exec(guide) ?? [];
  const blocks = [...chapter.matchAll(/^```(?:js|c)\n(.*?)^```$/gms)].map(([, code = '']) => code);
  expect(blocks).toHaveLength(3);
  return blocks;
}

/** How many tests passed and failed, as node:test reports. */
const counts = (output: string): number[] =>
  ['pass', 'fail'].map((what) => Number(new RegExp(`^\\S+ ${what} (\\d+)$`, 'm').exec(output)?.[1]));

/** `npm test -- --watch`, as from a terminal of its own. */
class Watching {
  readonly #child: ChildProcess;
  readonly ended: Promise<unknown>;
  #output = '';

  constructor(project: string) {
    const stdio = ['ignore', 'pipe', 'pipe'] as const;
    this.#child = spawn('npm', ['test', '--', '--watch'], {
      cwd: project,
      stdio: [...stdio],
      detached: true,
    });
    this.ended = new Promise((resolve) => this.#child.once('close', resolve));
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => (this.#output += text));
    }
  }

  /** What was printed until the end of a line that matches, and since the last time. */
  async until(pattern: RegExp): Promise<string> {
    for (;;) {
      const found = pattern.exec(this.#output);
      if (found) {
        const end = found.index + found[0].length;
        const printed = this.#output.slice(0, end);
        this.#output = this.#output.slice(end);
        return printed;
      }
      if (this.#child.exitCode !== null || this.#child.signalCode !== null)
        throw new Error(`It ended:\n${this.#output}`);
      await delay(50);
    }
  }

  /** The next report of the tests. */
  report(): Promise<string> {
    return this.until(/^\S+ duration_ms .*\n/m);
  }

  /** To all its processes, as a terminal does. */
  kill(signal: NodeJS.Signals): void {
    const { pid, exitCode, signalCode } = this.#child;
    if (pid !== undefined && exitCode === null && signalCode === null) process.kill(-pid, signal);
  }
}

test(
  'new, install, test; and with --watch again after each change, in the same boot',
  async () => {
    execFileSync('npx', ['--no-install', 'node-optee', 'new', 'notary'], { cwd: packed.app });
    const project = join(packed.app, 'notary');
    const install = ['install', '--offline', '--no-audit', packed.tarball];
    execFileSync('npm', install, { cwd: project, stdio: 'pipe' });
    const { status, stdout } = spawnSync('npm', ['test'], { cwd: project, encoding: 'utf8' });
    expect({ status, counts: counts(stdout) }).toEqual({ status: 0, counts: [4, 0] });
    const started = spawnSync('npm', ['start'], { cwd: project, encoding: 'utf8' });
    expect(started.stdout).toContain('Hello, world! The answer is 42.\n');

    // Which boot it is.
    writeFileSync(
      join(project, 'test/boot.test.mjs'),
      `import { readFileSync } from 'node:fs';
       console.log('boot', readFileSync('/proc/sys/kernel/random/boot_id', 'utf8'));\n`,
    );
    // What does not compile is a sentence, and the next change is awaited.
    edit(join(project, 'ta/notary.c'), '*sum = a + b;', '*sum = a + b');
    watching = new Watching(project);
    await watching.until(/notary\.c:\d+.*error.*\n/);
    edit(join(project, 'ta/notary.c'), '*sum = a + b', '*sum = a + b;');
    const first = await watching.report();
    expect(counts(first)).toEqual([5, 0]);

    edit(join(project, 'ta/notary.c'), '*sum = a + b;', '*sum = a - b;');
    const second = await watching.report();
    expect(counts(second)).toEqual([4, 1]);

    // A command, as docs/getting-started.md has it: in the description, in C, in a test.
    const [described, c, tested] = commandOfGuide();
    edit(join(project, 'ta/notary.c'), '*sum = a - b;', '*sum = a + b;');
    edit(join(project, 'notary.ta.mjs'), '    add: {', `${described}    add: {`);
    await watching.until(/^node-optee ta: .*notary_digest.*\n/m);
    appendFileSync(join(project, 'ta/notary.c'), c);
    appendFileSync(join(project, 'test/notary.test.mjs'), tested);
    let third: string;
    do third = await watching.report();
    while (!third.includes('digest'));
    expect(counts(third)).toEqual([6, 0]);

    const boots = [first, second, third].map((report) => /^boot (\S+)$/m.exec(report)?.[1]);
    expect(boots[0]).toMatch(/^[-0-9a-f]{36}$/);
    expect(boots).toEqual([boots[0], boots[0], boots[0]]);

    watching.kill('SIGINT');
    await watching.ended;
    await until(() => processesWith(project).length === 0);
  },
  BUILD_TIMEOUT,
);
