/** What the soak measures, and what of it may not rise. */

/** At one moment; sizes are in KiB. */
export interface Sample {
  /** Since the start. */
  readonly seconds: number;
  readonly resident: number;
  readonly descriptors: number;
  readonly mappings: number;
  readonly threads: number;
  /** In OP-TEE, of the TAs that the load uses. */
  readonly sessions: number;
  /** OP-TEE's own heap that is in use. */
  readonly teeHeap: number;
  /** How much was done until then. */
  readonly done: number;
}

export type Figure = 'resident' | 'descriptors' | 'mappings' | 'threads' | 'sessions' | 'teeHeap';

/** How much each may rise over the time that is looked at, and how much it may ever be above where it began. */
export const LIMITS: Record<Figure, { readonly rise: number; readonly above: number }> = {
  resident: { rise: 8 * 1024, above: 32 * 1024 },
  descriptors: { rise: 3, above: 24 },
  mappings: { rise: 8, above: 64 },
  threads: { rise: 3, above: 24 },
  sessions: { rise: 2, above: 16 },
  teeHeap: { rise: 16, above: 256 },
};

/** What comes before is warm-up: code is compiled, pools and heaps find their size. */
export const warmUp = (seconds: number): number => Math.min(seconds / 3, 300);

/** By how much the line through all samples (least squares) rises from the first to the last. */
export function rise(samples: readonly Sample[], figure: Figure): number {
  const count = samples.length;
  const mean = (of: (sample: Sample) => number): number =>
    samples.reduce((sum, sample) => sum + of(sample), 0) / count;
  const time = mean(({ seconds }) => seconds);
  const height = mean((sample) => sample[figure]);
  let both = 0;
  let square = 0;
  for (const sample of samples) {
    both += (sample.seconds - time) * (sample[figure] - height);
    square += (sample.seconds - time) ** 2;
  }
  const [first, last] = [samples[0], samples[count - 1]];
  return square === 0 ? 0 : (both / square) * (last.seconds - first.seconds);
}

export interface Verdict {
  readonly figure: Figure;
  readonly first: number;
  readonly least: number;
  readonly most: number;
  readonly rise: number;
  readonly good: boolean;
}

/** Of each figure, after the warm-up. */
export function judge(samples: readonly Sample[]): Verdict[] {
  const end = samples.at(-1)?.seconds ?? 0;
  const looked = samples.filter(({ seconds }) => seconds >= warmUp(end));
  if (looked.length < 5) throw new Error(`${looked.length} samples after the warm-up are too few`);
  return (Object.keys(LIMITS) as Figure[]).map((figure) => {
    const values = looked.map((sample) => sample[figure]);
    const [first, least, most] = [values[0], Math.min(...values), Math.max(...values)];
    const rises = rise(looked, figure);
    const good = rises <= LIMITS[figure].rise && most - first <= LIMITS[figure].above;
    return { figure, first, least, most, rise: Math.round(rises * 10) / 10, good };
  });
}
