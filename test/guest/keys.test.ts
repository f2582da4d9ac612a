/** Keys as somebody has them who sits at a board: PINs typed on a terminal, and the request for a certificate. */
import { spawnSync } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { dirname } from 'node:path';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { Guest } from 'node-optee/qemu';
import { BUILD_TIMEOUT, GUEST_TIMEOUT } from '../support/guest.js';
import { until } from '../support/until.js';

// Each command starts Node.js from the share.
jest.setTimeout(5 * GUEST_TIMEOUT);

let guest: Guest;
beforeAll(async () => {
  guest = await Guest.boot({ share: dirname(require.resolve('node-optee/package.json')) });
}, BUILD_TIMEOUT);
afterAll(() => guest?.close());

/**
 * Runs `node-optee token` on a terminal.
 * @param answers what is asked, and what is typed then
 * @returns its status, and all that the terminal has shown
 */
async function onTerminal(
  args: readonly string[],
  answers: readonly (readonly [asked: string, typed: string])[],
): Promise<{ status: number | null; shown: string }> {
  const terminal = { rows: 24, columns: 80 };
  const command = guest.spawn(['node', 'dist/cli.js', 'token', ...args], { terminal });
  let shown = '';
  command.stdout.on('data', (bytes: Buffer) => (shown += bytes.toString()));
  command.stderr.resume();
  for (const [asked, typed] of answers) {
    const from = shown.length;
    await until(() => shown.slice(from).includes(asked));
    command.stdin.write(typed);
  }
  const { status } = await command.exit;
  return { status, shown };
}

test('PINs are typed on a terminal, which does not show them', async () => {
  const so: [string, string] = ['PIN of the security officer, to be: ', 'officer-1234\r'];
  const args = ['init', '--slot', '0', '--label', 'gateway'];
  const wrong = await onTerminal(args, [so, ['the same again: ', 'officer-1235\r']]);
  expect(wrong.shown).toContain('the two PINs are not the same');
  expect(wrong.status).toBe(1);
  const made = await onTerminal(args, [
    so,
    ['the same again: ', 'officer-1234\r'],
    ['PIN of the user, to be: ', 'usx\x7fer-1234\r'], // a mistake, taken back
    ['the same again: ', 'user-1234\r'],
  ]);
  expect(made).toMatchObject({ status: 0, shown: expect.stringMatching(/slot 0: gateway\r\n$/) });
  const key = await onTerminal(['keygen', 'P-256', '--id', '01'], [['PIN of the user: ', 'user-1234\r']]);
  const [pem = ''] = /-----BEGIN PUBLIC KEY-----[^]*-----END PUBLIC KEY-----/.exec(key.shown) ?? [];
  expect(createPublicKey(pem).asymmetricKeyType).toBe('ec');
  const interrupted = await onTerminal(['objects'], [['PIN of the user: ', '\x03']]);
  expect(interrupted).toMatchObject({ status: 1, shown: expect.stringContaining('interrupted') });
  for (const { shown } of [wrong, made, key, interrupted]) expect(shown).not.toMatch(/1234|1235/);
  // Nothing of it was a wrong PIN.
  const { stdout } = await guest.run(['node', 'dist/cli.js', 'token', 'list', '--json']);
  expect((JSON.parse(stdout.toString()) as object[])[0]).toMatchObject({
    label: 'gateway',
    userPinCountLow: false,
    soPinCountLow: false,
  });
});

test('OpenSSL reads the certificate request of examples/keys.mjs, and finds its signature right', async () => {
  const { stdout: request, status } = await guest.run(['node', 'examples/keys.mjs']);
  expect(status).toBe(0);
  const openssl = spawnSync('openssl', ['req', '-verify', '-noout', '-text'], { input: request });
  const said = openssl.stdout.toString() + openssl.stderr.toString();
  for (const part of [
    /^Certificate request self-signature verify OK$|^verify OK$/m,
    /Subject: CN ?= ?gateway-0001, O ?= ?Example/,
    /ASN1 OID: prime256v1/,
    /DNS:gateway-0001\.example/,
  ]) {
    expect(said).toMatch(part);
  }
});
