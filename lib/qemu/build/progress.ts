import type { WriteStream } from 'node:tty';

/** How the build tells where it is. */
export interface Progress {
  /** A step begins; `step` counts from 1. */
  start(step: number, steps: number, title: string): void;
  /** The step that began last has ended; `seconds` is its time. */
  end(seconds: number): void;
  /** The step that began last has failed. */
  fail(seconds: number): void;
  /** Something worth knowing between steps. */
  note(text: string): void;
}

/** On a terminal one line with the elapsed time, else a line at each step's start and end. */
export function streamProgress(stream: NodeJS.WritableStream = process.stderr): Progress {
  return (stream as Partial<WriteStream>).isTTY ? terminalProgress(stream) : lineProgress(stream);
}

export const silentProgress: Progress = { start() {}, end() {}, fail() {}, note() {} };

function lineProgress(stream: NodeJS.WritableStream): Progress {
  let label = '';
  return {
    start(step, steps, title) {
      label = `[${step}/${steps}] ${title}`;
      stream.write(`${label} ...\n`);
    },
    end: (seconds) => void stream.write(`${label}: ${elapsed(seconds)}\n`),
    fail: (seconds) => void stream.write(`${label}: failed after ${elapsed(seconds)}\n`),
    note: (text) => void stream.write(`${text}\n`),
  };
}

function terminalProgress(stream: NodeJS.WritableStream): Progress {
  let label = '';
  let timer: NodeJS.Timeout | undefined;
  const CLEAR = '\r\x1b[K';
  return {
    start(step, steps, title) {
      label = `[${step}/${steps}] ${title}`;
      const began = Date.now();
      const draw = (): void => void stream.write(`${CLEAR}${label} ${elapsed((Date.now() - began) / 1000)}`);
      clearInterval(timer);
      timer = setInterval(draw, 1000);
      timer.unref();
      draw();
    },
    end(seconds) {
      clearInterval(timer);
      stream.write(`${CLEAR}${label}: ${elapsed(seconds)}\n`);
    },
    fail(seconds) {
      clearInterval(timer);
      stream.write(`${CLEAR}${label}: failed after ${elapsed(seconds)}\n`);
    },
    note: (text) => void stream.write(`${CLEAR}${text}\n`),
  };
}

/** Seconds as `12 s` or `7:05`. */
export function elapsed(seconds: number): string {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`;
}
