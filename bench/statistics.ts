/** The value below which the fraction `q` of the numbers lies, between neighbours linearly; NaN of none. */
export function quantile(numbers: readonly number[], q: number): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const low = sorted[Math.floor(at)];
  const high = sorted[Math.ceil(at)];
  return low === undefined || high === undefined ? NaN : low + (high - low) * (at - Math.floor(at));
}

export function median(numbers: readonly number[]): number {
  return quantile(numbers, 0.5);
}

/** Nanoseconds of a call, over all measurements. */
export interface Summary {
  readonly median: number;
  /** A quarter of the measurements is below the first of these, a quarter above the second. */
  readonly quartiles: readonly [number, number];
  readonly fastest: number;
  readonly measurements: number;
}

export function summarize(ns: readonly number[]): Summary {
  return {
    median: median(ns),
    quartiles: [quantile(ns, 0.25), quantile(ns, 0.75)],
    fastest: Math.min(...ns),
    measurements: ns.length,
  };
}
