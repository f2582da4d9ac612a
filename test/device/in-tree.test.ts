/** TAs and pseudo TAs of OP-TEE's own that the guest has, as boards do. */
import { constants, createPublicKey, randomBytes, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { buffer, value, type Session } from 'node-optee';
import { useTee, withSession } from '../support/device.js';

const guest = useTee();

const PKCS11 = 'fd02c9da-306c-48c7-a49c-bbd827ae86ee';
const ATTESTATION = '39800861-182a-4720-9b67-2bcd622bc0b5';
const STATS = 'd96a5b40-e2c7-b1af-8794-1002a5d5c61b';

/** A UUID as a TA sees it: TEE_UUID, little-endian. */
function struct(uuid: string): Buffer {
  const bytes = Buffer.from(uuid.replaceAll('-', ''), 'hex');
  bytes.subarray(0, 4).reverse();
  bytes.subarray(4, 6).reverse();
  bytes.subarray(6, 8).reverse();
  return bytes;
}

describe('the PKCS#11 TA', () => {
  /** Its commands take a control block in, whose place the result has afterwards. */
  async function ask(session: Session, command: number, control: number, size: number): Promise<Buffer> {
    const block = Buffer.alloc(4);
    block.writeUInt32LE(control);
    const [result, , out] = await session.invoke(command, [buffer.inout(block), undefined, buffer.out(size)]);
    expect(Buffer.from(result).readUInt32LE()).toBe(0);
    return Buffer.from(out);
  }

  test('answers, and has three tokens that nobody has initialized', () =>
    withSession(
      guest.tee,
      async (session) => {
        const version = await ask(session, 0, 0, 12);
        expect(version).toHaveLength(12);
        const slots = await ask(session, 1, 0, 64);
        expect([0, 4, 8].map((at) => slots.readUInt32LE(at))).toEqual([0, 1, 2]);
        expect(slots).toHaveLength(12);
        for (const slot of [0, 1, 2]) {
          const info = await ask(session, 3, slot, 160);
          expect(info).toHaveLength(160);
          expect(info.subarray(32, 64).toString()).toMatch(/^Linaro +$/);
        }
      },
      PKCS11,
    ));
});

describe('the attestation PTA', () => {
  const PSS_SHA256 = 0x70414930;

  test('signs what the signed header of a TA says', async () => {
    await withSession(
      guest.tee,
      async (session) => {
        // The key is made at its first use.
        const [e, n, algorithm] = await session.invoke(0, [buffer.out(8), buffer.out(1024), value.out()]);
        expect(algorithm.a).toBe(PSS_SHA256);
        const nonce = randomBytes(16);
        const [, , answer] = await session.invoke(1, [
          buffer.in(struct(PKCS11)),
          buffer.in(nonce),
          buffer.out(32 + n.length),
        ]);
        const digest = answer.subarray(0, 32);
        // The header: magic, type and size of the image, algorithm, two sizes; then the digest.
        const ta = readFileSync(`/usr/lib/optee_armtz/${PKCS11}.ta`);
        expect(Buffer.compare(digest, ta.subarray(20, 52))).toBe(0);
        const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url');
        const key = createPublicKey({ key: { kty: 'RSA', e: base64(e), n: base64(n) }, format: 'jwk' });
        const padding = constants.RSA_PKCS1_PSS_PADDING;
        const signed = (bytes: Uint8Array): boolean =>
          verify('sha256', bytes, { key, padding, saltLength: 32 }, answer.subarray(32));
        expect(signed(Buffer.concat([nonce, digest]))).toBe(true);
        expect(signed(Buffer.concat([randomBytes(16), digest]))).toBe(false);
      },
      ATTESTATION,
    );
  }, 300_000);
});

describe('the statistics PTA', () => {
  const ENTRY = 88;

  test('counts the sessions of a TA', () =>
    withSession(
      guest.tee,
      async (stats) => {
        const sessions = async (): Promise<number> => {
          const [all] = await stats.invoke(3, [buffer.out(64 * ENTRY)]);
          expect(all.length % ENTRY).toBe(0);
          for (let at = 0; at < all.length; at += ENTRY) {
            const entry = Buffer.from(all.subarray(at, at + ENTRY));
            if (Buffer.compare(entry.subarray(0, 16), struct(PKCS11)) === 0) return entry.readUInt32LE(20);
          }
          return 0;
        };
        // One instance serves all of its sessions.
        await withSession(
          guest.tee,
          async () => {
            expect(await sessions()).toBe(1);
            await withSession(guest.tee, async () => expect(await sessions()).toBe(2), PKCS11);
            expect(await sessions()).toBe(1);
          },
          PKCS11,
        );
      },
      STATS,
    ));
});
