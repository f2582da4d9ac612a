/**
 * Frames between the host and the guest's agent. `qemu/agent/agent.c` is the other side and states the protocol;
 * this file only packs and unpacks.
 */

export const PROTOCOL_VERSION = 2;

/** Bytes that a stream's sender may have under way: agreed on both sides. */
export const WINDOW = 256 * 1024;
export const MAX_DATA = 64 * 1024;
export const MAX_EXEC = 4 * 1024 * 1024;

export const HEADER_SIZE = 12;

export const FrameType = {
  data: 0x01,
  eof: 0x02,
  credit: 0x03,
  close: 0x04,
  exec: 0x10,
  signal: 0x11,
  winsize: 0x12,
  poweroff: 0x13,
  clock: 0x14,
  hello: 0x20,
  started: 0x21,
  execFailed: 0x22,
  exit: 0x23,
  error: 0x24,
} as const;

export interface Frame {
  readonly type: number;
  /** 0 standard input, 1 standard output, 2 standard error; 0 where a type has no stream. */
  readonly stream: number;
  /** The command's number. */
  readonly command: number;
  readonly payload: Buffer;
}

export interface TerminalSize {
  readonly rows: number;
  readonly columns: number;
}

export interface ExecRequest {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups. */
  readonly groups: readonly number[];
  /** Whether standard input is a pipe from the host; it is `/dev/null` otherwise. */
  readonly stdin: boolean;
  /** Whether standard error goes where standard output goes. */
  readonly merged?: boolean;
  /** A terminal in place of the three pipes. */
  readonly terminal?: TerminalSize;
  /** A folder: what the command writes to its file system is on the host when the command has ended, or `exit` rejects. */
  readonly share?: string;
}

/** What could not be done when a command did not start; the order is that of `enum stage`. */
export const EXEC_STAGES = ['prepare', 'user', 'cwd', 'exec'] as const;

export function header(type: number, stream: number, command: number, size: number): Buffer {
  const bytes = Buffer.allocUnsafe(HEADER_SIZE);
  bytes.writeUInt32LE(size, 0);
  bytes.writeUInt8(type, 4);
  bytes.writeUInt8(stream, 5);
  bytes.writeUInt16LE(0, 6);
  bytes.writeUInt32LE(command, 8);
  return bytes;
}

/** A frame whose payload is a few unsigned 32-bit numbers. */
export function numbers(type: number, stream: number, command: number, ...values: number[]): Buffer {
  const payload = Buffer.allocUnsafe(values.length * 4);
  values.forEach((value, index) => payload.writeUInt32LE(value, index * 4));
  return Buffer.concat([header(type, stream, command, payload.length), payload]);
}

export function windowSize(command: number, size: TerminalSize): Buffer {
  return numbers(FrameType.winsize, 0, command, (clamp16(size.rows) | (clamp16(size.columns) << 16)) >>> 0);
}

export function exec(command: number, request: ExecRequest): Buffer {
  const { argv, groups, terminal } = request;
  const environment = Object.entries(request.env).map(([name, value]) => `${name}=${value}`);
  const fixed = Buffer.alloc(28 + groups.length * 4);
  fixed.writeUInt32LE((request.stdin ? 1 : 0) | (terminal ? 2 : 0) | (request.merged ? 4 : 0), 0);
  fixed.writeUInt16LE(clamp16(terminal?.rows ?? 0), 4);
  fixed.writeUInt16LE(clamp16(terminal?.columns ?? 0), 6);
  fixed.writeUInt32LE(request.uid, 8);
  fixed.writeUInt32LE(request.gid, 12);
  fixed.writeUInt32LE(groups.length, 16);
  fixed.writeUInt32LE(argv.length, 20);
  fixed.writeUInt32LE(environment.length, 24);
  groups.forEach((group, index) => fixed.writeUInt32LE(group, 28 + index * 4));
  const strings = Buffer.from([request.cwd, request.share ?? '', ...argv, ...environment, ''].join('\0'));
  const size = fixed.length + strings.length;
  return Buffer.concat([header(FrameType.exec, 0, command, size), fixed, strings]);
}

function clamp16(value: number): number {
  return Math.min(Math.max(value, 0), 0xffff);
}

/** Cuts a byte stream into frames. Payloads can share memory with the chunks that came in. */
export class FrameDecoder {
  private chunks: Buffer[] = [];
  private size = 0;

  /** @throws Error for a frame that is larger than the protocol allows. */
  *push(chunk: Buffer): Generator<Frame> {
    this.chunks.push(chunk);
    this.size += chunk.length;
    while (this.size >= HEADER_SIZE) {
      if (this.head().length < HEADER_SIZE) this.join();
      const size = this.head().readUInt32LE(0);
      if (size > MAX_DATA) throw new Error(`The guest's agent sent a frame of ${size} bytes`);
      if (this.size < HEADER_SIZE + size) return;
      if (this.head().length < HEADER_SIZE + size) this.join();
      const bytes = this.head();
      this.chunks[0] = bytes.subarray(HEADER_SIZE + size);
      this.size -= HEADER_SIZE + size;
      yield {
        type: bytes.readUInt8(4),
        stream: bytes.readUInt8(5),
        command: bytes.readUInt32LE(8),
        payload: bytes.subarray(HEADER_SIZE, HEADER_SIZE + size),
      };
    }
  }

  private head(): Buffer {
    return this.chunks[0] as Buffer;
  }

  private join(): void {
    this.chunks = [Buffer.concat(this.chunks)];
  }
}
