/** What calls of a described TA are called: for errors and tracing. The room `ta` hands it to `openSession`. */

/** Of the options of `openSession` and `pool`: the {@link TaNames}. A symbol, so no option of a user's is taken for it. */
export const NAMES: unique symbol = Symbol('names');

/** The names of a TA's description. */
export interface TaNames {
  /** 'notary' */
  readonly name: string;
  /** The TA's own results: `error.code` by their numbers. */
  readonly results: ReadonlyMap<number, string>;
  /** By their ids. */
  readonly commands: ReadonlyMap<number, CommandNames>;
  /** Of the opening: its name is undefined. */
  readonly open: CommandNames;
}

/** The names of a command. */
export interface CommandNames {
  /** 'hash' */
  readonly name: string | undefined;
  /** Of each parameter, with the TA's and the command's before it: 'notary.hash.data'. */
  readonly params: readonly string[];
}

/** A described call by its full name: 'notary.hash', of the opening 'notary'. */
export function callName({ name }: TaNames, command: CommandNames): string {
  return command.name === undefined ? name : `${name}.${command.name}`;
}

/** A command in the messages of errors. */
export function commandInWords(uuid: string, names: TaNames | undefined, command: number): string {
  if (names === undefined) return `command ${command} of TA ${uuid}`;
  const known = names.commands.get(command);
  if (known === undefined) return `command ${command} of ${names.name}, TA ${uuid}`;
  return `${callName(names, known)} (command ${command} of TA ${uuid})`;
}

/** A TA in the messages of errors. */
export function taInWords(uuid: string, names: TaNames | undefined): string {
  return names === undefined ? `TA ${uuid}` : `${names.name}, TA ${uuid}`;
}
