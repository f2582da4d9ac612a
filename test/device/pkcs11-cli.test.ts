/** `node-optee token`, as a user runs it. */
import { execFile, spawnSync } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Pkcs11 } from 'node-optee/pkcs11';
import { CERTIFICATE } from '../support/certificate.js';

const CLI = join(__dirname, '../../../dist/cli.js');
const folder = mkdtempSync(join(tmpdir(), 'token-'));
const file = (name: string, content: string): string => {
  const path = join(folder, name);
  writeFileSync(path, content, { mode: 0o600 });
  return path;
};
const soPin = file('so', 'security officer\n');
const pin = file('pin', 'user-1234\nand another line');
const certificate = file('certificate.pem', CERTIFICATE);
const token = (...args: string[]): Promise<{ stdout: string; stderr: string }> =>
  promisify(execFile)(process.execPath, [CLI, 'token', ...args]);

beforeAll(async () => {
  const { stdout } = await token(
    'init',
    '--slot',
    '0',
    '--label',
    'gateway',
    '--so-pin-file',
    soPin,
    '--pin-file',
    pin,
  );
  expect(stdout).toBe('slot 0: gateway\n');
});
afterAll(() => rmSync(folder, { recursive: true }));

test('from an empty token to a certificate', async () => {
  expect((await token('list')).stdout).toMatch(/^slot 0: gateway, serial number 0000000000000000\n/);
  const made = await token(
    'keygen',
    'P-256',
    '--token',
    'gateway',
    '--id',
    'b1',
    '--label',
    'tls',
    '--pin-file',
    pin,
  );
  expect(made.stderr).toBe("private key with id b1 and label 'tls'\n");
  const publicKey = createPublicKey(made.stdout);
  await token('import-cert', certificate, '--slot', '0', '--id', 'b1', '--label', 'tls', '--pin-file', pin);
  const { stdout } = await token('objects', '--slot', '0', '--pin-file', pin);
  expect(stdout.split('\n').sort()).toEqual([
    '',
    "certificate with id b1 and label 'tls' (X.509)",
    "private key with id b1 and label 'tls' (ec prime256v1)",
    "public key with id b1 and label 'tls' (ec prime256v1)",
  ]);
  const everybody = JSON.parse(
    (await token('objects', '--slot', '0', '--public', '--json')).stdout,
  ) as object[];
  expect(everybody).toHaveLength(2);
  // The PIN from a descriptor.
  const removed = spawnSync(
    process.execPath,
    [CLI, 'token', 'delete', '--slot', '0', '--id', 'b1', '--pin-fd', '3'],
    {
      stdio: ['ignore', 'pipe', 'pipe', openSync(pin, 'r')],
    },
  );
  expect(removed.stdout.toString().match(/removed/g)).toHaveLength(3);
  expect(publicKey.asymmetricKeyType).toBe('ec');
  const pkcs11 = await Pkcs11.open();
  const login = await (await pkcs11.token({ slot: 0 })).login({ pin: 'user-1234' });
  expect(await login.objects()).toEqual([]);
  await pkcs11.close();
});

test('what is wrong is said, and no PIN is shown', async () => {
  for (const [args, message] of [
    [['keygen', 'P-256', '--slot', '0'], /there is not: use --pin-file/],
    [['keygen', 'dsa', '--slot', '0', '--pin-file', pin], /no type of key 'dsa'/],
    [['objects', '--slot', '0', '--pin-file', soPin], /CKR_PIN_INCORRECT/],
    [['objects', '--slot', '0', '--pin', 'user-1234'], /--pin/],
    [['delete', '--slot', '0', '--pin-file', pin], /needs --id/],
    [['delete', '--slot', '0', '--id', 'ff', '--pin-file', pin], /no such object/],
    [['nothing'], /^Usage/],
  ] as const) {
    const error = await token(...args).then(
      () => undefined,
      (thrown: unknown) => thrown as { code: number; stderr: string },
    );
    expect(error?.stderr).toMatch(message);
    expect(error?.stderr).not.toMatch(/security officer\b.*security officer|user-1234/);
    expect(error?.code).toBeGreaterThan(0);
  }
  await token('objects', '--slot', '0', '--pin-file', pin);
});
