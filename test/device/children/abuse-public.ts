/**
 * Calls everything that the package exports, its methods borrowed by other objects too, with values of every wrong kind.
 * Whatever is not done ends with an error that says why: one of ours, or that of the caller's own getter.
 */
import fc from 'fast-check';
import * as client from 'node-optee';
import { buffer, DmaHeap, Login, TeeContext, value } from 'node-optee';
import * as pkcs11 from 'node-optee/pkcs11';
import * as ta from 'node-optee/ta';
import { checkProperty, Echo, hasCode, runAbuse, within } from '../../support/abuse.js';
import { TEST_TA } from '../../support/census.js';
import { TestTa } from '../../support/described-ta.js';
import { checkBorders, Touched, Wrong, wrong } from '../../support/wrong-values.js';

type Anything = (...args: unknown[]) => unknown;

/** A function of the package's. */
interface Target {
  readonly name: string;
  /** Of a method: the class that it belongs to. */
  readonly owner: string | undefined;
  readonly call: (self: unknown, args: unknown[]) => unknown;
  readonly isConstructor: boolean;
}

const isClass = (value: unknown): value is Anything & { prototype: object } =>
  typeof value === 'function' && String(value).startsWith('class');

function methodsOf(name: string, object: object, owner?: string): Target[] {
  return Reflect.ownKeys(object).flatMap((key) => {
    if (key === 'constructor' || key === 'prototype') return [];
    const { value, get } = Object.getOwnPropertyDescriptor(object, key) as Partial<
      Record<'value' | 'get', unknown>
    >;
    const call = value ?? get;
    if (typeof call !== 'function' || isClass(call)) return [];
    const target = (self: unknown, args: unknown[]): unknown => Reflect.apply(call, self, args) as unknown;
    return [{ name: `${name}.${String(key)}`, owner, call: target, isConstructor: false }];
  });
}

function targetsOf(module: object): Target[] {
  return Object.entries(module).flatMap(([name, exported]: [string, unknown]): Target[] => {
    if (isClass(exported)) {
      const construct = (_: unknown, args: unknown[]): unknown =>
        Reflect.construct(exported, args) as unknown;
      return [
        { name: `new ${name}`, owner: undefined, call: construct, isConstructor: true },
        ...methodsOf(name, exported).map((target) => ({ ...target, owner: `class ${name}` })),
        ...methodsOf(`${name}.prototype`, exported.prototype, name),
      ];
    }
    if (typeof exported === 'function') {
      const call = (self: unknown, args: unknown[]): unknown =>
        Reflect.apply(exported, self, args) as unknown;
      const own = { name, owner: undefined, call, isConstructor: false };
      return [own, ...methodsOf(name, exported).filter((target) => !/\.(length|name)$/.test(target.name))];
    }
    if (typeof exported !== 'object' || exported === null) return [];
    return [
      ...methodsOf(name, exported),
      ...Object.entries(exported).flatMap(([key, inner]: [string, unknown]) =>
        typeof inner === 'object' && inner !== null ? methodsOf(`${name}.${key}`, inner) : [],
      ),
    ];
  });
}

/** What has methods, by its class: open ones that are made anew when a case has closed them. */
class Fleet {
  readonly #make: Record<string, () => unknown>;
  readonly #open: Record<string, { closed?: boolean } | undefined> = {};
  readonly #closed: Record<string, unknown> = {};
  constructor(make: Record<string, () => unknown>) {
    this.#make = make;
  }
  get names(): string[] {
    return Object.keys(this.#make);
  }
  /** An open one. */
  async refresh(): Promise<void> {
    for (const [name, make] of Object.entries(this.#make)) {
      const now = this.#open[name];
      if (now !== undefined && now.closed !== true) continue;
      this.#closed[name] = now;
      this.#open[name] = (await make()) as object;
    }
  }
  open(name: string): unknown {
    return this.#open[name];
  }
  closed(name: string): unknown {
    return this.#closed[name];
  }
}

let tee: TeeContext;
const own = (): TeeContext => fleet.open('TeeContext') as TeeContext;
/** Another copy of the package in this process: its objects are not ours. */
function otherCopy(): typeof client {
  const before = { ...require.cache };
  for (const path of Object.keys(require.cache)) {
    if (path.includes('/dist/')) Reflect.deleteProperty(require.cache, path);
  }
  const copy = require('node-optee') as typeof client; // eslint-disable-line @typescript-eslint/no-require-imports
  Object.assign(require.cache, before);
  return copy;
}
const copy = otherCopy();

const fleet: Fleet = new Fleet({
  TeeContext: () => TeeContext.open(),
  Session: () => own().openSession(TEST_TA),
  SharedMemory: () => own().allocSharedMemory(5000),
  SessionPool: () => own().pool(TEST_TA, { max: 2 }),
  DmaHeap: () => DmaHeap.open('system'),
  DmaBuf: () => (fleet.open('DmaHeap') as DmaHeap).alloc(5000),
  TestTa: () => TestTa.open(tee, { one: 1, two: 2, kept: 'x' }),
  'TeeContext of another copy': () => copy.TeeContext.open(),
  'SharedMemory of another context': () => tee.allocSharedMemory(100),
  'SharedMemory of another copy': () => (fleet.open('TeeContext of another copy') as TeeContext).allocSharedMemory(100), // prettier-ignore
  Pkcs11: () => pkcs11.Pkcs11.open({ context: tee }),
  Token: () => (fleet.open('Pkcs11') as pkcs11.Pkcs11).token({ slot: 2 }),
  TokenLogin: () => (fleet.open('Token') as pkcs11.Token).open(),
});

/** What the declarations do not have. Constructors are our own, too, but for those of errors. */
const INTERNAL = new Set([
  ...[
    'DmaBuf.make',
    'DmaBuf.use',
    'SharedMemory.alloc',
    'SharedMemory.register',
    'SharedMemory.registerDmaBuf',
  ],
  ...[
    'Session.make',
    'Session.conditionOf',
    'SessionPool.make',
    'Parameter.make',
    'Parameter.specOf',
    'Login.read',
  ],
  ...['TokenObject.referenceOf', 'TokenLogin.make', 'Token.make', 'TeeContext.prototype.statistics'],
]);
const isPublic = ({ name, isConstructor }: Target): boolean =>
  !INTERNAL.has(name) &&
  (!isConstructor || name.endsWith('Error')) &&
  !/\.prototype\.(signing|run|needs|reference)$/.test(name);

const TARGETS = [client, ta, pkcs11].flatMap(targetsOf).filter(isPublic);

const object = fc
  .tuple(fc.constantFrom(...fleet.names), fc.boolean())
  .map(([name, isOpen]) => new Wrong(`${isOpen ? 'open' : 'closed'} ${name}`, () => (isOpen ? fleet.open(name) : fleet.closed(name)) ?? null)); // prettier-ignore

const parameters = fc.constantFrom(
  new Wrong('value.in', () => value.in(5, 6)),
  new Wrong('value.inout', () => value.inout(1, 2)),
  new Wrong('buffer.in', () => buffer.in(new Uint8Array(16))),
  new Wrong('buffer.out', () => buffer.out(5000)),
  new Wrong('buffer.into', () => buffer.into(new Uint8Array(16))),
  new Wrong('a parameter of another copy', () => copy.value.in(1)),
  new Wrong('a class of parameters', () => Object.create(client.Parameter.prototype) as unknown),
  new Wrong('Login.user', () => Login.user),
  new Wrong('a login of another copy', () => copy.Login.user),
  new Wrong('the UUID', () => TEST_TA),
  new Wrong('the UUID of nothing', () => '00000000-0000-0000-0000-000000000000'),
  new Wrong('a described TA', () => TestTa),
);

const simple = fc.oneof(
  { weight: 4, arbitrary: wrong },
  { weight: 2, arbitrary: object },
  { weight: 2, arbitrary: parameters },
);

const KEYS = [
  ...[
    'signal',
    'wipe',
    'login',
    'params',
    'offset',
    'size',
    'max',
    'idle',
    'path',
    'threads',
    'own',
    'context',
  ],
  ...[
    'temporaryMemory',
    'slot',
    'label',
    'serialNumber',
    'pin',
    'soPin',
    'identity',
    'gid',
    'id',
    'token',
    'type',
  ],
  ...[
    'length',
    'namedCurve',
    'usages',
    'iv',
    'padding',
    'name',
    'uuid',
    'commands',
    'results',
    'open',
    'slots',
  ],
];

/** Objects and arrays of such values. */
const argument = fc.oneof(
  { weight: 5, arbitrary: simple },
  {
    weight: 2,
    arbitrary: fc
      .array(fc.tuple(fc.constantFrom(...KEYS), simple), { minLength: 1, maxLength: 3 })
      .map((entries) => {
        const name = `{ ${entries.map(([key, { name }]) => `${key}: ${name}`).join(', ')} }`;
        return new Wrong(name, () => Object.fromEntries(entries.map(([key, { make }]) => [key, make()])));
      }),
  },
  {
    weight: 2,
    arbitrary: fc
      .array(simple, { minLength: 1, maxLength: 5 })
      .map((items) => new Wrong(`[${items.map(({ name }) => name).join(', ')}]`, () => items.map(({ make }) => make()))), // prettier-ignore
  },
);

interface Case {
  readonly target: number;
  readonly self: Wrong | null;
  readonly isOpen: boolean;
  readonly args: Wrong[];
}
const oneCase: fc.Arbitrary<Case> = fc.record({
  target: fc.nat(TARGETS.length - 1),
  self: fc.option(argument, { freq: 3, nil: null }),
  isOpen: fc.nat(3).map((n) => n > 0),
  args: fc.array(argument, { maxLength: 4 }),
});

/**
 * Is it an error that a user can make something of?
 * @param isBorrowed has the method an object that is not of its class? The language itself says so then
 */
function isExpected(error: unknown, { isConstructor }: Target, isBorrowed: boolean): boolean {
  if (error instanceof Touched || hasCode(error)) return true;
  // Errors, say, are constructed by us only.
  return error instanceof Error && (isConstructor || (isBorrowed && error instanceof TypeError));
}

/** Closes what a case has made, and nothing else. */
async function discard(result: unknown): Promise<void> {
  if (typeof result !== 'object' || result === null) return;
  for (const one of Array.isArray(result) ? (result as unknown[]) : [result]) {
    if (one === null || fleet.names.some((name) => fleet.open(name) === one)) continue;
    if (!(one instanceof TeeContext || one instanceof client.Session || one instanceof client.SharedMemory)) {
      if (!(one instanceof DmaHeap || one instanceof client.DmaBuf || one instanceof client.SessionPool)) {
        if (!(one instanceof pkcs11.Pkcs11 || one instanceof pkcs11.TokenLogin)) continue;
      }
    }
    await one.close();
  }
}

const counts = { done: 0, refused: 0 };

async function runCase({ target, self, isOpen, args }: Case): Promise<void> {
  const called = TARGETS[target];
  const { name, owner } = called;
  const what = (): string => `${name} of ${self?.name} with ${args.map((arg) => arg.name).join(', ')}`;
  await fleet.refresh();
  const usual = thisOf(owner, isOpen);
  try {
    const result = called.call(self === null ? usual : self.make(), tamed(name, args));
    await discard(await within(Promise.resolve(result), what));
    counts.done++;
  } catch (error) {
    const isBorrowed = owner !== undefined && (self !== null || usual === undefined);
    if (!isExpected(error, called, isBorrowed)) {
      throw new Error(`${what()} ended with no error of ours`, { cause: error });
    }
    counts.refused++;
  }
}

/** What a method is usually called on. */
function thisOf(owner: string | undefined, isOpen: boolean): unknown {
  if (owner === undefined) return undefined;
  const [isStatic, name = ''] = owner.split(' ');
  if (isStatic === 'class') return { ...client, ...pkcs11 }[name as 'TeeContext'];
  return isOpen ? fleet.open(owner) : fleet.closed(owner);
}

/** Nothing that waits in the TEE for long, or takes over a descriptor that is not ours. */
function tamed(name: string, args: readonly Wrong[]): unknown[] {
  const values = args.map(({ make }) => make());
  const limit = /alloc|randomBytes/.test(name) ? 1e6 : Infinity;
  return values.map((value) => (typeof value === 'number' && value > limit ? 5000 : value));
}

void runAbuse(async () => {
  tee = TeeContext.open();
  const echo = new Echo(await tee.openSession(TEST_TA));
  await fleet.refresh();
  let at = 0;
  const cases = await checkProperty(oneCase, async (one) => {
    echo.ask();
    await runCase(one);
    echo.check();
    await echo.settled();
    if (at++ % 16 === 0) checkBorders();
  });
  return { cases, ...counts, targets: TARGETS.length };
}).then(() => process.exit());
