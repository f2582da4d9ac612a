import type { Panic } from './panic.js';

/** What the two serial ports of a guest have said. */
export interface GuestLogs {
  /** The console of Linux. */
  readonly kernel: string;
  /** The console of OP-TEE and of the firmware. */
  readonly secure: string;
}

/** How a command ended: by itself or by a signal. */
export interface ExitStatus {
  /** 0 to 255, or null if a signal ended the command. */
  readonly status: number | null;
  /** Real-time signals are called after their number: `SIG34`. */
  readonly signal: NodeJS.Signals | null;
}

export type GuestErrorCode =
  /** The guest did not come up. */
  | 'ERR_GUEST_BOOT'
  /** The share, the TAs, the modules or the user could not be put in place. */
  | 'ERR_GUEST_SETUP'
  /** Linux, OP-TEE or the firmware panicked; see `panic`. */
  | 'ERR_GUEST_PANIC'
  /** QEMU ended while the guest was in use. */
  | 'ERR_GUEST_GONE'
  /** `close()` ended the guest. */
  | 'ERR_GUEST_CLOSED'
  /** The command could not be started; see `errno` and `stage`. */
  | 'ERR_GUEST_EXEC'
  /** The host could not take all that the command wrote to the share; see `errno` and `exit`. */
  | 'ERR_GUEST_SHARE'
  /** The command did not end in the time it was given. */
  | 'ERR_GUEST_TIMEOUT';

export interface GuestErrorDetails {
  readonly logs?: GuestLogs;
  readonly panic?: Panic;
  /** Why the command could not be started, or its files not be written, by the name of the guest's errno: `ENOENT`. */
  readonly errno?: string;
  /** What could not be done when the command did not start. */
  readonly stage?: 'prepare' | 'user' | 'cwd' | 'exec';
  /** How a command ended whose files could not be written. */
  readonly exit?: ExitStatus;
  /** What the command had written before its time was over, or the share was full. */
  readonly stdout?: Buffer;
  readonly stderr?: Buffer;
}

/** The guest, not the command in it, failed; or the command could not be run to its end. */
export class GuestError extends Error {
  override readonly name = 'GuestError';
  readonly code: GuestErrorCode;
  /** What both worlds had said until then. */
  declare readonly logs?: GuestLogs;
  declare readonly panic?: Panic;
  declare readonly errno?: string;
  declare readonly stage?: 'prepare' | 'user' | 'cwd' | 'exec';
  declare readonly exit?: ExitStatus;
  declare readonly stdout?: Buffer;
  declare readonly stderr?: Buffer;

  constructor(code: GuestErrorCode, message: string, details: GuestErrorDetails = {}) {
    super(message);
    this.code = code;
    // What prints an error prints all that it can enumerate: megabytes of logs are not for that.
    for (const [name, value] of Object.entries(details))
      Object.defineProperty(this, name, { value, enumerable: !['logs', 'stdout', 'stderr'].includes(name) });
  }
}
