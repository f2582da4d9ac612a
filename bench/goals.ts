import type { Memory, Run, Subject } from './results';
import { median } from './statistics';

/** What a median must not be above, as a multiple of another one. */
interface Goal {
  readonly cases: RegExp;
  readonly subject: Subject;
  readonly of: Subject;
  readonly limit: number;
}

const GOALS: readonly Goal[] = [
  { cases: /^(empty|value|values4)$/, subject: 'sync', of: 'libteec', limit: 1.05 },
  { cases: /^(empty|value|values4)$/, subject: 'sync', of: 'ioctl', limit: 1.15 },
  { cases: /^tmp-[a-z]+-(16|4096|65536)$/, subject: 'sync', of: 'libteec', limit: 0.6 },
  { cases: /^tmp-[a-z]+-1048576$/, subject: 'sync', of: 'libteec', limit: 0.9 },
  { cases: /^shm-(whole|part)-/, subject: 'sync', of: 'libteec', limit: 1.05 },
  { cases: /^dmabuf-register$/, subject: 'sync', of: 'ioctl', limit: 1.1 },
  { cases: /^empty$/, subject: 'async', of: 'handover', limit: 1.2 },
  // 0.95 times as many calls per second.
  { cases: /^empty$/, subject: 'async8', of: 'libteec8', limit: 1 / 0.95 },
];

const READ_FILE_LIMIT = 1.2;
/** Of the resident set, from the first tenth of the calls to their end: what a garbage collector leaves to chance. */
const MEMORY_LIMIT = 1.03;

/** How a goal was met: medians over all runs of the ratio. */
export interface Verdict {
  readonly name: string;
  readonly subject: string;
  readonly of: string;
  readonly ratio: number;
  readonly limit: number;
  /** How far apart two measurements of the same were: a ratio above 1 by no more counts as equal. */
  readonly spread: number;
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

export function verdicts(runs: readonly Run[]): Verdict[] {
  const found: Verdict[] = [];
  for (const name of Object.keys(runs[0].cases)) {
    for (const { cases, subject, of, limit } of GOALS) {
      if (!cases.test(name)) continue;
      const is = ratio(runs, name, subject, of);
      const apart = spread(runs, name);
      found.push({
        name,
        subject,
        of,
        ratio: is,
        limit,
        spread: apart,
        // Equal is as good as where up to equal was asked, not where faster was.
        met: is <= limit || (limit >= 1 && is <= 1 + apart),
      });
    }
  }
  const reads = runs.flatMap(({ responsiveness }) => responsiveness?.readFile ?? []);
  if (reads.length > 0) {
    const is = median(reads.map(({ idle, blocked }) => blocked.median / idle.median));
    const name = `fs.readFile under ${reads[0].calls} blocked calls`;
    const met = is <= READ_FILE_LIMIT;
    found.push({ name, subject: 'blocked', of: 'idle', ratio: is, limit: READ_FILE_LIMIT, spread: 0, met });
  }
  for (const [key, name] of [
    ['emptyCalls', 'memory, empty command'],
    ['buffers', 'memory, temporary buffers'],
  ] as const) {
    const grown = runs.flatMap(({ memory }) => (memory === undefined ? [] : [growth(memory[key])]));
    if (grown.length === 0) continue;
    const is = median(grown.map(({ first, last }) => last / first));
    const met = is <= MEMORY_LIMIT;
    found.push({ name, subject: 'end', of: 'first tenth', ratio: is, limit: MEMORY_LIMIT, spread: 0, met });
  }
  return found;
}
