import { constants } from 'node:os';

const LAST_SIGNAL = 64;

/** The name of a signal. Real-time signals have none, and are called after their number: `SIG34`. */
export function signalName(number: number): NodeJS.Signals {
  const name = Object.entries(constants.signals).find(([, value]) => value === number)?.[0];
  return (name ?? `SIG${number}`) as NodeJS.Signals;
}

/** The number of a signal, by the names that {@link signalName} gives; undefined where there is none. */
export function signalNumber(name: string): number | undefined {
  const number = constants.signals[name as NodeJS.Signals] ?? Number(/^SIG(\d+)$/.exec(name)?.[1]);
  return number >= 1 && number <= LAST_SIGNAL ? number : undefined;
}
