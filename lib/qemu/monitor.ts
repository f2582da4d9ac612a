import type { Duplex } from 'node:stream';

/** An event of QEMU's machine protocol (QMP). */
export interface MonitorEvent {
  readonly event: string;
  readonly data?: Readonly<Record<string, unknown>>;
}

/** More than any event has. */
const LONGEST = 1 << 20;

/** Listens to QEMU itself: what happens to the machine that neither of its worlds can tell. */
export function listenToMonitor(socket: Duplex, onEvent: (event: MonitorEvent) => void): void {
  let partial = '';
  socket.on('data', (chunk: Buffer) => {
    const lines = (partial + chunk.toString()).split('\n');
    partial = (lines.pop() as string).slice(-LONGEST);
    for (const line of lines) {
      const message = JSON.parse(line) as Partial<MonitorEvent> & { QMP?: unknown };
      // There are no events until this was said.
      if (message.QMP !== undefined) socket.write('{"execute":"qmp_capabilities"}\n');
      if (message.event !== undefined) onEvent(message as MonitorEvent);
    }
  });
  // A reset at QEMU's end, which is told by the process itself.
  socket.on('error', () => {});
}

/** What went wrong with a disk of the guest, in words; undefined for other events. */
export function diskError({ event, data }: MonitorEvent): string | undefined {
  if (event !== 'BLOCK_IO_ERROR') return undefined;
  const { operation, reason } = { operation: 'use', reason: 'an error', ...data } as Record<string, string>;
  return `QEMU could not ${operation} the guest's disk: ${reason}`;
}
