import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { parseArgs, type ParseArgsConfig } from 'node:util';
import { TeeContext } from '../client/context.js';
import { Pkcs11 } from '../pkcs11/pkcs11.js';
import type { Token, TokenInfo } from '../pkcs11/token.js';
import type { TokenLogin } from '../pkcs11/token-login.js';
import { PrivateKey, PublicKey } from '../pkcs11/key-pairs.js';
import { SecretKey } from '../pkcs11/secret-keys.js';
import { Certificate } from '../pkcs11/certificates.js';
import type { TokenObject } from '../pkcs11/objects.js';
import { ParamError, parseNumber } from './params.js';

const USAGE = `Usage: node-optee token COMMAND [OPTIONS]

Tokens of OP-TEE's PKCS#11 TA: keys that never leave the TEE.

  list                           the tokens, and how many tries their PINs have left
  init --label NAME              erases a token and makes its user: asks for the PIN of its security officer and of the user
  keygen TYPE                    makes a key pair: P-256, P-384, P-521, ed25519, rsa:2048 (to 4096); prints its public key
  import-cert FILE               brings a certificate, in PEM or DER, to the key with the same --id
  objects                        what is on the token; without a PIN, what everybody sees
  delete                         removes all objects with this --id or --label

  --device PATH                  the TEE device; the first that speaks GlobalPlatform unless given
  --token LABEL, --slot NUMBER   which token; needed if there are several
  --id HEX, --label NAME         of the object
  --pin-file FILE, --pin-fd N    where the user's PIN comes from: the first line. Else the terminal asks for it
  --so-pin-file, --so-pin-fd     the same for the security officer
  --public                       objects: do not log in
  --json                         list, objects: in JSON

PINs are never taken from the command line, which other users of the machine can read.
`;

const OPTIONS = {
  device: { type: 'string' },
  token: { type: 'string' },
  slot: { type: 'string' },
  id: { type: 'string' },
  label: { type: 'string' },
  'pin-file': { type: 'string' },
  'pin-fd': { type: 'string' },
  'so-pin-file': { type: 'string' },
  'so-pin-fd': { type: 'string' },
  public: { type: 'boolean' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const satisfies ParseArgsConfig['options'];

type Values = {
  [N in keyof typeof OPTIONS]?: (typeof OPTIONS)[N]['type'] extends 'boolean' ? boolean : string;
};

/** What one command gets. */
interface Asked {
  readonly pkcs11: Pkcs11;
  readonly values: Values;
  readonly words: readonly string[];
}

const COMMANDS: Readonly<Record<string, { words: number; run(asked: Asked): Promise<void> }>> = {
  list: { words: 0, run: list },
  init: { words: 0, run: init },
  keygen: { words: 1, run: keygen },
  'import-cert': { words: 1, run: importCertificate },
  objects: { words: 0, run: objects },
  delete: { words: 0, run: remove },
};

/** `node-optee token`. */
export async function run(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: OPTIONS });
  if (values.help === true) {
    process.stdout.write(USAGE);
    return 0;
  }
  const [name = '', ...words] = positionals;
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command?.words !== words.length) {
    process.stderr.write(USAGE);
    return 2;
  }
  const tee = values.device === undefined ? TeeContext.open() : TeeContext.open(values.device);
  try {
    const pkcs11 = await Pkcs11.open({ context: tee });
    try {
      await command.run({ pkcs11, values, words });
    } finally {
      await pkcs11.close();
    }
  } finally {
    await tee.close();
  }
  return 0;
}

async function list({ pkcs11, values }: Asked): Promise<void> {
  const tokens = await pkcs11.tokens();
  if (values.json === true) process.stdout.write(`${JSON.stringify(tokens, null, 2)}\n`);
  else process.stdout.write(tokens.map((token) => `${tokenLine(token)}\n`).join(''));
}

/** What `list` prints of a token. */
function tokenLine(token: TokenInfo): string {
  if (!token.initialized) return `slot ${token.slot}: not initialized`;
  const pin = (who: string, locked: boolean, last: boolean, low: boolean): string => {
    if (locked) return `, ${who} PIN locked`;
    if (last) return `, ${who} PIN: one try left`;
    return low ? `, ${who} PIN: wrong ones were given` : '';
  };
  return (
    `slot ${token.slot}: ${token.label}, serial number ${token.serialNumber}` +
    (token.userPinInitialized ? '' : ', no user') +
    (token.identity ? ', by identity' : '') +
    pin('user', token.userPinLocked, token.userPinFinalTry, token.userPinCountLow) +
    pin('security officer', token.soPinLocked, token.soPinFinalTry, token.soPinCountLow)
  );
}

async function init({ pkcs11, values }: Asked): Promise<void> {
  const { label } = values;
  if (label === undefined) throw new ParamError('init needs --label NAME');
  const token = await theToken(pkcs11, values, (info) => !info.initialized);
  const { initialized } = await token.info();
  const so = `PIN of the security officer${initialized ? '' : ', to be'}`;
  const soPin = await readPin(so, values['so-pin-file'], values['so-pin-fd'], !initialized);
  const pin = await readPin('PIN of the user, to be', values['pin-file'], values['pin-fd'], true);
  await token.initialize({ label, soPin });
  await token.setUserPin({ soPin, pin });
  process.stdout.write(`slot ${token.slot}: ${label}\n`);
}

async function keygen({ pkcs11, values, words: [type = ''] }: Asked): Promise<void> {
  const [kind, bits] = type.split(/:(.*)/s);
  const options = { id: values.id, label: values.label };
  const make = (login: TokenLogin): ReturnType<TokenLogin['generateKeyPair']> => {
    if (kind === 'rsa') return login.generateKeyPair('rsa', { ...options, modulusLength: parseNumber(bits) });
    if (kind === 'ed25519') return login.generateKeyPair('ed25519', options);
    return login.generateKeyPair('ec', { ...options, namedCurve: type });
  };
  if (!/^(P-256|P-384|P-521|ed25519|rsa:\d+)$/.test(type)) {
    throw new ParamError(`there is no type of key '${type}': P-256, P-384, P-521, ed25519 or rsa:2048`);
  }
  await withLogin(pkcs11, values, async (login) => {
    const { privateKey } = await make(login);
    process.stdout.write(privateKey.publicKey.export({ format: 'pem', type: 'spki' }));
    process.stderr.write(`${privateKey.toString()}\n`);
  });
}

async function importCertificate({ pkcs11, values, words: [file = ''] }: Asked): Promise<void> {
  const content = readFileSync(file);
  const { id, label } = values;
  if (id === undefined) throw new ParamError('import-cert needs --id HEX, that of the key');
  await withLogin(pkcs11, values, async (login) => {
    const certificate = await login.importCertificate(content, { id, label });
    process.stdout.write(`${certificate.toString()}\n`);
  });
}

async function objects({ pkcs11, values }: Asked): Promise<void> {
  const use = async (login: TokenLogin): Promise<void> => {
    const { id, label } = values;
    const found = await login.objects({ id, label });
    if (values.json === true) process.stdout.write(`${JSON.stringify(found.map(describe), null, 2)}\n`);
    else process.stdout.write(found.map((object) => `${objectLine(object)}\n`).join(''));
  };
  if (values.public !== true) return withLogin(pkcs11, values, use);
  const login = await (await theToken(pkcs11, values)).open();
  await use(login);
}

async function remove({ pkcs11, values }: Asked): Promise<void> {
  const { id, label } = values;
  if (id === undefined && label === undefined) throw new ParamError('delete needs --id HEX or --label NAME');
  await withLogin(pkcs11, values, async (login) => {
    const found = await login.objects({ id, label });
    if (found.length === 0) throw new Error('the token has no such object');
    for (const object of found) {
      await login.destroy(object);
      process.stdout.write(`${objectLine(object)}: removed\n`);
    }
  });
}

/** A plain object, for JSON. */
function describe(object: TokenObject): Record<string, unknown> {
  const { id, label } = object;
  const common = { kind: kindOf(object), id: id.toString('hex'), label, private: object.private };
  if (!(object instanceof PrivateKey || object instanceof SecretKey)) return common;
  return { ...common, extractable: object.extractable, sensitive: object.sensitive };
}

function kindOf(object: TokenObject): string {
  if (object instanceof PrivateKey || object instanceof PublicKey) {
    const { namedCurve, modulusLength } = object.asymmetricKeyDetails;
    return `${object.asymmetricKeyType}${namedCurve === undefined ? '' : ` ${namedCurve}`}${modulusLength === undefined ? '' : ` ${modulusLength}`}`;
  }
  if (object instanceof SecretKey) return `${object.type} ${object.symmetricKeySize * 8}`;
  return object instanceof Certificate ? 'X.509' : 'data';
}

function objectLine(object: TokenObject): string {
  return `${object.toString()} (${kindOf(object)})`;
}

/** The token that is meant. @param preferred which of several, if none was named */
async function theToken(
  pkcs11: Pkcs11,
  { token, slot }: Values,
  preferred: (info: TokenInfo) => boolean = (info) => info.initialized,
): Promise<Token> {
  if (slot !== undefined) return pkcs11.token({ slot: parseNumber(slot) });
  if (token !== undefined) return pkcs11.token({ label: token });
  const found = (await pkcs11.tokens()).filter(preferred);
  const [only, ...more] = found;
  // Which of the empty ones is all the same.
  if (only === undefined || (only.initialized && more.length > 0)) {
    throw new ParamError(
      `${found.length} tokens could be meant: name one with --token LABEL or --slot NUMBER`,
    );
  }
  return pkcs11.token({ slot: only.slot });
}

async function withLogin(
  pkcs11: Pkcs11,
  values: Values,
  use: (login: TokenLogin) => Promise<void>,
): Promise<void> {
  const token = await theToken(pkcs11, values);
  const info = await token.info();
  const login = info.identity
    ? await token.login({ identity: 'user' })
    : await token.login({ pin: await readPin('PIN of the user', values['pin-file'], values['pin-fd']) });
  await use(login);
}

/** A PIN from a file, a descriptor or the terminal: its first line. */
async function readPin(what: string, file?: string, fd?: string, twice = false): Promise<string> {
  if (file !== undefined) return firstLine(readFileSync(file));
  if (fd !== undefined) return firstLine(readFileSync(parseNumber(fd)));
  if (!process.stdin.isTTY) {
    throw new ParamError(
      `the ${what} is asked for on a terminal, which there is not: use --pin-file or --pin-fd`,
    );
  }
  const pin = await prompt(`${what}: `);
  if (twice && (await prompt('the same again: ')) !== pin) throw new Error('the two PINs are not the same');
  return pin;
}

function firstLine(bytes: Buffer): string {
  const [line = ''] = bytes.toString('utf8').split(/\r?\n/);
  return line;
}

/** Asks on the terminal, which does not show what is typed. */
export async function prompt(text: string): Promise<string> {
  const { stdin } = process;
  // Before anybody is asked: until then the terminal shows what is typed.
  stdin.setRawMode(true);
  process.stderr.write(text);
  stdin.resume(); // a listener alone does not start it again after a pause
  const typed: number[] = [];
  try {
    for (;;) {
      const [keys] = (await once(stdin, 'data')) as [Buffer];
      for (const key of keys) {
        if (key === CTRL_C) throw new Error('interrupted');
        if (key === CTRL_D || key === LF || key === CR) return Buffer.from(typed).toString('utf8');
        if (key !== BACKSPACE && key !== DELETE) typed.push(key);
        // A character of UTF-8 is its first byte and those behind it.
        else while (((typed.pop() ?? 0) & 0xc0) === 0x80);
      }
    }
  } finally {
    typed.fill(0);
    stdin.setRawMode(false);
    stdin.pause();
    process.stderr.write('\n');
  }
}

const [CTRL_C, CTRL_D, BACKSPACE, LF, CR, DELETE] = [3, 4, 8, 10, 13, 127];
