/** Tells from a guest's two logs whether a world of it has died. */

export interface Panic {
  readonly world: 'kernel' | 'optee' | 'firmware';
  /** The line that says so, without its time stamp or prefix. */
  readonly text: string;
}

/** The log of the serial port that a line came from. */
export type LogName = 'kernel' | 'secure';

/** `[    1.234567] Kernel panic - not syncing: …`, with or without the caller's id; a command's half line can be before it. */
const KERNEL = /\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? (Kernel panic - not syncing: .*)/;
/**
 * OP-TEE's own panic, from its `__do_panic()`: `E/TC:0 0 Panic 'why' at file:line <function>`. A TA's is
 * `E/TC:? 0 TA panicked with code …` and does the machine no harm.
 */
const OPTEE = /^E\/TC:[?\d]+(?: [?\d]+)?\s+(Panic(?: .*)?)$/;
/** TF-A's. It is also seen at normal power-offs, so that alone it does not mean that the guest failed. */
const FIRMWARE = /^(PANIC at PC ?:.*|(?:Unhandled|UNHANDLED) Exception .*EL3.*)/i;

/** @param line one line of a log, without its end */
export function panicOfLine(log: LogName, line: string): Panic | undefined {
  const text = (pattern: RegExp): string | undefined => pattern.exec(line)?.[1]?.trim();
  if (log === 'kernel') {
    const kernel = text(KERNEL);
    return kernel === undefined ? undefined : { world: 'kernel', text: kernel };
  }
  const optee = text(OPTEE);
  if (optee !== undefined) return { world: 'optee', text: optee };
  const firmware = text(FIRMWARE);
  return firmware === undefined ? undefined : { world: 'firmware', text: firmware };
}

/** The first panic of a whole log. */
export function panicOfLog(log: LogName, text: string): Panic | undefined {
  for (const line of text.split('\n')) {
    const panic = panicOfLine(log, line.trimEnd());
    if (panic) return panic;
  }
  return undefined;
}

/** Linux has switched the machine off in good order. What the firmware says after this means nothing. */
export function isPowerOff(log: LogName, line: string): boolean {
  return log === 'kernel' && /\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? reboot: Power down$/.test(line);
}
