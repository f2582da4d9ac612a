#!/usr/bin/env node
import { MACHINES } from './qemu/machine.js';

const USAGE = `Usage: node-optee COMMAND …

  list                      the TEE devices of this machine, what they can do, and the dma-heaps
  invoke UUID COMMAND …     one command of a Trusted Application
  token COMMAND …           keys and certificates in OP-TEE's PKCS#11 TA
  qemu [OPTIONS] COMMAND …  runs COMMAND in a QEMU guest with a real OP-TEE
  ta DIR                    builds and signs a Trusted Application for that guest
  ta generate FILE          writes the C of a Trusted Application that FILE describes
  new NAME                  makes a folder with a Trusted Application, a client and a test

node-optee COMMAND --help tells more. Machines of the guest: ${MACHINES.join(', ')}
`;

/** Each command is loaded when it is asked for: none needs what the others do. */
const COMMANDS: Readonly<Record<string, () => Promise<{ run(args: string[]): Promise<number> }>>> = {
  list: () => import('./commands/list.js'),
  invoke: () => import('./commands/invoke.js'),
  token: () => import('./commands/token.js'),
  qemu: () => import('./commands/qemu.js'),
  ta: async () => ({
    run: async ([word, ...rest]) => {
      if (word === 'generate') return (await import('./commands/ta-generate.js')).run(rest);
      return (await import('./qemu/build/ta-command.js')).taCommand(
        word === undefined ? [] : [word, ...rest],
      );
    },
  }),
  new: () => import('./commands/new.js'),
};

async function main(args: string[]): Promise<number> {
  const [name = '', ...rest] = args;
  if (name === '--help' || name === '-h' || name === 'help') {
    process.stdout.write(USAGE);
    return 0;
  }
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (!command) {
    process.stderr.write(name === '' ? USAGE : `node-optee: there is no command '${name}'\n\n${USAGE}`);
    return 2;
  }
  return (await command()).run(rest);
}

main(process.argv.slice(2)).then(
  (status) => {
    process.exitCode = status;
  },
  (error: unknown) => {
    const { name, message, code } = error as NodeJS.ErrnoException;
    const usage = name === 'ParamError' || /^ERR_(PARSE_ARGS_|INVALID_ARG_|OUT_OF_RANGE)/.test(code ?? '');
    const what = usage || name === 'Error' ? '' : `${name}: `;
    process.stderr.write(`node-optee: ${what}${message}\n`);
    process.exitCode = usage ? 2 : 1;
  },
);
