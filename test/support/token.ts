/** A token for tests. Needs no Jest. */
import type { TeeContext } from 'node-optee';
import { Pkcs11, type Token, type TokenLogin } from 'node-optee/pkcs11';

export const SO_PIN = 'security officer';
export const PIN = 'user-1234';

/**
 * The token of slot 0, erased, with its user logged in.
 * @returns the client too, which is the caller's to close
 */
export async function freshToken(
  tee: TeeContext,
): Promise<{ pkcs11: Pkcs11; token: Token; login: TokenLogin }> {
  const pkcs11 = await Pkcs11.open({ context: tee });
  try {
    const token = await pkcs11.token({ slot: 0 });
    const initialize = (): Promise<void> => token.initialize({ label: 'gateway', soPin: SO_PIN });
    await initialize().catch((error: unknown) => {
      // A test that killed tee-supplicant has cost the TA its storage (docs/errors.md).
      if ((error as { code?: unknown }).code !== 'ERR_PKCS11_TA_DIED') throw error;
      return initialize();
    });
    await token.setUserPin({ soPin: SO_PIN, pin: PIN });
    return { pkcs11, token, login: await token.login({ pin: PIN }) };
  } catch (error) {
    await pkcs11.close();
    throw error;
  }
}
