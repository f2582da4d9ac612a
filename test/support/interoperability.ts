/** What the host and a program of the guest's have in common: see test/long/interoperability.test.ts. */
export const SO_PIN = 'security officer';
export const PIN = 'user-1234';
export const CURVES = ['P-256', 'P-384', 'P-521'] as const;

/** What is signed and encrypted: whole blocks. */
export const TEXT = Buffer.from('some text of both, in two blocks');
export const IV = Buffer.from('an initial value');
/** A key of AES-256, or of HMAC. */
export const SECRET = Buffer.alloc(32, 'a secret of both');
export const DATA = Buffer.from('data of both');
