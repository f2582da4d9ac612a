// The same objects under an ES module's roof: a second copy of the classes would break `instanceof`.
export {
  Certificate,
  CKR,
  DataObject,
  Pkcs11,
  PKCS11_TA,
  Pkcs11Error,
  PrivateKey,
  PublicKey,
  SecretKey,
  Token,
  TokenLogin,
  TokenObject,
} from './index.js';
export type * from './index.js';
