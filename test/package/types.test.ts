// The published declarations, as users' own compilers read them: TypeScript of several years, all module resolutions, with
// and without the types of Node and of the DOM.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { installPacked, type Packed } from '../support/packed.js';
import { installTools } from '../support/tools.js';

const CLIENT = `
  import { buffer, DmaHeap, Login, TeeContext, TeeError, value } from 'node-optee';
  export async function use(signal: AbortSignal): Promise<[number, Uint8Array]> {
    const tee = TeeContext.open();
    const session = await tee.openSession('8aaaf200-2450-11e4-abe2-0002a5d5c51b', { login: Login.user, signal });
    const [sum, bytes, none] = await session.invoke(1, [value.inout(1), buffer.out(3), undefined], { signal });
    const nothing: undefined = none;
    const closing: [Disposable, AsyncDisposable, Disposable] = [session, tee, DmaHeap.open('system')];
    // @ts-expect-error
    sum.c;
    return [sum.a + closing.length, nothing ?? bytes];
  }
  export const codeOf = (error: unknown): string | undefined => (error instanceof TeeError ? error.code : undefined);`;
const DESCRIBED = `
  import { TeeContext } from 'node-optee';
  import { array, defineTrustedApplication, enumeration, octets, slot, struct, u64, u8, type ClientOf, type TypeOf } from 'node-optee/ta';
  const Mode = enumeration({ OFF: 0, ON: 1 });
  const Config = struct('config', { level: u8, mode: Mode, limit: u64, name: octets(16), path: array(u8, 3) });
  export const Notary = defineTrustedApplication({
    name: 'notary',
    uuid: '8aaaf200-2450-11e4-abe2-0002a5d5c51b',
    results: { NOTARY_LOCKED: 0x80000001 },
    open: [slot.value.in('version')],
    commands: {
      count: { id: 0, slots: [slot.value.inout('count', 'step')] },
      seek: { id: 1, slots: [slot.value.in(u64('offset'))] },
      set: { id: 2, slots: [slot.value.in(Mode('mode')), slot.text.in('why', { max: 9, optional: true })] },
      read: { id: 3, slots: [slot.bytes.out('data', { max: 4096 }), slot.struct.inout('config', Config)], repeatable: true },
    },
  });
  export async function use(signal: AbortSignal): Promise<[number, bigint, 'OFF' | 'ON', Uint8Array]> {
    const tee = TeeContext.open();
    const notary: AsyncDisposable & ClientOf<typeof Notary> = await Notary.open(tee, { version: 1, signal });
    const { count } = await notary.count({ count: 41, step: 1 }, { signal });
    const nothing: undefined = await notary.set({ mode: 'ON' });
    const config = { level: 1, mode: 'ON', limit: 1n, name: new Uint8Array(16), path: [1, 2, 3] } as const;
    const back: { data: Uint8Array; config: TypeOf<typeof Config> } = notary.sync.read({ config });
    const pool = Notary.pool(tee, { max: 2, version: 1 });
    await pool.seek({ offset: 1n }, { signal });
    // @ts-expect-error
    await notary.count({ count: 1 });
    // @ts-expect-error
    await notary.count({ count: 1, step: 1, stop: 1 });
    // @ts-expect-error
    await notary.set({ mode: 'MAYBE' });
    // @ts-expect-error
    await notary.seek({ offset: 1 });
    // @ts-expect-error
    await Notary.open(tee);
    return [count, back.config.limit, back.config.mode, nothing ?? back.data];
  }
  const described = { name: 'x', uuid: '8aaaf200-2450-11e4-abe2-0002a5d5c51b' } as const;
  const s = slot.value.in;
  // @ts-expect-error
  defineTrustedApplication({ ...described, commands: { go: { id: 0, slots: [s('a'), s('b'), s('c'), s('d'), s('e')] } } });
  // @ts-expect-error
  defineTrustedApplication({ ...described, commands: { go: { id: 0, slots: [s('a'), s('a')] } } });
  // @ts-expect-error
  defineTrustedApplication({ ...described, commands: { close: { id: 0 } } });`;
const KEYS = `
  import { Pkcs11, Pkcs11Error } from 'node-optee/pkcs11';
  export async function use(signal: AbortSignal): Promise<string> {
    const pkcs11: AsyncDisposable & Pkcs11 = await Pkcs11.open({ signal });
    const token = await pkcs11.token({ label: 'gateway' });
    const login: AsyncDisposable = await token.login({ pin: '1234' });
    const byGroup = await token.login({ identity: 'group', gid: 1000, signal });
    // @ts-expect-error
    await token.login({ identity: 'group' });
    // @ts-expect-error
    await token.login({});
    const { privateKey, publicKey } = await byGroup.generateKeyPair('ec', { namedCurve: 'P-256' });
    const signature = await privateKey.sign('sha256', new Uint8Array(1), { dsaEncoding: 'ieee-p1363' });
    const key = await byGroup.generateKey('aes', { length: 256 });
    const { authTag } = await key.encrypt('aes-256-gcm', signature, { iv: new Uint8Array(12) });
    await login[Symbol.asyncDispose]();
    return publicKey.publicKey.asymmetricKeyType + authTag.toString('hex') + signature.toString('base64');
  }
  export const codeOf = (error: unknown): string | undefined => (error instanceof Pkcs11Error ? error.code : undefined);`;
const GUEST = `
  import { Guest } from 'node-optee/qemu';
  export async function use(signal: AbortSignal): Promise<string> {
    const guest: AsyncDisposable & Guest = await Guest.boot({ signal });
    // @ts-expect-error
    guest.nothing;
    return (await guest.run(['true'])).stdout.toString();
  }`;

/** Compiles in the current folder what its arguments say: prints what the compiler has to say of the package and its user. */
const COMPILE = `
  const [ts, cases] = [require(process.argv[1]), JSON.parse(process.argv[2])];
  const sources = new Map();
  const LIBRARIES = /\\/(typescript-[^/]*|@types|undici-types)\\//;
  for (const { roots, options } of cases) {
    const { options: parsed, errors } = ts.convertCompilerOptionsFromJson(options, process.cwd());
    const host = ts.createCompilerHost(parsed);
    const read = host.getSourceFile;
    // Libraries are the same for all, and are most of the work.
    host.getSourceFile = (name, target, ...rest) => {
      if (!LIBRARIES.test(name)) return read(name, target, ...rest);
      const key = name + target.impliedNodeFormat;
      if (!sources.has(key)) sources.set(key, read(name, target, ...rest));
      return sources.get(key);
    };
    const program = ts.createProgram(roots, parsed, host);
    const files = program.getSourceFiles().map(({ fileName }) => fileName);
    const of = program.getSourceFiles().filter(({ fileName }) => !LIBRARIES.test(fileName));
    const found = [
      ...errors,
      ...program.getOptionsDiagnostics(),
      ...program.getGlobalDiagnostics(),
      ...of.flatMap((file) => [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)]),
    ];
    if (!files.some((name) => name.includes('node-optee/dist/'))) console.log('the package was not found');
    for (const { file, messageText } of found) {
      const text = ts.flattenDiagnosticMessageText(messageText, ' ');
      console.log([roots, JSON.stringify(options), file?.fileName, text].join(' '));
    }
  }`;

/** Of module and resolution. TypeScript 6 still has the oldest, and asks to be told that this is known. */
const MODULES = [
  { module: 'commonjs', moduleResolution: 'node10' },
  { module: 'node16', moduleResolution: 'node16' },
  { module: 'nodenext', moduleResolution: 'nodenext' },
  { module: 'esnext', moduleResolution: 'bundler' },
];
const ES = ['es2022'];
const DOM = ['es2022', 'dom'];

let packed: Packed;
let tools: string;
let withNodeTypes: string;
beforeAll(() => {
  packed = installPacked();
  tools = installTools();
  for (const extension of ['ts', 'mts', 'cts']) {
    writeFileSync(join(packed.app, `client.${extension}`), CLIENT);
    writeFileSync(join(packed.app, `described.${extension}`), DESCRIBED);
    writeFileSync(join(packed.app, `guest.${extension}`), GUEST);
    writeFileSync(join(packed.app, `keys.${extension}`), KEYS);
  }
  withNodeTypes = join(packed.app, '..', 'with-node-types');
  cpSync(packed.app, withNodeTypes, { recursive: true });
  mkdirSync(join(withNodeTypes, 'node_modules/@types'));
  symlinkSync(join(tools, '@types/node'), join(withNodeTypes, 'node_modules/@types/node'));
}, 300_000);
afterAll(() => packed.remove());

/** The first and the last that are supported; with --long those between, too. */
const VERSIONS = process.env['NODE_OPTEE_LONG'] ? ['5.2', '5.4', '5.9', '6.0'] : ['5.2', '6.0'];

describe.each(VERSIONS)('TypeScript %s', (version) => {
  const compile = (folder: string, programs: string[], settings: object[]): string => {
    const cases = MODULES.flatMap(({ module, moduleResolution }) =>
      settings.map((setting) => ({
        roots: programs.flatMap((name) =>
          module.startsWith('node') ? [`${name}.mts`, `${name}.cts`] : [`${name}.ts`],
        ),
        options: {
          strict: true,
          noEmit: true,
          target: 'es2022',
          module,
          moduleResolution,
          ...(version === '6.0' && moduleResolution === 'node10' ? { ignoreDeprecations: '6.0' } : {}),
          ...setting,
        },
      })),
    );
    const compiler = join(tools, `typescript-${version}`);
    return execFileSync(process.execPath, ['-e', COMPILE, compiler, JSON.stringify(cases)], {
      cwd: folder,
      encoding: 'utf8',
    });
  };

  test('the client, without the types of Node, with the DOM or without', () => {
    const settings = [
      { lib: DOM, types: [] },
      { lib: ES, types: [] },
    ];
    expect(compile(packed.app, ['client', 'described'], settings)).toBe('');
  });

  test('client, keys and guest, with the types of Node, taken or not', () => {
    const settings = [{ types: [] }, { lib: ES, types: ['node'] }];
    expect(compile(withNodeTypes, ['client', 'described', 'keys', 'guest'], settings)).toBe('');
  });
});
