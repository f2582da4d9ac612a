/** Objects of a token: how they are found, read and destroyed. */
import { inspect } from 'node:util';
import { invalidArgType, invalidArgValue } from '../client/errors.js';
import { checkKnown, checkSignal, checkString } from '../client/validate.js';
import type { Application, Turn } from './application.js';
import { Attribute, CKR, Command, ObjectClass } from './constants.js';
import { gone, isResult, notFound, Pkcs11Error } from './errors.js';
import {
  decodeAttributes,
  decodeHandle,
  decodeSizes,
  decodeU32s,
  encodeTemplate,
  encodeWanted,
  pack,
  u32s,
  type Template,
  type Wanted,
} from './serializer.js';
import type { Question } from './wire.js';

/** What an object can be found by. At least one of them. */
export interface ObjectQuery {
  /** CKA_ID: bytes, or hexadecimal digits. */
  id?: Uint8Array | string | undefined;
  /** CKA_LABEL */
  label?: string | undefined;
  /** Aborts it while it waits for its turn. */
  signal?: AbortSignal | undefined;
}

/** Aborts an operation. */
export interface OperationOptions {
  /** Aborts it while it waits for its turn, or between two parts of large data. A call that the TA is at goes on. */
  signal?: AbortSignal | undefined;
}

/**
 * The bytes of an id.
 * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
 */
export function readId(id: unknown, name: string): Buffer {
  if (id instanceof Uint8Array) return Buffer.from(id);
  if (typeof id !== 'string') throw invalidArgType(name, 'a Uint8Array or hexadecimal digits', id);
  if (!/^([0-9a-f]{2})+$/i.test(id)) throw invalidArgValue(name, id, 'must be pairs of hexadecimal digits');
  return Buffer.from(id, 'hex');
}

/**
 * Options that a call cannot do without, with these names only.
 * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
 */
export function checkNeeded(options: unknown, name: string, names: readonly string[]): void {
  if (options === undefined) throw invalidArgType(name, 'an object', options);
  checkKnown(options, name, names);
}

/** A query, read once. */
export interface ReadQuery {
  readonly id: Buffer | undefined;
  readonly label: string | undefined;
  readonly signal: AbortSignal | undefined;
}

/** @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE */
export function readQuery(query: ObjectQuery, needed: boolean): ReadQuery {
  checkNeeded(query, 'query', ['id', 'label', 'signal']);
  const { id, label } = query;
  const read = {
    id: id === undefined ? undefined : readId(id, 'query.id'),
    label: label === undefined ? undefined : checkString(label, 'query.label'),
    signal: readSignal(query, 'query'),
  };
  if (needed && read.id === undefined && read.label === undefined) {
    throw invalidArgValue('query', undefined, 'must have an id or a label');
  }
  return read;
}

/** What an object is found by; undefined: by anything. */
type Names = Pick<ReadQuery, 'id' | 'label'>;

/** What is looked for. */
export function queryTemplate(objectClass: ObjectClass, { id, label }: Names): Template {
  return [
    [Attribute.CLASS, objectClass],
    [Attribute.ID, id],
    [Attribute.LABEL, label === undefined ? undefined : Buffer.from(label, 'utf8')],
  ];
}

export function describeQuery(what: string, { id, label }: Names): string {
  const by = [
    ...(id === undefined ? [] : [`id ${id.toString('hex')}`]),
    ...(label === undefined ? [] : [`label ${inspect(label)}`]),
  ];
  return by.length === 0 ? what : `${what} with ${by.join(' and ')}`;
}

/**
 * The signal of an operation, read once.
 * @throws TypeError ERR_INVALID_ARG_TYPE
 */
export function readSignal({ signal }: OperationOptions, name = 'options'): AbortSignal | undefined {
  return signal === undefined ? undefined : checkSignal(signal, `${name}.signal`);
}

/** How many handles there is room for at first. */
const HANDLES = 256;

/** The handles of all objects that have these attributes and that this login sees. */
export async function find(turn: Turn, template: Template, asked: string): Promise<number[]> {
  for (let room = HANDLES; ; room *= 4) {
    const control = pack(turn.handle, encodeTemplate(template));
    const init = turn.ask({ command: Command.FIND_OBJECTS_INIT, control, asked });
    const found = turn.ask({
      command: Command.FIND_OBJECTS,
      control: u32s(turn.handle),
      room: room * 4,
      asked,
    });
    const final = turn.ask({ command: Command.FIND_OBJECTS_FINAL, control: u32s(turn.handle), asked });
    const results = await Promise.allSettled([init, found, final]);
    const failed = results.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    const handles = decodeU32s(await found, asked);
    if (handles.length < room) return handles;
  }
}

/**
 * The values of attributes of an object, without those that it does not have or does not give away. Asks for the sizes
 * first: an answer with too little room would bring back nothing.
 */
export async function readAttributes(
  turn: Turn,
  object: number,
  ids: readonly number[],
  asked: string,
  secret = false,
): Promise<Map<number, Buffer>> {
  const partial = [CKR.CKR_ATTRIBUTE_SENSITIVE, CKR.CKR_ATTRIBUTE_TYPE_INVALID];
  const get = (wanted: readonly Wanted[]): Promise<Uint8Array> => {
    const encoded = encodeWanted(wanted);
    const control = pack(turn.handle, object, encoded);
    const question = { command: Command.GET_ATTRIBUTE_VALUE, control, room: encoded.length, asked, secret };
    return turn.ask(question, partial);
  };
  for (let again = false; ; again = true) {
    const none = ids.map((id) => ({ id, room: 0 }));
    const sizes = decodeSizes(await get(none), none, asked);
    const wanted = sizes.filter(({ room }) => room > 0);
    try {
      const answer = wanted.length === 0 ? undefined : await get(wanted);
      const values =
        answer === undefined ? new Map<number, Buffer>() : decodeAttributes(answer, wanted, asked);
      if (secret) answer?.fill(0);
      for (const { id, room } of sizes) if (room === 0) values.set(id, Buffer.alloc(0));
      return values;
    } catch (error) {
      // Somebody has changed it since.
      if (again || !isResult(error, CKR.CKR_BUFFER_TOO_SMALL)) throw error;
    }
  }
}

/** What every object has. */
const COMMON = [Attribute.CLASS, Attribute.TOKEN, Attribute.PRIVATE, Attribute.LABEL, Attribute.ID] as const;

/** What every object of a class has besides. */
const OF_CLASS: Record<ObjectClass, readonly number[]> = {
  [ObjectClass.DATA]: [Attribute.APPLICATION, Attribute.OBJECT_ID],
  [ObjectClass.CERTIFICATE]: [Attribute.VALUE],
  [ObjectClass.PUBLIC_KEY]: [
    Attribute.KEY_TYPE,
    Attribute.EC_PARAMS,
    Attribute.EC_POINT,
    Attribute.MODULUS,
    Attribute.PUBLIC_EXPONENT,
  ],
  [ObjectClass.PRIVATE_KEY]: [
    Attribute.KEY_TYPE,
    Attribute.EC_PARAMS,
    Attribute.EC_POINT,
    Attribute.MODULUS,
    Attribute.PUBLIC_EXPONENT,
    Attribute.SENSITIVE,
    Attribute.EXTRACTABLE,
  ],
  [ObjectClass.SECRET_KEY]: [
    Attribute.KEY_TYPE,
    Attribute.VALUE_LEN,
    Attribute.CHECK_VALUE,
    Attribute.SENSITIVE,
    Attribute.EXTRACTABLE,
  ],
};

/** Attributes that were read, with the names of their types. */
export class Attributes {
  readonly #values: Map<number, Buffer>;
  constructor(values: Map<number, Buffer>) {
    this.#values = values;
  }
  bytes(id: number): Buffer | undefined {
    const value = this.#values.get(id);
    return value === undefined || value.length === 0 ? undefined : value;
  }
  text(id: number): string {
    return this.#values.get(id)?.toString('utf8') ?? '';
  }
  number(id: number): number | undefined {
    const value = this.#values.get(id);
    return value?.length === 4 ? value.readUInt32LE() : undefined;
  }
  boolean(id: number): boolean {
    return this.#values.get(id)?.[0] === 1;
  }
  equals(other: Attributes): boolean {
    const [own, others] = [this.#values, other.#values];
    return own.size === others.size && [...own].every(([id, value]) => others.get(id)?.equals(value));
  }
}

/** Reads what the class of an object is made of. */
export async function describeObject(
  turn: Turn,
  object: number,
  objectClass: ObjectClass,
  asked: string,
): Promise<Attributes> {
  return new Attributes(await readAttributes(turn, object, [...COMMON, ...OF_CLASS[objectClass]], asked));
}

/**
 * One object of a token, wherever its handle is: the TA forgets handles when it dies, and a token object is found again by
 * its class, id and label. Somebody can have erased the token meanwhile, and have made another object with that name: it is
 * not taken for this one.
 */
export class ObjectReference {
  readonly app: Application;
  readonly objectClass: ObjectClass;
  readonly id: Buffer;
  readonly label: string;
  /** Is it kept on the token, or is it of this session? */
  readonly token: boolean;
  readonly isPrivate: boolean;
  /** Is an object that looks the same still the same? Set where its attributes do not say so. */
  isStill: ((turn: Turn) => Promise<boolean>) | undefined;
  readonly #attributes: Attributes;
  #handle: number;
  #generation: number;

  constructor(
    app: Application,
    objectClass: ObjectClass,
    handle: number,
    generation: number,
    attributes: Attributes,
  ) {
    this.app = app;
    this.objectClass = objectClass;
    this.id = Buffer.from(attributes.bytes(Attribute.ID) ?? []);
    this.label = attributes.text(Attribute.LABEL);
    this.token = attributes.boolean(Attribute.TOKEN);
    this.isPrivate = attributes.boolean(Attribute.PRIVATE);
    this.#attributes = attributes;
    this.#handle = handle;
    this.#generation = generation;
  }

  /** Its handle for this turn. */
  async handle(turn: Turn, asked: string): Promise<number> {
    if (this.#generation === turn.generation) return this.#handle;
    if (!this.token) {
      throw new Pkcs11Error({
        value: CKR.CKR_OBJECT_HANDLE_INVALID,
        asked,
        hint: 'the PKCS#11 TA died, and with it all session objects. Make it again, or keep it on the token',
      });
    }
    const template: Template = [...queryTemplate(this.objectClass, this.#names), [Attribute.TOKEN, true]];
    const same: number[] = [];
    for (const handle of await find(turn, template, asked)) {
      const its = await describeObject(turn, handle, this.objectClass, asked);
      if (its.equals(this.#attributes)) same.push(handle);
    }
    if (same.length > 1) throw notFound(describeQuery('object', this.#names), same.length);
    if (same.length === 0 || (await this.isStill?.(turn)) === false) throw gone(this.toString());
    this.#handle = same[0] as number;
    this.#generation = turn.generation;
    return this.#handle;
  }

  toString(): string {
    return describeQuery(CLASS_NAMES[this.objectClass], this.#names);
  }

  get #names(): Names {
    return {
      id: this.id.length > 0 ? this.id : undefined,
      label: this.label === '' ? undefined : this.label,
    };
  }
}

/** An object that was found or made. */
export interface Found {
  readonly reference: ObjectReference;
  readonly attributes: Attributes;
}

/** Reads what a handle stands for. */
export async function objectAt(
  app: Application,
  turn: Turn,
  handle: number,
  objectClass: ObjectClass,
  asked: string,
): Promise<Found> {
  const attributes = await describeObject(turn, handle, objectClass, asked);
  return {
    reference: new ObjectReference(app, objectClass, handle, turn.generation, attributes),
    attributes,
  };
}

/** Makes an object. @returns its handle */
export async function make(turn: Turn, question: Omit<Question, 'room'>): Promise<number> {
  return decodeHandle(await turn.effect({ ...question, room: 4 }), question.asked);
}

export const CLASS_NAMES: Record<ObjectClass, string> = {
  [ObjectClass.DATA]: 'data object',
  [ObjectClass.CERTIFICATE]: 'certificate',
  [ObjectClass.PUBLIC_KEY]: 'public key',
  [ObjectClass.PRIVATE_KEY]: 'private key',
  [ObjectClass.SECRET_KEY]: 'secret key',
};

/** What is kept on a token, or in a login's session. Never holds a secret. */
export abstract class TokenObject {
  /** CKA_ID: what belongs together (a key pair and its certificate) has the same. Empty if it has none. */
  readonly id: Buffer;
  /** CKA_LABEL */
  readonly label: string;
  /** CKA_TOKEN: is it kept on the token? If not, it ends with the login. */
  readonly token: boolean;
  /** CKA_PRIVATE: is it seen only by a user who is logged in? */
  readonly private: boolean;
  readonly #reference: ObjectReference;

  /** @internal */
  constructor(reference: ObjectReference) {
    this.id = Buffer.from(reference.id); // the caller's, who can write into it
    this.label = reference.label;
    this.token = reference.token;
    this.private = reference.isPrivate;
    this.#reference = reference;
  }

  /** @internal */
  protected get reference(): ObjectReference {
    return this.#reference;
  }

  /** @internal */
  static referenceOf(object: unknown): ObjectReference | undefined {
    return typeof object === 'object' && object !== null && #reference in object
      ? object.#reference
      : undefined;
  }

  /**
   * Removes it from the token, for good.
   * @throws (rejects with) Pkcs11Error
   */
  async destroy(options: OperationOptions = {}): Promise<void> {
    checkKnown(options, 'options', ['signal']);
    const signal = readSignal(options);
    const { reference } = this;
    const asked = `the destruction of ${this.toString()}`;
    await reference.app.operate(
      async (turn) => {
        const control = u32s(turn.handle, await reference.handle(turn, asked));
        await turn.effect({ command: Command.DESTROY_OBJECT, control, asked });
      },
      { asked, signal },
    );
  }

  toString(): string {
    return this.#reference.toString();
  }
}

/** An object's reference. @throws TypeError ERR_INVALID_ARG_TYPE */
export function referenceOf(object: unknown, name: string, expected: string): ObjectReference {
  const reference = TokenObject.referenceOf(object);
  if (reference === undefined) throw invalidArgType(name, expected, object);
  return reference;
}
