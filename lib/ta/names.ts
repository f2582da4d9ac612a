/** Names that are used on both sides: JavaScript's camelCase becomes C's snake_case. */

/**
 * The C name of a JavaScript name: `signHash` becomes `sign_hash`, `readPCR7` becomes `read_pcr7`.
 * Its upper case is the name's part of a macro.
 */
export function cNameOf(name: string): string {
  return name
    .replace(/([a-z0-9])([A-Z])/g, '$1_$2')
    .replace(/([A-Z])([A-Z][a-z])/g, '$1_$2')
    .toLowerCase();
}

const MAX_LENGTH = 63; // what C11 (5.2.4.1) promises to tell apart

/** Keywords of C11 and C23, and what is none but cannot be a variable's name in a TA: macros and types. */
const C_WORDS = new Set(
  (
    'alignas alignof asm auto bool break case char const constexpr continue default do double else enum extern false ' +
    'float for goto if inline int long nullptr register restrict return short signed sizeof static static_assert struct ' +
    'switch thread_local true typedef typeof typeof_unqual union unsigned void volatile while ' +
    'errno linux unix main size_t ssize_t ptrdiff_t wchar_t va_list ' +
    'int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t intptr_t uintptr_t'
  ).split(' '),
);

/** Functions of C that are called where arguments are variables, which would hide them. */
const CALLED_IN_C = new Set(['memchr', 'memcmp', 'memcpy', 'memmove', 'memset', 'strlen']);

/** What every object of JavaScript has. */
const OBJECT_NAMES = [
  'constructor',
  'hasOwnProperty',
  'isPrototypeOf',
  'propertyIsEnumerable',
  'toJSON',
  'toLocaleString',
  'toString',
  'valueOf',
] as const;

/** What a client or a pool has besides the commands. An object that has `then` cannot be awaited. */
const CLIENT_NAMES = [
  ...(['catch', 'finally', 'then'] as const),
  ...(['close', 'closed', 'invoke', 'invokeSync', 'open', 'openSync', 'outputs', 'pool', 'session'] as const),
  ...(['statistics', 'sync', 'use'] as const),
] as const;

/** Names that no command can have. */
export type ReservedCommand = (typeof OBJECT_NAMES | typeof CLIENT_NAMES)[number];

/** Functions that a TA has besides its commands'. */
const C_FUNCTIONS = new Set([
  ...['close', 'close_session', 'create', 'destroy', 'dispatch', 'invoke', 'open', 'open_session', 'session'],
]);

/** Options of opening a client, and of making a pool, that stand beside the arguments. */
export const OPEN_OPTIONS = ['login', 'signal', 'wipe'] as const;
export const POOL_OPTIONS = ['idle', 'login', 'max', 'replaceAfterCancel', 'wipe'] as const;
/** `params` is what these have in place of arguments where a TA is not described. */
const OPTIONS = [...OPEN_OPTIONS, ...POOL_OPTIONS, 'params'] as const;

const isIn = (names: readonly string[], name: string): boolean => names.includes(name);

/** What is wrong with a name; undefined if nothing is. */
function problemOf(name: unknown, pattern: RegExp, like: string): string | undefined {
  if (typeof name !== 'string') return `the name must be a string, not ${typeof name}`;
  if (!pattern.test(name)) return `'${name}' is no name for JavaScript and C: it must be like ${like}`;
  if (name.length > MAX_LENGTH) return `'${name}' has more than ${MAX_LENGTH} characters`;
  return undefined;
}

const NAME = /^[a-z][A-Za-z0-9_]*$/;

/** Of an argument, a result or a field of a struct. */
export function variableProblem(name: unknown): string | undefined {
  const problem = problemOf(name, NAME, 'count or userName');
  if (problem !== undefined) return problem;
  const given = name as string;
  if (C_WORDS.has(cNameOf(given))) return `'${given}' is a word of C that cannot be a name`;
  if (isIn(OBJECT_NAMES, given)) return `'${given}' is a name that every object of JavaScript has`;
  return undefined;
}

/** Of an argument of a command. */
export function argumentProblem(name: unknown): string | undefined {
  const problem = variableProblem(name);
  if (problem !== undefined) return problem;
  if (name === 'session') return "'session' is an argument that every function of the TA has";
  const cName = cNameOf(name as string);
  if (CALLED_IN_C.has(cName) || cName.startsWith('dispatch_')) {
    return `'${String(name)}' is, or begins like, a function that the generated C calls`;
  }
  return undefined;
}

/** Of an argument of the opening. */
export function openArgumentProblem(name: unknown): string | undefined {
  const problem = argumentProblem(name);
  if (problem === undefined && isIn(OPTIONS, name as string)) {
    return `'${String(name)}' is an option of open`;
  }
  return problem;
}

/** Of a command. Its C function has the TA's name before it, so it may be a word of C. */
export function commandProblem(name: unknown): string | undefined {
  const problem = problemOf(name, NAME, 'count or signHash');
  if (problem !== undefined) return problem;
  const given = name as string;
  if (isIn(OBJECT_NAMES, given)) return `'${given}' is a name that every object of JavaScript has`;
  if (isIn(CLIENT_NAMES, given)) return `'${given}' is a name that every client or pool has`;
  if (C_FUNCTIONS.has(cNameOf(given))) return `'${given}' is a function that every TA has`;
  return undefined;
}

/** Of a struct. */
export function structProblem(name: unknown): string | undefined {
  const problem = problemOf(name, NAME, 'config or keyInfo');
  if (problem === undefined && name === 'session') return "'session' is a struct that every TA has";
  return problem;
}

/** Of a described TA. */
export function taProblem(name: unknown): string | undefined {
  const problem = problemOf(name, /^[a-z][a-z0-9_]*$/, 'notary or key_store');
  if (problem === undefined && /^(tee|teec|ta|cfg|dispatch)(_|$)/.test(name as string)) {
    return `'${String(name)}' begins names that are OP-TEE's own or generated`;
  }
  return problem;
}

/** Of a result of the TA's own. */
export function resultProblem(name: unknown): string | undefined {
  const problem = problemOf(name, /^[A-Z][A-Z0-9_]*$/, 'NOTARY_LOCKED');
  if (problem === undefined && /^(TEE|TEEC|TA|CFG)_/.test(name as string)) {
    return `'${String(name)}' begins like a name of GlobalPlatform's or OP-TEE's own`;
  }
  return problem;
}

/** Of a member of an enumeration. */
export function memberProblem(name: unknown): string | undefined {
  const problem = problemOf(name, /^[A-Za-z][A-Za-z0-9_]*$/, 'OFF or readOnly');
  if (problem === undefined && isIn(OBJECT_NAMES, name as string)) {
    return `'${String(name)}' is a name that every object of JavaScript has`;
  }
  return problem;
}
