import { parseArgs } from 'node:util';
import { TeeContext } from '../client/context.js';
import { Login } from '../client/login.js';
import { parseUuid } from '../client/uuid.js';
import { PARAMS_USAGE, ParamError, parseNumber, parseParam } from './params.js';

const USAGE = `Usage: node-optee invoke [OPTIONS] UUID COMMAND [PARAM…]

Opens a session with the Trusted Application UUID, invokes COMMAND with up to four parameters, and prints what they
brought back. The status is 1 if the TEE or the system answered with an error, 2 if the arguments are wrong.

  --device PATH      the TEE device; the first that speaks GlobalPlatform unless given
  --login WHO        public (the default), user, group:GID, application, user-application or group-application:GID
  --timeout MS       after so many milliseconds, gives up opening the session, or asks the TA to cancel the command
  --json             prints the outputs as JSON, bytes as hexadecimal digits

${PARAMS_USAGE}`;

/** `node-optee invoke`. */
export async function run(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      device: { type: 'string' },
      login: { type: 'string' },
      timeout: { type: 'string' },
      json: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help === true) {
    process.stdout.write(USAGE);
    return 0;
  }
  const [uuid, number, ...texts] = positionals;
  if (uuid === undefined || number === undefined) {
    process.stderr.write(USAGE);
    return 2;
  }
  parseUuid(uuid); // said before any device is looked for
  const command = parseNumber(number);
  const params = texts.map(parseParam);
  const login = parseLogin(values.login ?? 'public');
  const timeout = values.timeout === undefined ? undefined : parseNumber(values.timeout);
  const tee = values.device === undefined ? TeeContext.open() : TeeContext.open(values.device);
  try {
    const signal = timeout === undefined ? undefined : AbortSignal.timeout(timeout);
    const session = await tee.openSession(uuid, { login, signal });
    const outputs = await session.invoke(command, params, { signal });
    process.stdout.write(values.json === true ? `${toJson(outputs)}\n` : outputs.map(describe).join(''));
    return 0;
  } finally {
    await tee.close();
  }
}

function parseLogin(text: string): Login {
  if (text === 'public') return Login.public;
  if (text === 'user') return Login.user;
  if (text === 'application') return Login.application;
  if (text === 'user-application') return Login.userApplication;
  const [kind, gid] = text.split(/:(.*)/s);
  if (kind === 'group' && gid !== undefined) return Login.group(parseNumber(gid));
  if (kind === 'group-application' && gid !== undefined) return Login.groupApplication(parseNumber(gid));
  throw new ParamError(
    `--login must be public, user, group:GID, application, user-application or group-application:GID, not ${text}`,
  );
}

function toJson(outputs: unknown[]): string {
  return JSON.stringify(
    outputs.map((output) =>
      output instanceof Uint8Array ? Buffer.from(output).toString('hex') : (output ?? null),
    ),
  );
}

function describe(output: unknown, i: number): string {
  if (output instanceof Uint8Array) return `params[${i}]: ${output.length} bytes\n${dump(output)}`;
  if (typeof output !== 'object' || output === null) return '';
  const { a, b } = output as { a: number; b: number };
  return `params[${i}]: a ${a} (0x${a.toString(16)}), b ${b} (0x${b.toString(16)})\n`;
}

/** Offset, sixteen bytes, and their characters, line by line. */
function dump(bytes: Uint8Array): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += 16) {
    const line = Buffer.from(bytes.subarray(at, at + 16));
    const hex = line.toString('hex').replace(/..(?=.)/g, '$& ');
    const shown = line.toString('latin1').replace(/[^ -~]/g, '.');
    text += `  ${at.toString(16).padStart(8, '0')}  ${hex.padEnd(47)}  ${shown}\n`;
  }
  return text;
}
