import { signalNumber } from './signals.js';

/** Turns the signals that end a process into an abort, and into the exit status that they ask for. */
export class Interruption {
  readonly #controller = new AbortController();
  readonly #handlers: (readonly [NodeJS.Signals, () => void])[];
  /** 128 + n, n being the first signal that came. */
  status: number | undefined;

  constructor() {
    this.#handlers = (['SIGINT', 'SIGTERM', 'SIGHUP'] as const).map((signal) => {
      const handler = (): void => {
        this.status ??= 128 + (signalNumber(signal) ?? 0);
        this.#controller.abort();
      };
      process.on(signal, handler);
      return [signal, handler] as const;
    });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Gives the signals their default actions back. */
  end(): void {
    for (const [signal, handler] of this.#handlers) process.off(signal, handler);
  }
}
