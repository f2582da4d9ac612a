/** How the keys of a pair sign and check. */
import { constants, createVerify, type KeyObject } from 'node:crypto';
import { invalidArgType, invalidArgValue, notSupported } from '../client/errors.js';
import { Mechanism } from './constants.js';
import {
  EDDSA,
  readDigest,
  readDsaEncoding,
  rsaSignature,
  type Digest,
  type SignOptions,
} from './mechanisms.js';
import { feed, hash, type Bytes, type Operation } from './operations.js';
import type { KeyKind } from './public-keys.js';
import type { MechanismWithParameters } from './serializer.js';

/** How a signature is made or checked. */
export interface Signing {
  readonly mechanism: MechanismWithParameters;
  /** What the mechanism takes: a digest, or the data itself. Computed when it is called. */
  readonly input: (operation: Pick<Operation, 'asked' | 'signal'>) => Promise<Buffer>;
  /** Bytes of the signature as the TA has it. */
  readonly size: number;
  /** Is the caller's signature the TA's? Else it is DER. */
  readonly ieee: boolean;
  /** Set where the length of RSA PSS's salt is to be found out: the TA cannot. */
  readonly autoSalt?: Digest | undefined;
}

/**
 * @param what the key, for errors
 * @throws TypeError, RangeError; ERR_TEE_NOT_SUPPORTED
 */
export function readSigning(
  { type, curve, modulusSize = 0 }: KeyKind,
  algorithm: unknown,
  data: Bytes,
  options: SignOptions,
  { checks, what }: { checks: boolean; what: string },
): Signing {
  const dsaEncoding = readDsaEncoding(options);
  switch (type) {
    case 'ed25519':
      if (algorithm !== undefined && algorithm !== null) {
        throw invalidArgValue(
          'algorithm',
          algorithm,
          'must be undefined or null: Ed25519 has a digest of its own',
        );
      }
      if (!Buffer.isBuffer(data)) {
        throw invalidArgType('data', 'a Uint8Array: Ed25519 needs all of it at once', data);
      }
      return { mechanism: EDDSA, input: () => Promise.resolve(data), size: 64, ieee: true };
    case 'ec': {
      const digest = readDigest(algorithm ?? 'sha256', 'algorithm');
      return {
        mechanism: { id: Mechanism.ECDSA },
        input: (operation) => hash(digest, data, operation),
        size: 2 * (curve?.size ?? 0),
        ieee: dsaEncoding === 'ieee-p1363',
      };
    }
    case 'rsa': {
      const digest = readDigest(algorithm ?? 'sha256', 'algorithm');
      const { mechanism, prefix, autoSalt } = rsaSignature(options, digest, modulusSize, checks);
      return {
        mechanism,
        input: async (operation) => Buffer.concat([prefix, await hash(digest, data, operation)]),
        size: modulusSize,
        ieee: true,
        autoSalt: autoSalt ? digest : undefined,
      };
    }
    default:
      throw notSupported(`${what} is of a kind that this client does not know`);
  }
}

/** Checks a signature of RSA PSS with a salt of any length, in this process. */
export async function verifyAnySalt(
  key: KeyObject,
  digest: Digest,
  data: Bytes,
  signature: Buffer,
  operation: Pick<Operation, 'asked' | 'signal'>,
): Promise<boolean> {
  const { RSA_PKCS1_PSS_PADDING: padding, RSA_PSS_SALTLEN_AUTO: saltLength } = constants;
  const verifying = await feed(createVerify(digest.name), data, operation);
  return verifying.verify({ key, padding, saltLength }, signature);
}
