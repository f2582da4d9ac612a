/** TAs and pseudo TAs of OP-TEE's own that the guest has, as boards do. */
import { constants, createPublicKey, randomBytes, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { buffer, value, type Session } from 'node-optee';
import { PTA_STATS, useTee, withSession } from '../support/device.js';
import { sessionsInTee, struct } from '../support/tee-statistics.js';

const guest = useTee();

const PKCS11 = 'fd02c9da-306c-48c7-a49c-bbd827ae86ee';
const ATTESTATION = '39800861-182a-4720-9b67-2bcd622bc0b5';

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

test('the statistics PTA counts the sessions of a TA', () =>
  withSession(
    guest.tee,
    async (stats) => {
      const sessions = (): Promise<number> => sessionsInTee(stats, PKCS11);
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
    PTA_STATS,
  ));
