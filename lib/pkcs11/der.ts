/** The little of ASN.1's DER that PKCS #11 needs. */

/** One element: its tag, all of its bytes, and its content. */
export interface Element {
  readonly tag: number;
  readonly all: Buffer;
  readonly content: Buffer;
}

export const OCTET_STRING = 0x04;
const INTEGER = 0x02;
const SEQUENCE = 0x30;

/** The elements one after the other in some bytes; undefined if they are not well formed. */
export function readElements(bytes: Buffer): Element[] | undefined {
  const elements: Element[] = [];
  for (let at = 0; at < bytes.length;) {
    const [tag, first] = [bytes[at], bytes[at + 1]];
    if (tag === undefined || first === undefined) return undefined;
    let from = at + 2;
    let size = first;
    if (first >= 0x80) {
      const digits = first & 0x7f;
      if (digits === 0 || digits > 4 || from + digits > bytes.length) return undefined;
      size = bytes.readUIntBE(from, digits);
      from += digits;
    }
    const end = from + size;
    if (end > bytes.length) return undefined;
    elements.push({ tag, all: bytes.subarray(at, end), content: bytes.subarray(from, end) });
    at = end;
  }
  return elements;
}

/** The content of the only element, if it has that tag. */
export function contentOf(bytes: Buffer, tag: number): Buffer | undefined {
  const elements = readElements(bytes);
  return elements?.length === 1 && elements[0]?.tag === tag ? elements[0].content : undefined;
}

/** An element of less than 64 KiB. */
export function writeElement(tag: number, content: Uint8Array): Buffer {
  const { length } = content;
  let head = [tag, length];
  if (length >= 0x100) head = [tag, 0x82, length >> 8, length & 0xff];
  else if (length >= 0x80) head = [tag, 0x81, length];
  return Buffer.concat([Uint8Array.from(head), content]);
}

/** A positive INTEGER without leading zeros. */
function writeInteger(bytes: Buffer): Buffer {
  let from = 0;
  while (from < bytes.length - 1 && bytes[from] === 0) from++;
  const number = bytes.subarray(from);
  const sign = (number[0] as number) >= 0x80 ? [Uint8Array.of(0)] : [];
  return writeElement(INTEGER, Buffer.concat([...sign, number]));
}

/** An ECDSA signature: r and s of the same size, one after the other, to DER. */
export function signatureToDer(signature: Buffer): Buffer {
  const half = signature.length / 2;
  const both = [writeInteger(signature.subarray(0, half)), writeInteger(signature.subarray(half))];
  return writeElement(SEQUENCE, Buffer.concat(both));
}

/** The reverse; undefined if it is no signature with numbers of at most `size` bytes. */
export function signatureFromDer(der: Buffer, size: number): Buffer | undefined {
  const content = contentOf(der, SEQUENCE);
  const numbers = content && readElements(content);
  if (numbers?.length !== 2) return undefined;
  const signature = Buffer.alloc(2 * size);
  for (const [i, { tag, content: number }] of numbers.entries()) {
    const bytes = number[0] === 0 && number.length > 1 ? number.subarray(1) : number;
    if (tag !== INTEGER || bytes.length === 0 || bytes.length > size) return undefined;
    signature.set(bytes, (i + 1) * size - bytes.length);
  }
  return signature;
}

/** Parts of an X.509 certificate that a token wants beside it, in DER. */
export interface CertificateNames {
  readonly serialNumber: Buffer;
  readonly issuer: Buffer;
  readonly subject: Buffer;
}

/** @param der a certificate that somebody else has found well formed */
export function certificateNames(der: Buffer): CertificateNames | undefined {
  const certificate = contentOf(der, SEQUENCE);
  const toBeSigned = certificate && readElements(certificate)?.[0];
  const fields = toBeSigned && readElements(toBeSigned.content);
  if (fields === undefined) return undefined;
  // Version 1 certificates have no version.
  const [serialNumber, , issuer, , subject] = fields[0]?.tag === 0xa0 ? fields.slice(1) : fields;
  if (serialNumber === undefined || issuer === undefined || subject === undefined) return undefined;
  return { serialNumber: serialNumber.all, issuer: issuer.all, subject: subject.all };
}
