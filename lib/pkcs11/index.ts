// Kept in the declarations: they have Buffer and KeyObject, and TypeScript 6 takes no types by itself.
/// <reference types="node" preserve="true" />
/// <reference lib="esnext.disposable" preserve="true" />
/**
 * A client of OP-TEE's PKCS#11 TA: keys that never leave the TEE.
 * @packageDocumentation
 */
export { Certificate, DataObject } from './certificates.js';
export type { NewDataOptions } from './certificates.js';
export { CKR, PKCS11_TA } from './constants.js';
export { Pkcs11Error } from './errors.js';
export type { Identity, NamedIdentity, Pin } from './identity.js';
export { PrivateKey, PublicKey } from './key-pairs.js';
export type { DeriveKeyOptions } from './key-pairs.js';
export type { CipherOptions, OaepOptions, SignOptions } from './mechanisms.js';
export type { KeyUsage, NewKeyOptions, NewObjectOptions } from './new-objects.js';
export { TokenObject } from './objects.js';
export type { ObjectQuery, OperationOptions } from './objects.js';
export type { Data } from './operations.js';
export { Pkcs11 } from './pkcs11.js';
export type { Pkcs11Options, TokenQuery } from './pkcs11.js';
export { SecretKey } from './secret-keys.js';
export type { GcmAlgorithm } from './secret-keys.js';
export { Token } from './token.js';
export type { InitializeOptions, LoginOptions, TokenInfo } from './token.js';
export { TokenLogin } from './token-login.js';
export type { ImportSecretKeyOptions, KeyPair, KeyPairOptions, SecretKeyOptions } from './token-login.js';
export type { UnwrapKeyOptions, UnwrapPrivateKeyOptions } from './wrapping.js';
