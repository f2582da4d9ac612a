import type { WriteStream } from 'node:tty';

/** How the build tells where it is. Steps can run beside each other. */
export interface Progress {
  /** A step begins; `step` counts from 1. */
  start(step: number, steps: number, title: string): void;
  /** A step has ended; `seconds` is its time. */
  end(seconds: number, step: number): void;
  /** A step has failed, or was ended because another one failed. */
  fail(seconds: number, step: number): void;
  /** Something worth knowing between steps. */
  note(text: string): void;
}

/** On a terminal one line with the elapsed time, else a line at each step's start and end. */
export function streamProgress(stream: NodeJS.WritableStream = process.stderr): Progress {
  return (stream as Partial<WriteStream>).isTTY ? terminalProgress(stream) : lineProgress(stream);
}

export const silentProgress: Progress = { start() {}, end() {}, fail() {}, note() {} };

function lineProgress(stream: NodeJS.WritableStream): Progress {
  const labels = new Map<number, string>();
  return {
    start(step, steps, title) {
      labels.set(step, `[${step}/${steps}] ${title}`);
      stream.write(`${labels.get(step)} ...\n`);
    },
    end: (seconds, step) => void stream.write(`${labels.get(step)}: ${elapsed(seconds)}\n`),
    fail: (seconds, step) => void stream.write(`${labels.get(step)}: failed after ${elapsed(seconds)}\n`),
    note: (text) => void stream.write(`${text}\n`),
  };
}

function terminalProgress(stream: NodeJS.WritableStream): Progress {
  const running = new Map<number, { label: string; began: number }>();
  let timer: NodeJS.Timeout | undefined;
  const CLEAR = '\r\x1b[K';
  const draw = (): void => {
    const now = Date.now();
    const all = [...running.values()].map(({ label, began }) => `${label} ${elapsed((now - began) / 1000)}`);
    // What is wider than the terminal would go on in a second line, which stays.
    const { columns = 80 } = stream as Partial<WriteStream>;
    stream.write(CLEAR + all.join(', ').slice(0, columns - 1));
  };
  const over = (step: number, text: string): void => {
    stream.write(`${CLEAR}${running.get(step)?.label}: ${text}\n`);
    running.delete(step);
    if (running.size > 0) draw();
    else clearInterval(timer);
  };
  return {
    start(step, steps, title) {
      running.set(step, { label: `[${step}/${steps}] ${title}`, began: Date.now() });
      clearInterval(timer);
      timer = setInterval(draw, 1000);
      timer.unref();
      draw();
    },
    end: (seconds, step) => over(step, elapsed(seconds)),
    fail: (seconds, step) => over(step, `failed after ${elapsed(seconds)}`),
    note: (text) => void stream.write(`${CLEAR}${text}\n`),
  };
}

/** Seconds as `12 s` or `7:05`. */
export function elapsed(seconds: number): string {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`;
}
