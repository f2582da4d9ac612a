import { expect, test } from '@jest/globals';
import { parseQemuArguments } from '#lib/commands/qemu';
import { cleanCache, prepareDevKit, prepareMachine, prepareNodeModules } from '#lib/qemu/build/index';

test('everything after -- is the command, options included', () => {
  const options = parseQemuArguments(['--node', '22', '--', 'sh', '-c', 'echo --node', '--', '--machine']);
  expect(options.command).toEqual(['sh', '-c', 'echo --node', '--', '--machine']);
  expect(options).toMatchObject({ node: 22, mode: 'run', share: process.cwd(), machine: undefined });
});

test.each([
  [['sh', '-c', 'exit 3'], { command: ['sh', '-c', 'exit 3'] }],
  [['--node', '22', 'node', '--version'], { node: 22, command: ['node', '--version'] }],
  [['--node=22', '--verbose', 'ls', '--', '-l'], { node: 22, verbose: true, command: ['ls', '--', '-l'] }],
  [['--', '--verbose'], { verbose: false, command: ['--verbose'] }],
  [['--user', 'sh', 'sh', '-h'], { user: 'sh', mode: 'run', command: ['sh', '-h'] }],
  [['-h', 'ls'], { mode: 'help', command: ['ls'] }],
  [['--ta', 'a', '--', 'ls', '--ta', 'b'], { tas: ['a'], command: ['ls', '--ta', 'b'] }],
])('%j: from the first word that is no option all is the command', (words, expected) => {
  expect(parseQemuArguments(words)).toMatchObject(expected);
});

test('all options', () => {
  const words =
    '--machine dmabuf --node 26 --share /srv --ta a --ta b --storage s --env A=1 --env B=x=y --user app --node-modules --memory 2048 --cpus 4 --timeout 1.5 --verbose';
  expect(parseQemuArguments(words.split(' '))).toEqual({
    machine: 'dmabuf',
    machines: ['dmabuf'],
    node: 26,
    nodes: [26],
    file: undefined,
    share: '/srv',
    tas: ['a', 'b'],
    storage: 's',
    env: { A: '1', B: 'x=y' },
    user: 'app',
    nodeModules: true,
    memory: 2048,
    cpus: 4,
    timeout: 1500,
    verbose: true,
    mode: 'run',
    rebuild: false,
    install: false,
    command: [],
  });
});

test.each([
  [['--export', 'f'], { mode: 'export', file: 'f', machines: [], nodes: [24] }],
  [['--import=f'], { mode: 'import', file: 'f' }],
  [
    ['--cache-key', '--machine', 'static,dynamic', '--machine', 'static'],
    { machines: ['static', 'dynamic'] },
  ],
  [['--build', '--node', '22,26', '--node=24'], { nodes: [22, 26, 24], mode: 'build' }],
])('%j: machines and versions can be several', (words, expected) => {
  expect(parseQemuArguments(words)).toMatchObject(expected);
});

test.each([
  [['--machine', 'fast'], '--machine must be one of dynamic, static, dmabuf'],
  [['--node', '18'], '--node must be one of 20, 22, 24, 26'],
  [['--timeout', 'soon'], '--timeout must be a number'],
  [['--timeout', '0'], '--timeout must be more than 0'],
  [['--timeout', '2147484'], '--timeout must be at most'],
  [['--memory', '1G'], '--memory must be a number'],
  [['--env', 'A'], '--env must be NAME=VALUE'],
  [['--env', '=x'], '--env must be NAME=VALUE'],
  [['--share'], "'--share <value>' argument missing"],
  [['--verbose=yes', 'ls'], "'--verbose' does not take an argument"],
  [['--build', 'ls'], '--build runs no command'],
  [['--build', '--', 'ls'], '--build runs no command'],
  [['--nonsense'], '--nonsense'],
  [
    ['--machine', 'dynamic,fast', '--build'],
    "--machine must be one of dynamic, static, dmabuf, but is 'fast'",
  ],
  [['--machine', 'dynamic,', '--build'], "but is ''"],
  [['--machine', 'dynamic,static', 'ls'], '--machine must be one here, but is dynamic, static'],
  [['--node', '22', '--node', '24', '--import', 'f'], '--node must be one here, but is 22, 24'],
  [['--export', 'f', 'ls'], '--export runs no command'],
  [['--cache-key', 'ls'], '--cache-key runs no command'],
  [['--export', 'f', '--import', 'g'], '--export and --import do not go together'],
  [['--clean', '--build'], '--build and --clean do not go together'],
])('%j is refused', (words, message) => {
  expect(() => parseQemuArguments(words)).toThrow(message);
});

test.each([
  [{ memory: 256 }, 'memory must be a whole number from 576'],
  [{ memory: 768, machine: 'static' as const }, 'memory must be a whole number from 1024'],
  [{ cpus: 0 }, 'cpus must be a whole number from 1 to 4'],
  [{ machine: 'other' as never }, 'machine must be one of'],
  [{ node: 18 as never }, 'node must be one of'],
])('prepareMachine(%j) is refused before anything is built', async (options, message) => {
  await expect(prepareMachine(options)).rejects.toMatchObject({
    message: expect.stringContaining(message),
    code: expect.stringMatching(/^ERR_(INVALID_ARG_VALUE|OUT_OF_RANGE)$/),
  });
});

test.each<[() => Promise<unknown>, string]>([
  [() => prepareMachine({ name: 'static' } as never), 'options has no name; there are machine, node'],
  [() => prepareMachine({ memory: '1G' as never }), "memory must be a number, not string '1G'"],
  [() => prepareDevKit({ machine: 'static' } as never), 'options has no machine; there are progress, signal'],
  [() => prepareNodeModules(undefined as never), 'share must be a string, not undefined'],
  [() => prepareNodeModules('/', { node: 24 } as never), 'options has no node; there are progress, signal'],
  [() => cleanCache({ force: true } as never), 'options has no force; there are progress, signal'],
])('%s: the option is named', async (call, message) => {
  await expect(call()).rejects.toThrow(message);
});
