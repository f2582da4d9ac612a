/** A PKCS#11 TA that fails, dies or lies when a test tells it to. The real one is in the guest. */
import { TeeContext, TeeError } from 'node-optee';
import { Parameter } from '#lib/client/parameters';
import type { Session } from '#lib/client/session';
import { CKR, Command, TokenFlag } from '#lib/pkcs11/constants';
import { TOKEN_INFO_SIZE, u32s } from '#lib/pkcs11/serializer';

// The declarations have nothing internal.
const { specOf } = Parameter as unknown as {
  specOf(this: void, param: unknown): { bytes?: Uint8Array } | undefined;
};

export const DEAD = 0xffff3024;
export const NO_MEMORY = 0xffff000c;

export function teeError(result: number, control = new Uint8Array(0)): TeeError {
  const outputs = [{ size: control.length, data: Uint8Array.from(control) }, undefined];
  return new TeeError({ result, originCode: 3, uuid: 'a TA', asked: 'a call', outputs });
}

/** A result of PKCS #11, or an error that a call ends with. */
export type Answer = number | Error;

/** Not a PKCS#11 TA, but what a test makes of it: a session that answers when and how the test says. */
export class FakeTa {
  /** What was asked, with the control block as it was sent. */
  readonly asked: { command: number; control: Buffer }[] = [];
  opened = 0;
  /** Looks at a command before it is answered; undefined: CKR_OK. */
  answer: (command: number) => Answer | undefined | Promise<Answer | undefined> = () => undefined;
  /** Why it cannot be reached. */
  unreachable: Error | undefined;
  /** What else than usual comes out of a command. */
  readonly outputs = new Map<number, Uint8Array>();
  closed = 0;
  closeError: Error | undefined;

  readonly tee = Object.create(TeeContext.prototype, {
    openSession: { value: () => this.#open() },
  }) as TeeContext;

  commands(command: number): Buffer[] {
    return this.asked.filter((one) => one.command === command).map(({ control }) => control);
  }

  /** All sessions that are open now are lost. */
  die(): void {
    this.#alive = this.opened;
  }
  #alive = 0;

  async #open(): Promise<Session> {
    await Promise.resolve();
    if (this.unreachable !== undefined) throw this.unreachable;
    const id = ++this.opened;
    let closed = false;
    const session = {
      get closed() {
        return closed;
      },
      close: () => {
        if (!closed) this.closed++;
        closed = true;
        return this.closeError === undefined ? Promise.resolve() : Promise.reject(this.closeError);
      },
      invoke: async (command: number, params: (Parameter<unknown> | undefined)[]) => {
        if (closed) throw Object.assign(new Error('the session is closed'), { code: 'ERR_TEE_CLOSED' });
        const control = Buffer.from(specOf(params[0])?.bytes ?? []);
        this.asked.push({ command, control });
        const found = await this.answer(command);
        if (id <= this.#alive) throw teeError(DEAD, control);
        if (found instanceof Error) throw found;
        const usual = command === Command.RELEASE_ACTIVE_PROCESSING ? released(control) : CKR.CKR_OK;
        return [u32s(found ?? usual), undefined, this.outputs.get(command) ?? output(command)];
      },
    };
    return session as unknown as Session;
  }
}

/** An operation is named by any of its commands but its init. */
function released(control: Buffer): number {
  const inits: readonly number[] = [Command.DIGEST_INIT, Command.ENCRYPT_INIT, Command.SIGN_INIT];
  return inits.includes(control.readUInt32LE(4)) ? CKR.CKR_ARGUMENTS_BAD : CKR.CKR_OK;
}

function output(command: number): Uint8Array {
  if (command === Command.OPEN_SESSION) return u32s(1);
  if (command !== Command.TOKEN_INFO) return Buffer.from('found');
  const info = Buffer.alloc(TOKEN_INFO_SIZE);
  info.writeUInt32LE(TokenFlag.TOKEN_INITIALIZED, 96);
  return info;
}
