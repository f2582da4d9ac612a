import type { Memory, Run, Subject } from './results';
import { median } from './statistics';

/**
 * What a median of instructions (`--instructions`) must not be above, as a multiple of another one. The clock's figures
 * are information: in the emulator their second digit says nothing.
 */
interface Goal {
  readonly cases: RegExp;
  readonly subject: Subject;
  readonly of: Subject;
  readonly limit: number;
}

const GOALS: readonly Goal[] = [
  { cases: /^(empty|value)$/, subject: 'sync', of: 'libteec', limit: 1.05 },
  { cases: /^values4$/, subject: 'sync', of: 'libteec', limit: 1.1 },
  { cases: /^shm-(whole|part)-/, subject: 'sync', of: 'libteec', limit: 1.04 },
  { cases: /^tmp-[a-z]+-(16|4096)$/, subject: 'sync', of: 'libteec', limit: 0.65 },
  { cases: /^tmp-[a-z]+-65536$/, subject: 'sync', of: 'libteec', limit: 0.8 },
  { cases: /^empty$/, subject: 'async', of: 'handover', limit: 1.35 },
  // 1,500 instructions of 55,500.
  { cases: /^value$/, subject: 'described', of: 'sync', limit: 1.027 },
];

/** How a goal was met: the median over all runs of the ratio. */
export interface Verdict {
  readonly name: string;
  readonly subject: string;
  readonly of: string;
  readonly ratio: number;
  readonly limit: number;
  readonly met: boolean;
}

/** The ratio of two subjects' medians: of each run, then the median of those. NaN where it was not measured. */
export function ratio(runs: readonly Run[], name: string, subject: Subject, of: Subject): number {
  const ratios = runs.map((run) => {
    const result = run.cases[name];
    return (result?.[subject]?.median ?? NaN) / (result?.[of]?.median ?? NaN);
  });
  return median(ratios);
}

/** The ratios that count. */
export const RATIOS: readonly (readonly [subject: Subject, of: Subject])[] = [
  ['sync', 'libteec'],
  ['sync', 'ioctl'],
  ['described', 'sync'],
  ['async', 'handover'],
  ['async8', 'libteec8'],
];

/** How far libteec is from itself in a case. */
export function spread(runs: readonly Run[], name: string): number {
  const differences = runs.map((run) => Math.abs(ratio([run], name, 'libteec again', 'libteec') - 1));
  return median(differences);
}

/** For machines: of each case the ratios of all runs, by their names in the table. spread: how far libteec is from itself. */
export function ratios(runs: readonly Run[]): Record<string, Record<string, number>> {
  const names = Object.keys(runs[0].cases);
  return Object.fromEntries(
    names.map((name) => {
      const found = RATIOS.map((two) => [two.join('/'), ratio(runs, name, ...two)] as const);
      const measured = found.filter(([, is]) => !Number.isNaN(is));
      return [name, { ...Object.fromEntries(measured), spread: spread(runs, name) }];
    }),
  );
}

/** Bytes after the first tenth of the calls, and at their end. */
export function growth({ resident }: Memory['emptyCalls']): { first: number; last: number } {
  const tenth = Math.max(1, Math.round(resident.length / 10));
  return { first: resident[tenth - 1], last: resident[resident.length - 1] };
}

/** Of runs that counted instructions. */
export function verdicts(runs: readonly Run[]): Verdict[] {
  return Object.keys(runs[0].cases).flatMap((name) =>
    GOALS.filter(({ cases }) => cases.test(name)).map(({ subject, of, limit }) => {
      const is = ratio(runs, name, subject, of);
      return { name, subject, of, ratio: is, limit, met: is <= limit };
    }),
  );
}
