/** Beyond this the oldest part of a log is given up. */
const LIMIT = 8 * 1024 * 1024;

/** What comes without an end for longer than this is cut into lines. */
const LONGEST_LINE = 16 * 1024;

/** What one serial port has said, and each of its lines as it comes. Whatever is on the other side, a terminal can show it. */
export class Log {
  private kept = '';
  private partial = '';
  private readonly decoder = new TextDecoder();

  /** @param onLine called with each whole line, without its end; one for which it returns false is not kept */
  constructor(private readonly onLine: (line: string) => unknown = () => {}) {}

  get text(): string {
    return this.kept + visible(this.partial);
  }

  push(chunk: Buffer): void {
    const pieces = this.decoder.decode(chunk, { stream: true }).split('\n');
    const last = pieces.pop() as string;
    for (const piece of pieces) {
      this.add(piece);
      this.finish();
    }
    this.add(last);
    if (this.kept.length > LIMIT) this.kept = this.kept.slice(-LIMIT / 2);
  }

  /** The port says no more: a last line without an end is a line too. */
  end(): void {
    if (this.partial !== '') this.finish();
  }

  private add(piece: string): void {
    this.partial += piece;
    while (this.partial.length > LONGEST_LINE) {
      const rest = this.partial.slice(LONGEST_LINE);
      this.partial = this.partial.slice(0, LONGEST_LINE);
      this.finish();
      this.partial = rest;
    }
  }

  private finish(): void {
    const line = visible(this.partial);
    this.partial = '';
    if (this.onLine(line) !== false) this.kept += line + '\n';
  }
}

/** Controls (C0, C1) but for tabs and line feeds, and what turns the direction of writing. */
// eslint-disable-next-line no-control-regex -- they are what it is about
const CONTROLS = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g;

/**
 * What a guest has said, for a terminal: its control characters are written out, so that they control nothing.
 * Carriage returns at the end are left out: firmware and OP-TEE end lines with one or two of them.
 */
export function visible(text: string): string {
  let end = text.length;
  while (text[end - 1] === '\r') end--;
  return text.slice(0, end).replace(CONTROLS, (character) => {
    const code = character.charCodeAt(0);
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16)}`;
  });
}
