// One token, two clients: this package, and OpenSC's pkcs11-tool over libckteec. What one makes the other finds and uses,
// also after a reboot.
import {
  createCipheriv,
  createHmac,
  createPublicKey,
  generateKeyPairSync,
  verify,
  X509Certificate,
} from 'node:crypto';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { Guest, prepareMachine } from 'node-optee/qemu';
import type { Machine } from 'node-optee/qemu';
import { BuildLog } from '#lib/qemu/build/command';
import { CERTIFICATE } from '../support/certificate.js';
import { unpackDebian } from '../support/debian.js';
import { BUILD_TIMEOUT, CLI, newFolder } from '../support/guest.js';
import { DATA, IV, PIN, SECRET, TEXT } from '../support/interoperability.js';

/** Most of it are starts of programs, and keys: some 120 of both. */
jest.setTimeout(BUILD_TIMEOUT);

const ROOT = dirname(dirname(CLI));
const OPENSC = join(ROOT, 'build/opensc');
/** pkcs11-tool and the libraries that the guest does not have. */
const PACKAGES = [
  'opensc',
  'opensc-pkcs11',
  'libeac3',
  'libglib2.0-0t64',
  'libffi8',
  'libpcre2-8-0',
  'libmount1',
  'libblkid1',
  'libselinux1',
  'libsystemd0',
];

let machine: Machine;
let storage: string;
let guest: Guest;
beforeAll(async () => {
  machine = await prepareMachine();
  storage = newFolder();
  const log = new BuildLog(join(newFolder(), 'log'));
  try {
    await unpackDebian(PACKAGES, OPENSC, log);
  } finally {
    log.close();
  }
});

/** Our program in the guest. */
async function node(...args: string[]): Promise<unknown> {
  const program = ['node', 'build/test/device/children/interoperability.js'];
  const { status, stdout, stderr } = await guest.run([...program, ...args]);
  expect([status, stderr.toString()]).toEqual([0, '']);
  return JSON.parse(stdout.toString());
}

interface ToolOptions {
  readonly token?: string;
  readonly input?: Buffer | undefined;
  readonly env?: Record<string, string>;
}

/** pkcs11-tool in the guest. Its --input-file is `input`. @returns what it wrote to its --output-file */
async function tool(args: string[], { token = TOKEN, input, env = {} }: ToolOptions = {}): Promise<Buffer> {
  const program = [`${OPENSC}/usr/bin/pkcs11-tool`, '--module', 'libckteec.so.0', '--token-label', token];
  const files = ['--input-file', '/tmp/in', '--output-file', '/tmp/out'];
  const script = 'cat > /tmp/in; rm -f /tmp/out; "$@" >&2 && { [ ! -e /tmp/out ] || cat /tmp/out; }';
  const run = await guest.run(['sh', '-c', script, 'sh', ...program, ...args, ...files], {
    stdin: input ?? '',
    env: { LD_LIBRARY_PATH: `${OPENSC}/usr/lib/aarch64-linux-gnu`, ...env },
  });
  if (run.status !== 0) throw new Error(`pkcs11-tool ${args.join(' ')}: ${run.stderr.toString()}`);
  return run.stdout;
}

const TOKEN = 'both';
/** A token whose user is a user of Linux. */
const IDENTITY = { token: 'identity', env: { CKTEEC_LOGIN_TYPE: 'user' } };
const LOGIN = ['--login', '--pin', PIN];

/** An object as our program tells it. */
interface Used {
  readonly kind: string;
  readonly id: string;
  readonly label: string;
  readonly publicKey: string;
  readonly signature: string;
  readonly ciphertext: string;
  readonly mac: string;
  readonly raw: string;
  readonly data: string;
}

const der = (pem: string): Buffer => createPublicKey(pem).export({ type: 'spki', format: 'der' });
const isRight = (publicKey: string, signature: Buffer): boolean => {
  const key = createPublicKey(publicKey);
  return verify(key.asymmetricKeyType === 'ed25519' ? null : 'sha256', TEXT, key, signature);
};
function encrypted(key: Buffer): string {
  const cipher = createCipheriv('aes-256-cbc', key, IV).setAutoPadding(false);
  return Buffer.concat([cipher.update(TEXT), cipher.final()]).toString('hex');
}
const mac = createHmac('sha256', SECRET).update(TEXT).digest('hex');
const certificate = new X509Certificate(CERTIFICATE).raw;

/** Whose public keys they are, by label. */
const publicKeys: Record<string, string> = {};
const imported = generateKeyPairSync('ec', { namedCurve: 'P-256' });

/** One object of each kind that pkcs11-tool can make. */
async function makeByTool(): Promise<void> {
  const make = (id: string, label: string, args: string[], input?: Buffer): Promise<Buffer> =>
    tool([...LOGIN, ...args, '--id', id, '--label', label], { input });
  const write = (type: string): string[] => ['--write-object', '/tmp/in', '--type', type];
  for (const [i, [label, type]] of [
    ['tool P-256', 'EC:prime256v1'],
    ['tool P-384', 'EC:secp384r1'],
    ['tool P-521', 'EC:secp521r1'],
    ['tool Ed25519', 'EC:edwards25519'],
    ['tool RSA', 'rsa:2048'],
  ].entries()) {
    await make(`b${i}`, label, ['--keypairgen', '--key-type', type]);
  }
  await make(
    'b5',
    'tool import',
    [...write('privkey'), '--usage-sign'],
    imported.privateKey.export({ type: 'pkcs8', format: 'der' }),
  );
  await make(
    'b5',
    'tool import',
    write('pubkey'),
    imported.publicKey.export({ type: 'spki', format: 'der' }),
  );
  await make('b6', 'tool AES', ['--keygen', '--key-type', 'AES:32', '--sensitive']);
  await make('b7', 'tool AES import', [...write('secrkey'), '--key-type', 'AES:32'], SECRET);
  await make('b8', 'tool HMAC', [...write('secrkey'), '--key-type', 'GENERIC:32', '--usage-sign'], SECRET);
  await make('b9', 'tool certificate', write('cert'), certificate);
  await tool(
    [...LOGIN, ...write('data'), '--label', 'tool data', '--application-label', 'both', '--private'],
    { input: DATA },
  );
}

afterAll(() => guest.close());

describe.each(['before', 'after'])('%s a reboot', (when) => {
  let used: Used[];
  const usedOf = (kind: string, label: string): Used => {
    const found = used.filter((one) => one.kind === kind && one.label === label);
    expect(found).toHaveLength(1);
    return found[0];
  };

  beforeAll(async () => {
    if (when === 'after') await guest.close();
    guest = await Guest.boot({ machine, share: ROOT, storage });
    if (when === 'before') {
      await node('init', TOKEN);
      Object.assign(publicKeys, await node('make', TOKEN));
      await makeByTool();
      await node('init-identity', IDENTITY.token);
      const pair = ['--keypairgen', '--key-type', 'EC:prime256v1', '--id', 'b0', '--label', 'tool identity'];
      await tool(['--login', ...pair], IDENTITY);
    }
    used = (await node('use', TOKEN)) as Used[];
  });

  test.each(['P-256', 'P-384', 'P-521', 'Ed25519', 'RSA', 'import'])('a key pair, %s', async (name) => {
    for (const maker of ['node', 'tool']) {
      const label = `${maker} ${name}`;
      const { id, publicKey, signature } = usedOf('private key', label);
      expect(usedOf('public key', label)).toMatchObject({ id, publicKey });
      if (maker === 'node') expect(publicKey).toBe(publicKeys[label]);
      else if (name === 'import')
        expect(der(publicKey)).toEqual(imported.publicKey.export({ type: 'spki', format: 'der' }));
      expect(isRight(publicKey, Buffer.from(signature, 'hex'))).toBe(true);

      // (The TA has the bytes of an Ed25519 key as they are. pkcs11-tool reads them from an OCTET STRING only.)
      if (name !== 'Ed25519') {
        expect(await tool(['--read-object', '--type', 'pubkey', '--id', id])).toEqual(der(publicKey));
      }
      const how = { RSA: ['SHA256-RSA-PKCS'], Ed25519: ['EDDSA'] }[name] ?? [
        'ECDSA-SHA256',
        '--signature-format',
        'openssl',
      ];
      const theirs = await tool([...LOGIN, '--sign', '--id', id, '--mechanism', ...how], { input: TEXT });
      expect(isRight(publicKey, theirs)).toBe(true);
    }
  });

  test.each(['AES', 'AES import'])('a secret key, %s', async (name) => {
    for (const maker of ['node', 'tool']) {
      const { id, ciphertext } = usedOf('AES', `${maker} ${name}`);
      if (name === 'AES import') expect(ciphertext).toBe(encrypted(SECRET));
      const how = ['--mechanism', 'AES-CBC', '--iv', IV.toString('hex'), '--id', id];
      expect(await tool([...LOGIN, '--decrypt', ...how], { input: Buffer.from(ciphertext, 'hex') })).toEqual(
        TEXT,
      );
      expect((await tool([...LOGIN, '--encrypt', ...how], { input: TEXT })).toString('hex')).toBe(ciphertext);
    }
  });

  test('a generic secret', async () => {
    for (const maker of ['node', 'tool']) {
      const found = usedOf('HMAC', `${maker} HMAC`);
      expect(found.mac).toBe(mac);
      const how = ['--mechanism', 'SHA256-HMAC', '--id', found.id];
      expect((await tool([...LOGIN, '--sign', ...how], { input: TEXT })).toString('hex')).toBe(mac);
    }
  });

  test('a certificate', async () => {
    for (const maker of ['node', 'tool']) {
      const { id, raw } = usedOf('certificate', `${maker} certificate`);
      expect(raw).toBe(certificate.toString('hex'));
      expect(await tool(['--read-object', '--type', 'cert', '--id', id])).toEqual(certificate);
    }
  });

  test('data', async () => {
    for (const maker of ['node', 'tool']) {
      const label = `${maker} data`;
      expect(usedOf('data', label).data).toBe(DATA.toString('hex'));
      expect(await tool([...LOGIN, '--read-object', '--type', 'data', '--label', label])).toEqual(DATA);
    }
  });

  test('keys of a token without a PIN', async () => {
    const keys = (await node('use', IDENTITY.token)) as Used[];
    for (const [id, label] of [
      ['a0', 'node identity'],
      ['b0', 'tool identity'],
    ] as const) {
      const key = keys.find((one) => one.kind === 'private key' && one.id === id);
      expect(key).toMatchObject({ label });
      const { publicKey, signature } = key as Used;
      expect(isRight(publicKey, Buffer.from(signature, 'hex'))).toBe(true);
      const how = ['--mechanism', 'ECDSA-SHA256', '--signature-format', 'openssl'];
      const theirs = await tool(['--login', '--sign', '--id', id, ...how], { ...IDENTITY, input: TEXT });
      expect(isRight(publicKey, theirs)).toBe(true);
    }
  });
});
