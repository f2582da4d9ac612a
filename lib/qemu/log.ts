/** Beyond this the oldest part of a log is given up. */
const LIMIT = 8 * 1024 * 1024;

/** What one serial port has said, and each of its lines as it comes. */
export class Log {
  private kept = '';
  private partial = '';
  private readonly decoder = new TextDecoder();

  /** @param onLine called with each whole line, without its end */
  constructor(private readonly onLine: (line: string) => void = () => {}) {}

  get text(): string {
    return this.kept + this.partial;
  }

  push(chunk: Buffer): void {
    // Firmware and OP-TEE end lines with one or two carriage returns.
    const lines = (this.partial + this.decoder.decode(chunk, { stream: true })).split(/\r*\n/);
    this.partial = lines.pop() as string;
    for (const line of lines) {
      this.kept += line + '\n';
      this.onLine(line);
    }
    if (this.kept.length > LIMIT) this.kept = this.kept.slice(-LIMIT / 2);
  }

  /** The port says no more: a last line without an end is a line too. */
  end(): void {
    if (this.partial === '') return;
    const line = this.partial;
    this.kept += line + '\n';
    this.partial = '';
    this.onLine(line);
  }
}
