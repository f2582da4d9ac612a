/** Parameters of a call as they are written on a command line. */
import { readFileSync } from 'node:fs';
import { buffer, value, type Direction, type Parameter } from '../client/parameters.js';

export const PARAMS_USAGE = `A parameter is one of
  value-in:A[,B]  value-out  value-inout:A[,B]      numbers, decimal or 0x…; B is 0 unless given
  in:BYTES  inout:BYTES                             BYTES: text:hello, hex:00ff, or @FILE
  out:SIZE                                          room for SIZE bytes
  null-in  null-out  null-inout                     the NULL buffer
  none                                              nothing
`;

/** A parameter that is not well written. */
export class ParamError extends Error {
  override readonly name = 'ParamError';
}

/**
 * @param text `value-in:1,2`, `out:16`, …
 * @throws ParamError that names the text
 */
export function parseParam(text: string): Parameter<unknown> | undefined {
  const [kind = '', rest] = splitOnce(text, ':');
  try {
    switch (kind) {
      case 'none':
        return nothing(rest, undefined);
      case 'value-in':
        return value.in(...numbers(rest));
      case 'value-inout':
        return value.inout(...numbers(rest));
      case 'value-out':
        return nothing(rest, value.out());
      case 'in':
        return buffer.in(bytes(rest));
      case 'inout':
        return buffer.inout(bytes(rest));
      case 'out':
        return buffer.out(parseNumber(rest));
      case 'null-in':
      case 'null-out':
      case 'null-inout':
        return nothing(rest, buffer.null(kind.slice('null-'.length) as Direction));
      default:
        throw new ParamError('there is no such kind of parameter');
    }
  } catch (error) {
    throw new ParamError(`parameter ${text}: ${(error as Error).message}`);
  }
}

/**
 * A whole number, decimal or hexadecimal.
 * @throws ParamError
 */
export function parseNumber(text: string | undefined): number {
  if (text === undefined || !/^(0x[0-9a-f]+|[0-9]+)$/i.test(text)) {
    throw new ParamError(`'${text ?? ''}' is not a number like 42 or 0x2a`);
  }
  return Number(text);
}

function splitOnce(text: string, by: string): [string, string?] {
  const at = text.indexOf(by);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

function nothing<T>(rest: string | undefined, param: T): T {
  if (rest !== undefined) throw new ParamError(`nothing is expected after it, not '${rest}'`);
  return param;
}

function numbers(rest: string | undefined): [number, number] {
  const [a, b] = splitOnce(rest ?? '', ',');
  return [parseNumber(a), b === undefined ? 0 : parseNumber(b)];
}

function bytes(rest: string | undefined): Uint8Array {
  if (rest?.startsWith('@') === true) return readFileSync(rest.slice(1));
  const [form, content] = splitOnce(rest ?? '', ':');
  if (content !== undefined) {
    if (form === 'text') return Buffer.from(content);
    if (form === 'hex' && /^([0-9a-f]{2})*$/i.test(content)) return Buffer.from(content, 'hex');
  }
  throw new ParamError('the bytes must be text:…, hex:… (pairs of digits) or @FILE');
}
