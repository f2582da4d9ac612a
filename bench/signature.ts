/** What a signature costs outside of the TA, through this package and through libckteec, counted in instructions. */
import { Guest, prepareMachine } from 'node-optee/qemu';
import { prepareBench, ROOT } from './prepare';

/** Of one signature with an EC key, in instructions. */
export interface SignatureCost {
  /** Calls of the TA. */
  readonly calls: number;
  /** In them: nearly all is the TA's. */
  readonly inside: number;
  /** Of all threads of the process, Linux included, besides. */
  readonly outside: number;
}

export interface SignatureCosts {
  readonly libckteec: SignatureCost;
  readonly 'node-optee': SignatureCost;
}

const PIN = '1234-5678';
/** Those that are counted, after those that are not. A signature takes a second or two. */
const COUNTED = 40;
const SKIPPED = 40;
const WARM_UP = 3000;
/** PKCS11_CMD_SIGN_ONESHOT */
const SIGN = 31;

export async function measureSignatures(): Promise<SignatureCosts> {
  // On one processor nothing is idle while it waits for the other: what is not of the process is no part of a signature.
  const machine = await prepareMachine({ cpus: 1 });
  const { folder } = await prepareBench();
  const guest = await Guest.boot({ machine, share: ROOT, instructions: true });
  const run = async (command: string[], env: Record<string, string> = {}): Promise<string> => {
    const { status, stdout, stderr } = await guest.run(command, { env });
    if (status !== 0) throw new Error(`${command.join(' ')} ended with ${status}: ${stderr.toString()}`);
    return stdout.toString();
  };
  const measure = async (skipped: number, command: string[]): Promise<SignatureCost> => {
    const env = {
      LD_PRELOAD: `${folder}/outside.so`,
      OUTSIDE_COMMAND: String(SIGN),
      OUTSIDE_SKIP: String(skipped),
      OUTSIDE_COUNT: String(COUNTED),
    };
    return JSON.parse(await run(command, env)) as SignatureCost;
  };
  const program = ['node', 'build/bench/sign.js', PIN];
  const signatures = String(SKIPPED + COUNTED);
  try {
    await run(program);
    return {
      libckteec: await measure(SKIPPED, [`${folder}/sign`, PIN, signatures]),
      'node-optee': await measure(WARM_UP + SKIPPED, [...program, signatures, String(WARM_UP)]),
    };
  } finally {
    await guest.close();
  }
}
