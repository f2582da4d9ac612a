/** Logins to tokens when calls fail. The TA here is none: it answers what the test says, when the test says so. */
import { inspect } from 'node:util';
import { describe, expect, jest, test } from '@jest/globals';
import { Login } from '#lib/client/login';
import type { Session } from '#lib/client/session';
import { Application, Turn } from '#lib/pkcs11/application';
import { DataObject } from '#lib/pkcs11/certificates';
import { Attribute, CKR, Command, ObjectClass, TokenFlag, UNAVAILABLE, User } from '#lib/pkcs11/constants';
import { Attributes, ObjectReference } from '#lib/pkcs11/objects';
import { cipher, digest, random as randomBytes, type Bytes } from '#lib/pkcs11/operations';
import { Pkcs11 } from '#lib/pkcs11/pkcs11';
import { encodeTemplate, pack, u32s } from '#lib/pkcs11/serializer';
import { Token } from '#lib/pkcs11/token';
import { TokenLogin } from '#lib/pkcs11/token-login';
import { ask } from '#lib/pkcs11/wire';
import { DEAD, FakeTa, NO_MEMORY, teeError, type Answer } from '../support/fake-pkcs11-ta.js';

// The declarations have nothing internal.
const internal = Token as unknown as { make(home: object, info: object): Token };
const internalLogin = TokenLogin as unknown as {
  make(app: Application, closed: (login: TokenLogin) => void): TokenLogin;
};

const PIN = 'user-1234';
const question = (command: Command) => ({ command, control: u32s(1), room: 5, asked: 'a test' }) as const;
const RANDOM = question(Command.GENERATE_RANDOM);
const DIGEST = { key: 0, mechanism: { id: 0x250 }, asked: 'a digest' };

async function login(ta: FakeTa): Promise<Application> {
  return Application.open({
    tee: ta.tee,
    slot: 0,
    login: Login.public,
    user: User.USER,
    pin: Buffer.from(PIN),
  });
}
const random = (app: Application): Promise<Uint8Array> =>
  app.operate((turn) => turn.ask(RANDOM), { asked: 'a test' });
const thrown = (promise: Promise<unknown>): Promise<Error & { code?: string }> =>
  promise.then(
    () => Promise.reject(new Error('it resolved')),
    (error: Error) => error,
  );

describe('an error of a call', () => {
  test.each([DEAD, NO_MEMORY, 0xffff0010])('has nothing of the control block: %d', async (result) => {
    const failed = teeError(result, Buffer.from(PIN));
    const copy = (failed.outputs[0] as { data: Uint8Array }).data;
    const session = { invoke: () => Promise.reject(failed) } as unknown as Session;
    const control = pack(1, Buffer.from(PIN));
    for (const secret of [true, false]) {
      const error = await thrown(
        ask(session, { command: Command.LOGIN, control, asked: 'the login', secret }),
      );
      expect(inspect(error, { depth: 9, showHidden: true })).not.toContain('data');
    }
    expect(copy.every((byte) => byte === 0)).toBe(true);
    expect(failed.outputs[0]).toEqual({ size: PIN.length });
  });
});

describe('a TA that died', () => {
  test('a login that could not be opened again is opened when the next operation comes', async () => {
    const ta = new FakeTa();
    const app = await login(ta);
    ta.die();
    ta.unreachable = teeError(NO_MEMORY);
    expect(await thrown(random(app))).toMatchObject({ code: 'TEE_ERROR_OUT_OF_MEMORY' });
    expect(await thrown(random(app))).toMatchObject({ code: 'TEE_ERROR_OUT_OF_MEMORY' });
    ta.unreachable = undefined;
    // No answer to a PIN: it is not lost.
    ta.answer = (command) => (command === Command.OPEN_SESSION ? CKR.CKR_DEVICE_MEMORY : undefined);
    expect(await thrown(random(app))).toMatchObject({ code: 'CKR_DEVICE_MEMORY' });
    ta.answer = () => undefined;
    expect(await random(app)).toEqual(Buffer.from('found'));
    expect(ta.commands(Command.LOGIN).map((control) => control.subarray(12).toString())).toEqual([PIN, PIN]);
    await app.close();
  });

  test('a PIN that was refused is not sent again', async () => {
    const ta = new FakeTa();
    const app = await login(ta);
    ta.die();
    ta.answer = (command) => (command === Command.LOGIN ? CKR.CKR_PIN_INCORRECT : undefined);
    for (let i = 0; i < 3; i++) {
      expect(await thrown(random(app))).toMatchObject({ code: 'CKR_PIN_INCORRECT' });
    }
    expect(ta.commands(Command.LOGIN)).toHaveLength(2);
    await app.close();
  });

  test('a Pkcs11 that could not be opened again is opened when the next question comes', async () => {
    const ta = new FakeTa();
    const pkcs11 = await Pkcs11.open({ context: ta.tee });
    ta.answer = (command) => (command === Command.SLOT_LIST ? teeError(0xffff0006) : undefined);
    expect(await thrown(pkcs11.tokens())).toMatchObject({ code: 'TEE_ERROR_BAD_PARAMETERS' });
    ta.die();
    ta.unreachable = teeError(NO_MEMORY);
    for (let i = 0; i < 2; i++) {
      expect(await thrown(pkcs11.tokens())).toMatchObject({ code: 'TEE_ERROR_OUT_OF_MEMORY' });
    }
    ta.unreachable = undefined;
    // The fake's list of slots is not one.
    ta.answer = () => undefined;
    expect(await thrown(pkcs11.tokens())).toMatchObject({ code: 'ERR_PKCS11_ANSWER' });
    await pkcs11.close();
  });

  test('an error of the stream that looks like it is not it, and nothing is done twice', async () => {
    const ta = new FakeTa();
    const app = await login(ta);
    const foreign = teeError(DEAD);
    let asked = 0;

    async function* parts(): AsyncGenerator<Buffer> {
      asked++;
      yield Buffer.alloc(0);
      throw foreign;
    }
    const data = parts();
    const made = app.operate((turn) => digest({ ...DIGEST, turn }, data, 32), {
      asked: 'a digest',
      own: true,
    });
    expect(await thrown(made)).toBe(foreign);
    expect(asked).toBe(1);
    expect(ta.opened).toBe(1);
    expect(ta.commands(Command.DIGEST_FINAL)).toHaveLength(0);
    await app.close();
  });

  test('an object without a name is not taken for the only one there is now', async () => {
    const ta = new FakeTa();
    const app = await login(ta);
    const yes = Buffer.of(1);
    const attributes = new Attributes(new Map([[Attribute.TOKEN, yes]]));
    const reference = new ObjectReference(app, ObjectClass.DATA, 7, 0, attributes);
    ta.die();
    ta.outputs.set(Command.FIND_OBJECTS, u32s(8));
    const read = [
      ...[Attribute.CLASS, Attribute.TOKEN, Attribute.PRIVATE, Attribute.LABEL, Attribute.ID],
      ...[Attribute.APPLICATION, Attribute.OBJECT_ID],
    ];
    const sizes = (has: ReadonlyMap<number, Buffer>): Buffer =>
      pack(8 * read.length, read.length, ...read.flatMap((id) => [id, has.get(id)?.length ?? UNAVAILABLE]));
    const values = (has: ReadonlyMap<number, Buffer>): Buffer => encodeTemplate([...has]);
    const find = (): Promise<number> =>
      app.operate(
        async (turn) => {
          await turn.ask(RANDOM);
          return reference.handle(turn, 'a test');
        },
        { asked: 'a test' },
      );
    const unnamed = new Map([[Attribute.TOKEN, yes]]);
    const named = new Map([...unnamed, [Attribute.LABEL, Buffer.from('note')]]);
    const answers = [named, unnamed].flatMap((has) => [sizes(has), values(has)]);
    ta.answer = (command) => {
      if (command === Command.GET_ATTRIBUTE_VALUE) ta.outputs.set(command, answers.shift() as Buffer);
      return undefined;
    };
    expect(await thrown(find())).toMatchObject({ code: 'ERR_PKCS11_NOT_FOUND' });
    expect(await find()).toBe(8);
    await app.close();
  });

  test('a stream whose end it did not live to see is not read again', async () => {
    const ta = new FakeTa();
    const app = await login(ta);

    async function* parts(): AsyncGenerator<Buffer> {
      yield Buffer.alloc(0);
      ta.die();
    }
    const data = parts();
    const made = app.operate((turn) => digest({ ...DIGEST, turn }, data, 32), {
      asked: 'a digest',
      own: true,
    });
    expect(await thrown(made)).toMatchObject({ code: 'ERR_PKCS11_TA_DIED' });
    expect(await random(app)).toEqual(Buffer.from('found'));
    await app.close();
  });
});

describe('a TA that dies while', () => {
  const home = async (ta: FakeTa): Promise<{ pkcs11: Pkcs11; token: Token }> => {
    ta.outputs.set(Command.SLOT_LIST, u32s(0));
    const pkcs11 = await Pkcs11.open({ context: ta.tee });
    return { pkcs11, token: await pkcs11.token({ slot: 0 }) };
  };
  const dies = (at: Command) => (command: number) => (command === at ? teeError(DEAD) : undefined);

  test.each([
    ['a user logs in', Command.LOGIN, (token: Token) => token.login({ pin: 'user-1234' })],
    ['the token is opened', Command.OPEN_SESSION, (token: Token) => token.open()],
    [
      'the token is initialized',
      Command.INIT_TOKEN,
      (token: Token) => token.initialize({ label: 'x', soPin: 'user-1234' }),
    ],
  ])('%s: nothing is sent twice, and the error says so', async (_, command, work) => {
    const ta = new FakeTa();
    const { pkcs11, token } = await home(ta);
    ta.answer = dies(command);
    expect(await thrown(work(token))).toMatchObject({
      code: 'ERR_PKCS11_TA_DIED',
      message: expect.stringContaining('the token in slot 0'),
      cause: { code: 'TEE_ERROR_TARGET_DEAD' },
    });
    expect(ta.commands(command)).toHaveLength(1);
    expect(ta.closed).toBe(1);
    await pkcs11.close();
  });
});

describe('closing a login', () => {
  test('with its Pkcs11, which waits also for one that is being closed, and closes all though one fails', async () => {
    const ta = new FakeTa();
    const pkcs11 = await Pkcs11.open({ context: ta.tee });
    ta.outputs.set(Command.SLOT_LIST, u32s(0));
    const login = await (await pkcs11.token({ slot: 0 })).open();
    let go = (): void => undefined;
    const wait = new Promise<undefined>((resolve) => (go = () => resolve(undefined)));
    ta.outputs.set(Command.GENERATE_RANDOM, Buffer.alloc(4));
    ta.answer = () => wait;
    const random = login.randomBytes(4);
    await new Promise(setImmediate);
    const first = login.close();
    ta.closeError = new Error('it does not close');
    let closed = false;
    const closing = thrown(pkcs11.close()).finally(() => (closed = true));
    await new Promise(setImmediate);
    expect(closed).toBe(false);
    go();
    expect(await random).toHaveLength(4);
    expect(await thrown(first)).toBe(ta.closeError);
    expect(await closing).toBe(ta.closeError);
    expect(ta.closed).toBe(ta.opened);
  });

  test('in the getter of a signal, an operation with a session of its own does not begin', async () => {
    const ta = new FakeTa();
    const app = await login(ta);
    const { signal } = new AbortController();
    let closing: Promise<void> | undefined;
    Object.defineProperty(signal, 'aborted', {
      get: () => {
        closing = app.close();
        return false;
      },
    });
    const work = jest.fn(() => Promise.resolve());
    for (const own of [true, false]) {
      expect(await thrown(app.operate(work, { asked: 'a test', own, signal }))).toMatchObject({
        code: 'ERR_TEE_CLOSED',
      });
    }
    expect(work).not.toHaveBeenCalled();
    await closing;
  });

  test('waits for an operation with a session of its own, and no PIN is sent afterwards', async () => {
    const ta = new FakeTa();
    const app = await login(ta);
    let go = (): void => undefined;
    const wait = new Promise<void>((resolve) => (go = resolve));
    const made = thrown(
      app.operate(
        async (turn) => {
          await wait;
          return turn.ask(RANDOM);
        },
        { asked: 'a test', own: true },
      ),
    );
    let closed = false;
    const closing = app.close().then(() => (closed = true));
    await new Promise(setImmediate);
    expect(closed).toBe(false);
    ta.die();
    go();
    expect(await made).toMatchObject({ code: 'ERR_TEE_CLOSED' });
    await closing;
    expect(ta.commands(Command.LOGIN)).toHaveLength(1);
  });
});

describe('an operation in parts', () => {
  test('says in each of them which session it is of, and is aborted between two', async () => {
    const ta = new FakeTa();
    const app = await login(ta);
    const data = Buffer.alloc(150_000);
    const encrypt = (signal?: AbortSignal): Promise<Buffer> =>
      app.operate(
        (turn) => cipher('encrypt', { ...DIGEST, turn, signal }, data, { extra: 16, parts: true }),
        { asked: 'a cipher', signal },
      );
    expect(await encrypt()).toEqual(Buffer.from('found'.repeat(4)));
    const steps = [...ta.commands(Command.ENCRYPT_UPDATE), ...ta.commands(Command.ENCRYPT_FINAL)];
    expect(steps).toEqual(Array(4).fill(u32s(1)));
    ta.outputs.set(Command.GENERATE_RANDOM, Buffer.alloc(2048));
    for (const [made, command] of [
      [encrypt, Command.ENCRYPT_UPDATE],
      [
        (signal?: AbortSignal) =>
          app.operate((turn) => randomBytes({ turn, asked: 'a test', signal }, 1 << 20), { asked: 'a test' }),
        Command.GENERATE_RANDOM,
      ],
    ] as const) {
      const abort = new AbortController();
      const before = ta.commands(command).length;
      ta.answer = (asked) => (asked === command ? void abort.abort() : undefined);
      expect(await thrown(made(abort.signal))).toMatchObject({ code: 'ABORT_ERR' });
      expect(ta.commands(command)).toHaveLength(before + 1);
    }
    expect(ta.commands(Command.RELEASE_ACTIVE_PROCESSING)).toHaveLength(1);
    await app.close();
  });
});

test('an operation in parts that has no part yet can be ended', async () => {
  const ta = new FakeTa();
  const app = await login(ta);
  async function* broken(): AsyncGenerator<Buffer> {
    await Promise.resolve();
    yield* [];
    throw new Error('of the stream');
  }
  const hash = (data: Bytes): Promise<Buffer> =>
    app.operate((turn) => digest({ ...DIGEST, turn }, data, 32), { asked: 'a digest' });
  const withoutMemory = (): void =>
    void (ta.answer = (command) => (command === Command.DIGEST_INIT ? teeError(NO_MEMORY) : undefined));
  // As many as there are PKCS#11 sessions, and one more.
  for (let i = 0; i < 5; i++) {
    expect(await thrown(hash(broken()))).toMatchObject({ message: 'of the stream' });
    withoutMemory();
    expect(await thrown(hash(Buffer.alloc(100_000)))).toMatchObject({ code: 'TEE_ERROR_OUT_OF_MEMORY' });
    ta.answer = () => undefined;
  }
  expect(ta.commands(Command.RELEASE_ACTIVE_PROCESSING)).toEqual(
    Array(10).fill(u32s(1, Command.DIGEST_FINAL)),
  );
  await app.close();
});

describe('waiting', () => {
  test('a signal that calls its listener at once aborts', async () => {
    const ta = new FakeTa();
    const app = await login(ta);
    let go = (): void => undefined;
    const wait = new Promise<undefined>((resolve) => (go = () => resolve(undefined)));
    ta.answer = () => wait;
    const under = Array.from({ length: 4 }, () => random(app));
    const { signal } = new AbortController();
    signal.addEventListener = (_: string, listener: unknown) => (listener as () => void)();
    const made = app.operate((turn) => turn.ask(RANDOM), { asked: 'a test', signal });
    expect(await thrown(made)).toMatchObject({ code: 'ABORT_ERR' });
    go();
    await Promise.all(under);
    await app.close();
  });

  test('the one that has waited longest is next, and aborted ones have left', async () => {
    const ta = new FakeTa();
    const app = await login(ta);
    const done: number[] = [];
    const abort = new AbortController();
    const one = (i: number): Promise<unknown> =>
      app
        .operate((turn) => turn.ask(RANDOM), {
          asked: 'a test',
          home: i % 3 === 0,
          signal: i % 4 === 0 ? abort.signal : undefined,
        })
        .then(
          () => done.push(i),
          () => undefined,
        );
    const under = Array.from({ length: 4 }, () => random(app));
    const all = Array.from({ length: 24 }, (_, i) => one(i));
    abort.abort();
    await Promise.all([...under, ...all]);
    const expected = Array.from({ length: 24 }, (_, i) => i).filter((i) => i % 4 !== 0);
    expect([...done].sort((a, b) => a - b)).toEqual(expected);
    const at = (home: boolean): number[] => done.filter((i) => (i % 3 === 0) === home);
    for (const order of [at(true), at(false)]) expect(order).toEqual([...order].sort((a, b) => a - b));
    await app.close();
  });
});

describe('two calls together', () => {
  const pair = (answers: Answer[]): { turn: Turn; made: Promise<Uint8Array> } => {
    const session = {
      closed: false,
      invoke: () => {
        const next = answers.shift();
        return next instanceof Error
          ? Promise.reject(next)
          : Promise.resolve([u32s(next ?? 0), undefined, Buffer.from('made')]);
      },
    };
    const turn = new Turn(session as unknown as Session, 1, 0);
    return { turn, made: turn.effect(RANDOM) };
  };
  test('what was made is given back, though the first was not sent', async () => {
    const { turn, made } = pair([new Error('no memory here'), CKR.CKR_OK]);
    expect(await made).toEqual(Buffer.from('made'));
    expect(turn.begun).toBe(true);
  });
  test('a death of the second alone is not tried again', async () => {
    const { turn, made } = pair([new Error('no memory here'), teeError(DEAD)]);
    expect(await thrown(made)).toMatchObject({ code: 'TEE_ERROR_TARGET_DEAD' });
    expect(turn.begun).toBe(true);
  });
  test('if both fail, it is the first that says why', async () => {
    const { turn, made } = pair([CKR.CKR_SESSION_HANDLE_INVALID, CKR.CKR_OPERATION_NOT_INITIALIZED]);
    expect(await thrown(made)).toMatchObject({ code: 'CKR_SESSION_HANDLE_INVALID' });
    expect(turn.begun).toBe(false);
  });
});

test('wrong types are named, and nothing is sent', async () => {
  const ta = new FakeTa();
  const app = await login(ta);
  const open = internalLogin.make(app, () => undefined);
  const Data = DataObject as unknown as new (found: object) => DataObject;
  const object = new Data({
    reference: new ObjectReference(app, ObjectClass.DATA, 1, 0, new Attributes(new Map())),
    attributes: new Attributes(new Map()),
  });
  const before = ta.asked.length;
  const none = undefined as never;
  for (const [call, name] of [
    [() => open.objects(null as never), 'query'],
    [() => open.privateKey(none), 'query'],
    [() => open.generateKey('aes', none), 'options'],
    [() => open.importSecretKey(Buffer.alloc(16), none), 'options'],
    [() => open.importData(Buffer.alloc(1), { private: 1 as never }), 'options.private'],
    [() => object.destroy(null as never), 'options'],
    [() => object.destroy({ signal: 'none' as never }), 'options.signal'],
    [() => open.destroy(object, { reason: 'none' } as never), 'options'],
  ] as const) {
    expect(await thrown(call())).toMatchObject({
      code: expect.stringMatching(/^ERR_INVALID_ARG/),
      message: expect.stringMatching(new RegExp(`^${name} `)),
    });
  }
  expect(ta.asked).toHaveLength(before);
  await app.close();
});

describe('copies of PINs', () => {
  const ta = new FakeTa();
  ta.unreachable = new Error('no answer');
  const token = internal.make(
    {
      tee: ta.tee,
      info: () => Promise.resolve({ flags: TokenFlag.TOKEN_INITIALIZED }),
      ask: () => Promise.reject(new Error('no answer')),
      login: () => {
        throw new Error('no login');
      },
    },
    { slot: 0, serialNumber: '' },
  );
  const bad = { signal: 'none' } as never as { signal: AbortSignal };
  test.each<[string, () => Promise<unknown>]>([
    ['a second PIN that is none', () => token.changePin({ pin: PIN, newPin: 1234 as never })],
    ['a second PIN that is too short', () => token.changeSoPin({ soPin: PIN, newPin: 'abc' })],
    ['a PIN that looks like an identity', () => token.setUserPin({ soPin: PIN, pin: 'user:nobody' })],
    ['a bad signal, setUserPin', () => token.setUserPin({ soPin: PIN, pin: PIN, ...bad })],
    ['a bad signal, changePin', () => token.changePin({ pin: PIN, newPin: PIN, ...bad })],
    ['a bad signal, changeSoPin', () => token.changeSoPin({ soPin: PIN, newPin: PIN, ...bad })],
    ['no answer, setUserPin', () => token.setUserPin({ soPin: PIN, pin: PIN })],
    ['no answer, changePin', () => token.changePin({ pin: PIN, newPin: PIN })],
    ['no answer, changeSoPin', () => token.changeSoPin({ soPin: PIN, newPin: PIN })],
    ['no answer, login', () => token.login({ pin: PIN })],
    ['too short', () => token.login({ pin: 'abc' })],
  ])('are wiped: %s', async (_, call) => {
    const from = jest.spyOn(Buffer, 'from');
    try {
      await thrown(call());
      const copies = from.mock.results.map(({ value }) => value as Buffer);
      expect(copies.filter((copy) => copy.some((byte) => byte !== 0))).toEqual([]);
    } finally {
      from.mockRestore();
    }
  });
});
