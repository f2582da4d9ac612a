import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { DmaHeap, TeeContext } from 'node-optee';
import { canBeUsed, deviceLine } from '#lib/commands/list';
import { devicePaths, openError, versionOf } from '#lib/client/devices';

const CLI = join(__dirname, '../../../dist/cli.js');
const TA = '346e01a1-3d71-4feb-894b-ae252d064bde';

function nodeOptee(...args: string[]): Promise<{ status: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [CLI, ...args], (_, stdout, stderr) =>
      resolve({ status: child.exitCode, stdout, stderr }),
    );
  });
}

describe('node-optee invoke says what is wrong with its words', () => {
  test.each([
    [[], 2, /^Usage: node-optee invoke/],
    [[TA, 'x'], 2, /'x' is not a number/],
    [[TA, '1', 'what:1'], 2, /parameter what:1: there is no such kind/],
    [[TA, '1', '--login', 'me'], 2, /--login must be public, user, .* or group-application:GID, not me/],
    [[TA, '1', '--timeout', 'soon'], 2, /'soon' is not a number/],
    [[TA, '1', '--what'], 2, /^node-optee: Unknown option '--what'/],
    [['x', '1'], 2, /^node-optee: uuid must be/],
    [[TA, '1', '--device', '/dev/teepriv0'], 2, /must not be a teepriv device/],
    [[TA, '1', '--device', '/dev/tee77'], 1, /ENOENT: .*'\/dev\/tee77': there is no such TEE device/],
  ])('%j', async (args, status, stderr) => {
    const found = await nodeOptee('invoke', ...args);
    expect(found).toMatchObject({ status, stdout: '' });
    expect(found.stderr).toMatch(stderr);
  });

  test('--help', async () => {
    const { status, stdout } = await nodeOptee('invoke', '--help');
    expect(status).toBe(0);
    expect(stdout).toContain('value-inout:A[,B]');
  });
});

/** Of this host: most have none. What `list` says of one is a device test. */
const devices = devicePaths();

test('node-optee list says where there is no TEE, and why that can be', async () => {
  const { status, stdout, stderr } = await nodeOptee('list');
  expect(stdout.match(/^\/dev\/tee\d+/gm) ?? []).toEqual(devices);
  if (devices.length > 0) return;
  expect(status).toBe(1);
  expect(stderr).toMatch(/^there is no such TEE device: .*CONFIG_OPTEE/);
});

describe('a device in node-optee list', () => {
  const tee = (implementationId: number, generalCapabilities: number) => {
    const data = {
      context: 1 as never,
      implementationId,
      implementationCapabilities: 0,
      generalCapabilities,
    };
    return { path: '/dev/tee1', version: versionOf('/dev/tee1', data) };
  };
  const error = openError('/dev/tee1', { operation: 'open', syscall: 'open', errno: 24 });

  test.each([
    ['OP-TEE', tee(1, 0xd), true, '/dev/tee1: optee, globalPlatform registeredMemory nullMemref'],
    [
      'one of another protocol',
      tee(4, 0x10),
      false,
      '/dev/tee1: qtee, objects; it cannot be used: it does not speak GlobalPlatform',
    ],
    ['one that is refused', { path: '/dev/tee1', error }, false, `/dev/tee1: ${error.message}`],
  ])('%s', (_, device, usable, line) => {
    expect(canBeUsed(device)).toBe(usable);
    expect(deviceLine(device)).toBe(line);
  });
});

test('node-optee list --json', async () => {
  const { status, stdout, stderr } = await nodeOptee('list', '--json');
  const found = JSON.parse(stdout) as { devices: { path: string }[]; heaps: string[] };
  expect(found).toEqual({ devices: expect.any(Array), heaps: DmaHeap.list() });
  expect(found.devices.map(({ path }) => path)).toEqual(devices);
  expect(stderr).toBe('');
  if (devices.length === 0) expect(status).toBe(1);
});

test('without a TEE opening one is refused, with the reason', () => {
  if (devices.length > 0) return;
  expect(() => TeeContext.open()).toThrow(
    expect.objectContaining({
      name: 'TeeSystemError',
      code: 'ENOENT',
      path: '/dev/tee0',
      message: expect.stringContaining('CONFIG_OPTEE'),
    }),
  );
});
