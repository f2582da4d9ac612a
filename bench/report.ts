import { growth, ratio, RATIOS, spread, verdicts, type Verdict } from './goals';
import { PLACES, type Profile } from './profile';
import type { Memory, Run, Subject } from './results';
import type { SignatureCost, SignatureCosts } from './signature';
import { median } from './statistics';

const COLUMNS: readonly Subject[] = [
  'ioctl',
  'libteec',
  'handover',
  'sync',
  'described',
  'async',
  'libteec8',
  'async8',
];
const BARS = '▁▂▃▄▅▆▇█';

function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const line = (row: readonly string[]): string =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('  ');
  return rows.map((row) => line(row).trimEnd()).join('\n');
}

const micro = (ns: number): string => (ns < 1e5 ? (ns / 1e3).toFixed(1) : Math.round(ns / 1e3).toString());
const times = (number: number): string => (Number.isNaN(number) ? '' : number.toFixed(2));

/** Medians of all runs, half the distance of the quartiles, and the ratios that count. */
function cases(runs: readonly Run[]): string {
  const head = ['case', ...COLUMNS, ...RATIOS.map((two) => two.join('/')), 'libteec/itself'];
  const rows = Object.keys(runs[0].cases).map((name) => {
    const cell = (subject: Subject): string => {
      const summaries = runs.flatMap((run) => run.cases[name]?.[subject] ?? []);
      if (summaries.length === 0) return '';
      const half = median(summaries.map(({ quartiles: [low, high] }) => (high - low) / 2));
      return `${micro(median(summaries.map((summary) => summary.median)))} ±${micro(half)}`;
    };
    return [
      name,
      ...COLUMNS.map(cell),
      ...RATIOS.map(([subject, of]) => times(ratio(runs, name, subject, of))),
      `±${times(spread(runs, name))}`,
    ];
  });
  return table([head, ...rows]);
}

function decision({ ratio: is, met }: Verdict): string {
  if (Number.isNaN(is)) return 'not measured';
  return met ? 'met' : 'NOT MET';
}

function goals(runs: readonly Run[]): string {
  const rows = verdicts(runs).map((verdict) => [
    `${verdict.name}: ${verdict.subject} / ${verdict.of}`,
    times(verdict.ratio),
    `at most ${times(verdict.limit)}`,
    decision(verdict),
  ]);
  return rows.length === 0 ? 'none of the goals was measured' : table([['goal', 'is', 'limit', ''], ...rows]);
}

function responsiveness(runs: readonly Run[]): string[] {
  return runs.flatMap(({ responsiveness: found }) => {
    if (found === undefined) return [];
    const { readFile, timer } = found;
    const late = ({ median: middle, p99, worst }: typeof timer.idle): string =>
      `median ${micro(middle)}, 99 % ${micro(p99)}, worst ${micro(worst)}`;
    return [
      `fs.readFile, 64 KiB: ${micro(readFile.idle.median)} idle, ${micro(readFile.blocked.median)} under ` +
        `${readFile.calls} blocked calls (${readFile.idle.measurements} and ${readFile.blocked.measurements} reads)`,
      `a timer of 5 ms is late by: idle ${late(timer.idle)}; 8 deep ${late(timer.load)}`,
    ];
  });
}

/** A line of bars, each an eighth of the way from the least to the most, but of 1 % at least. */
function graph(title: string, memory: Memory['emptyCalls']): string {
  const { calls, resident } = memory;
  const least = Math.min(...resident);
  const step = Math.max((Math.max(...resident) - least) / BARS.length, least / 100);
  const bar = (bytes: number): string => BARS[Math.min(Math.floor((bytes - least) / step), BARS.length - 1)];
  const { first, last } = growth(memory);
  const mib = (bytes: number): string => (bytes / 1048576).toFixed(1);
  return (
    `${title}, ${calls} calls: ${mib(first)} MiB after the first tenth, ${mib(last)} at the end ` +
    `(${(((last - first) / first) * 100).toFixed(1)} %); from ${mib(least)} in steps of ${(step / 1048576).toFixed(2)} MiB:\n` +
    resident.map(bar).join('')
  );
}

/**
 * The report for people.
 * @param instructions were they counted, and not the time
 */
export function report(runs: readonly Run[], facts: readonly string[], instructions: boolean): string {
  const { guest } = runs[0];
  return [
    ...facts,
    `guest: Node.js ${guest.node}, Linux ${guest.kernel}, ${guest.cpus} CPUs; ${runs.length} run(s), medians of them`,
    '',
    `${instructions ? 'Thousands of instructions' : 'Microseconds'} per call: the median, and ± half the distance of the quartiles.`,
    'libteec8, async8: calls 8 deep over 8 sessions, their time together by all of them.',
    cases(runs),
    '',
    instructions ? goals(runs) : 'The goals are of instructions: --instructions.',
    '',
    ...responsiveness(runs),
    ...runs.flatMap(({ memory }) =>
      memory === undefined
        ? []
        : [
            graph('Resident set, empty command', memory.emptyCalls),
            graph('Resident set, temporary buffers', memory.buffers),
          ],
    ),
  ].join('\n');
}

/** Functions of a profile that are listed. */
const MOST = 30;

/** Where the time of one case goes, for people. */
export function reportProfile(profiles: readonly Profile[]): string {
  const rows = PLACES.map((place) => [
    place,
    ...profiles.map(({ places }) => (places[place] === undefined ? '' : micro(places[place]))),
  ]);
  // In no table: names of C++ are as long as they like.
  const functions = profiles.map(({ subject, functions: found }) =>
    [
      `${subject}:`,
      ...found.slice(0, MOST).map(({ place, name, ns }) => `${micro(ns).padStart(7)}  ${place}: ${name}`),
    ].join('\n'),
  );
  return [
    'Microseconds of one call, on all processors together.',
    table([
      ['', ...profiles.map(({ subject }) => subject)],
      ...rows,
      ['a call takes', ...profiles.map(({ ns }) => micro(ns))],
      ['looks', ...profiles.map(({ looks }) => String(looks))],
    ]),
    '',
    ...functions,
    '',
  ].join('\n');
}

/** What this package adds to a signature is to be at most so many times what libckteec does. */
const SIGNATURE_LIMIT = 2;

export function reportSignatures(costs: SignatureCosts): string {
  const rows = Object.entries(costs).map(([name, { calls, inside, outside }]: [string, SignatureCost]) => [
    name,
    calls.toFixed(2),
    micro(inside),
    micro(outside),
  ]);
  const is = costs['node-optee'].outside / costs.libckteec.outside;
  const met = is <= SIGNATURE_LIMIT ? 'met' : 'NOT MET';
  return [
    'One signature with an EC key (P-256), in thousands of instructions:',
    table([['', 'calls of the TA', 'in them', 'outside'], ...rows]),
    `node-optee / libckteec, outside: ${times(is)}, at most ${times(SIGNATURE_LIMIT)}: ${met}`,
    '',
  ].join('\n');
}
