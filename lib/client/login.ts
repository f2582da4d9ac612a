import { checkU32 } from './validate.js';

declare const brand: unique symbol;

/**
 * How a client shows who it is when it opens a session (TEE_IOCTL_LOGIN_* of the kernel). The kernel, not this
 * process, makes the identity that the TA sees: a version 5 UUID over the effective user id or the group id.
 */
export class Login {
  /** No other object will do. */
  declare readonly [brand]: 'Login';
  /** No identity. What a session is opened with unless told otherwise. */
  static readonly public: Login = new Login('public', 0);
  /** The effective user of this process. */
  static readonly user: Login = new Login('user', 1);
  /** The program. The kernel's own driver knows no such identity and answers EINVAL. */
  static readonly application: Login = new Login('application', 4);

  /**
   * A group that this process is in; the kernel answers EPERM to any other.
   * @param gid the group's id, u32
   */
  static group(gid: number): Login {
    checkU32(gid, 'gid');
    const client = new Uint8Array(16);
    new Uint32Array(client.buffer)[0] = gid; // in the byte order of the machine, as the kernel reads it
    return new Login(`group(${gid})`, 2, client);
  }

  /** Its name, as above. */
  readonly name: string;
  /** @internal TEE_IOCTL_LOGIN_* */
  readonly method: number;
  /** @internal clnt_uuid */
  readonly client: Uint8Array;

  private constructor(name: string, method: number, client: Uint8Array = new Uint8Array(16)) {
    this.name = name;
    this.method = method;
    this.client = client;
  }

  toString(): string {
    return `Login.${this.name}`;
  }
}
