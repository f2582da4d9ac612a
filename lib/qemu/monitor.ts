import type { Duplex } from 'node:stream';

/** An event of QEMU's machine protocol (QMP). */
export interface MonitorEvent {
  readonly event: string;
  readonly data?: Readonly<Record<string, unknown>>;
}

/** More than any event has. */
const LONGEST = 1 << 20;

/** Asks QEMU something and resolves with the answer; never where QEMU ends before. */
export type AskMonitor = (command: string) => Promise<unknown>;

/**
 * Listens to QEMU itself: what happens to the machine that neither of its worlds can tell.
 * @returns what asks it
 */
export function listenToMonitor(socket: Duplex, onEvent: (event: MonitorEvent) => void): AskMonitor {
  let partial = '';
  let greeted: () => void;
  const greeting = new Promise<void>((resolve) => (greeted = resolve));
  const asked: ((answer: unknown) => void)[] = [];
  socket.on('data', (chunk: Buffer) => {
    const lines = (partial + chunk.toString()).split('\n');
    partial = (lines.pop() as string).slice(-LONGEST);
    for (const line of lines) {
      const message = JSON.parse(line) as Partial<MonitorEvent> & {
        QMP?: unknown;
        return?: unknown;
        id?: number;
      };
      // There are no events and no answers until this was said.
      if (message.QMP !== undefined) {
        socket.write('{"execute":"qmp_capabilities"}\n');
        greeted();
      }
      if (message.event !== undefined) onEvent(message as MonitorEvent);
      if (message.id !== undefined) asked[message.id]?.(message.return);
    }
  });
  // A reset at QEMU's end, which is told by the process itself.
  socket.on('error', () => {});
  return async (execute) => {
    await greeting;
    return new Promise((resolve) => {
      const id = asked.push(resolve) - 1;
      socket.write(`${JSON.stringify({ execute, id })}\n`);
    });
  };
}

/** Where QEMU's gdb server listens, by its answer to `query-chardev`. */
export function gdbPort(answer: unknown): number | undefined {
  const devices = Array.isArray(answer) ? (answer as { label?: string; filename?: string }[]) : [];
  const name = devices.find(({ label }) => label === 'gdb')?.filename;
  const [, port] = /tcp:127\.0\.0\.1:(\d+)/.exec(name ?? '') ?? [];
  return port === undefined ? undefined : Number(port);
}

/** What went wrong with a disk of the guest, in words; undefined for other events. */
export function diskError({ event, data }: MonitorEvent): string | undefined {
  if (event !== 'BLOCK_IO_ERROR') return undefined;
  const { operation, reason } = { operation: 'use', reason: 'an error', ...data } as Record<string, string>;
  return `QEMU could not ${operation} the guest's disk: ${reason}`;
}
