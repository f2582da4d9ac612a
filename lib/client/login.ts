import { invalidArgType } from './errors.js';
import { checkU32 } from './validate.js';

/** Users never have this object. */
export interface LoginIdentity {
  readonly name: string;
  /** TEE_IOCTL_LOGIN_* */
  readonly method: number;
  /** clnt_uuid */
  readonly client: Uint8Array;
}

/**
 * How a client identifies itself when it opens a session (TEE_IOCTL_LOGIN_* of the kernel). The kernel, not this
 * process, makes the identity that the TA sees: a version 5 UUID over the effective user id or the group id.
 *
 * The kernel decides which logins it knows. Upstream Linux (as of 7.3) answers EINVAL to the three with an application.
 */
export class Login {
  /** No identity. The default. */
  static readonly public: Login = new Login('public', 0);
  /** The effective user of this process. */
  static readonly user: Login = new Login('user', 1);
  /** The program. */
  static readonly application: Login = new Login('application', 4);
  /** The effective user of this process, and the program. */
  static readonly userApplication: Login = new Login('userApplication', 5);

  /**
   * A group that this process is a member of. For any other group the kernel answers EPERM.
   * @param gid the group's id, u32
   * @throws TypeError ERR_INVALID_ARG_TYPE, RangeError ERR_OUT_OF_RANGE
   */
  static group(gid: number): Login {
    return new Login(`group(${checkU32(gid, 'gid')})`, 2, gid);
  }

  /**
   * A group that this process is a member of, and the program.
   * @param gid the group's id, u32
   * @throws TypeError ERR_INVALID_ARG_TYPE, RangeError ERR_OUT_OF_RANGE
   */
  static groupApplication(gid: number): Login {
    return new Login(`groupApplication(${checkU32(gid, 'gid')})`, 6, gid);
  }

  /** Its name, like `user` or `group(1000)`. */
  readonly name: string;
  readonly #identity: LoginIdentity;

  private constructor(name: string, method: number, gid = 0) {
    this.name = name;
    const client = new Uint8Array(16);
    new Uint32Array(client.buffer)[0] = gid; // in the byte order of the machine, as the kernel reads it
    this.#identity = { name, method, client };
  }

  /**
   * @internal What the kernel needs.
   * @throws TypeError ERR_INVALID_ARG_TYPE if it is no Login: an object that only looks like one, say
   */
  static read(login: unknown, argument: string): LoginIdentity {
    if (typeof login === 'object' && login !== null && #identity in login) return login.#identity;
    throw invalidArgType(argument, 'a Login', login);
  }

  toString(): string {
    return `Login.${this.name}`;
  }
}
