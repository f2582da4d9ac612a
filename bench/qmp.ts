import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';

interface Answer {
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
}

/** A client of QEMU's machine protocol: one request at a time. Events are passed over. */
export class Qmp {
  readonly #socket: Socket;
  #waiting: { resolve: (answer: Answer) => void; reject: (error: Error) => void } | undefined;
  #lost: Error | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    const lines = createInterface({ input: socket });
    lines.on('line', (line) => {
      const message = JSON.parse(line) as Answer;
      if (message.return !== undefined || message.error !== undefined) this.#waiting?.resolve(message);
    });
    lines.on('error', () => {}); // the socket's own, which tells below
    socket.on('error', (error) => this.#lose(error));
    socket.on('close', () => this.#lose(new Error('QEMU has closed its monitor')));
  }

  /** @param path the socket that QEMU listens on */
  static async connect(path: string): Promise<Qmp> {
    const socket = connect(path);
    await once(socket, 'connect');
    const qmp = new Qmp(socket);
    await qmp.execute('qmp_capabilities');
    return qmp;
  }

  async execute(command: string, options: Record<string, unknown> = {}): Promise<unknown> {
    const answer = new Promise<Answer>((resolve, reject) => {
      if (this.#lost) reject(this.#lost);
      this.#waiting = { resolve, reject };
    });
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: options })}\n`);
    const { return: value, error } = await answer;
    if (error) throw new Error(`QEMU, ${command}: ${error.desc}`);
    return value;
  }

  close(): void {
    this.#socket.destroy();
  }

  #lose(error: Error): void {
    this.#lost ??= error;
    this.#waiting?.reject(this.#lost);
  }
}
