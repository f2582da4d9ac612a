/** What a token keeps beside keys: certificates, and data of any kind. */
import { X509Certificate } from 'node:crypto';
import { invalidArgType, invalidArgValue } from '../client/errors.js';
import { checkBoolean, checkKnown } from '../client/validate.js';
import type { Application, Turn } from './application.js';
import { Attribute, CERTIFICATE_X509, ObjectClass } from './constants.js';
import { certificateNames } from './der.js';
import { readBytes } from './mechanisms.js';
import {
  classAttribute,
  NEW_OBJECT_OPTIONS,
  readNew,
  readText,
  type NewObject,
  type NewObjectOptions,
} from './new-objects.js';
import {
  objectAt,
  readAttributes,
  readSignal,
  TokenObject,
  type Found,
  type OperationOptions,
} from './objects.js';

/** A certificate of a token. */
export class Certificate extends TokenObject {
  /** The certificate in DER. */
  readonly raw: Buffer;
  #x509: X509Certificate | undefined;

  /** @internal */
  constructor({ reference, attributes }: Found) {
    super(reference);
    this.raw = attributes.bytes(Attribute.VALUE) ?? Buffer.alloc(0);
  }

  /**
   * For node:crypto.
   * @throws what X509Certificate does where the token has something else under that name
   */
  get x509(): X509Certificate {
    this.#x509 ??= new X509Certificate(this.raw);
    return this.#x509;
  }

  /** For the option `cert` of node:tls. */
  get pem(): string {
    const lines = this.raw.toString('base64').replace(/.{64}(?=.)/g, '$&\n');
    return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`;
  }
}

export async function certificateAt(
  app: Application,
  turn: Turn,
  handle: number,
  asked: string,
): Promise<Certificate> {
  return new Certificate(await objectAt(app, turn, handle, ObjectClass.CERTIFICATE, asked));
}

/** @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE */
export function newCertificate(certificate: unknown, options: NewObjectOptions): NewObject {
  checkKnown(options, 'options', NEW_OBJECT_OPTIONS);
  const der = readCertificate(certificate);
  const names = certificateNames(der);
  if (names === undefined) throw invalidArgValue('certificate', undefined, 'is no X.509 certificate');
  const { attributes, token, signal } = readNew(options);
  return {
    token,
    signal,
    template: [
      ...classAttribute(ObjectClass.CERTIFICATE),
      ...attributes,
      [Attribute.PRIVATE, false],
      [Attribute.CERTIFICATE_TYPE, CERTIFICATE_X509],
      [Attribute.SUBJECT, names.subject],
      [Attribute.ISSUER, names.issuer],
      [Attribute.SERIAL_NUMBER, names.serialNumber],
      [Attribute.VALUE, der],
    ],
  };
}

function readCertificate(certificate: unknown): Buffer {
  if (certificate instanceof X509Certificate) return certificate.raw;
  if (typeof certificate !== 'string' && !(certificate instanceof Uint8Array)) {
    throw invalidArgType('certificate', 'DER or PEM, or an X509Certificate', certificate);
  }
  try {
    return new X509Certificate(certificate).raw;
  } catch (error) {
    throw invalidArgValue('certificate', undefined, `is no X.509 certificate: ${(error as Error).message}`);
  }
}

/** How a data object is made. */
export interface NewDataOptions extends Omit<NewObjectOptions, 'id'> {
  /** CKA_APPLICATION: whose it is. */
  application?: string | undefined;
  /** CKA_PRIVATE: only the user who is logged in sees it, true unless told otherwise. */
  private?: boolean | undefined;
}

/** Data of any kind that a token keeps, at most 4 KiB or so. */
export class DataObject extends TokenObject {
  /** CKA_APPLICATION */
  readonly application: string;

  /** @internal */
  constructor({ reference, attributes }: Found) {
    super(reference);
    this.application = attributes.text(Attribute.APPLICATION);
  }

  /**
   * Its content.
   * @throws (rejects with) Pkcs11Error, …
   */
  async read(options: OperationOptions = {}): Promise<Buffer> {
    checkKnown(options, 'options', ['signal']);
    const asked = `the content of ${this.toString()}`;
    return this.reference.app.operate(
      async (turn) => {
        const handle = await this.reference.handle(turn, asked);
        const values = await readAttributes(turn, handle, [Attribute.VALUE], asked, true);
        return values.get(Attribute.VALUE) ?? Buffer.alloc(0);
      },
      { asked, signal: readSignal(options) },
    );
  }
}

export async function dataObjectAt(
  app: Application,
  turn: Turn,
  handle: number,
  asked: string,
): Promise<DataObject> {
  return new DataObject(await objectAt(app, turn, handle, ObjectClass.DATA, asked));
}

/** @throws TypeError ERR_INVALID_ARG_TYPE */
export function newData(data: unknown, options: NewDataOptions): NewObject {
  checkKnown(options, 'options', ['label', 'token', 'application', 'private', 'signal']);
  const { application, private: isPrivate = true } = options;
  const value = readBytes(data, 'data');
  const { attributes, token, signal } = readNew(options);
  return {
    token,
    signal,
    template: [
      ...classAttribute(ObjectClass.DATA),
      // Data has no CKA_ID.
      ...attributes.filter(([id]) => id !== Attribute.ID),
      [Attribute.PRIVATE, checkBoolean(isPrivate, 'options.private')],
      [Attribute.APPLICATION, readText(application, 'options.application')],
      [Attribute.VALUE, value],
    ],
  };
}
