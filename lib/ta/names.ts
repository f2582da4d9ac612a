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
