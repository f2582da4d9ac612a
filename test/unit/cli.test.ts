import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';

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
    [[TA, '1', '--login', 'me'], 2, /--login must be public, user, group:GID or application, not me/],
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

test('node-optee list --json', async () => {
  const { stdout } = await nodeOptee('list', '--json');
  const { devices, heaps } = JSON.parse(stdout) as { devices: unknown[]; heaps: unknown[] };
  expect([devices, heaps].every(Array.isArray)).toBe(true);
});
