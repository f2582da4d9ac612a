/** The figures of a soak as an SVG: a panel for each, over one time axis. */
import { judge, warmUp, type Sample } from './figures.js';

const WIDTH = 900;
const LEFT = 150;
const RIGHT = 20;
const PANEL = 90;
const GAP = 24;

export function graph(samples: readonly Sample[], title: string): string {
  const end = samples.at(-1)?.seconds ?? 1;
  const verdicts = judge(samples);
  const x = (seconds: number): number => LEFT + (seconds / end) * (WIDTH - LEFT - RIGHT);
  const height = 60 + verdicts.length * (PANEL + GAP);
  const text = (at: number, top: number, words: string, more = ''): string =>
    `<text x="${at}" y="${top}" ${more}>${words}</text>`;
  const panels = verdicts.map(({ figure, good, rise }, i) => {
    const top = 40 + i * (PANEL + GAP);
    const most = Math.max(...samples.map((sample) => sample[figure]), 1);
    const points = samples.map(
      (sample) => `${x(sample.seconds).toFixed(1)},${(top + PANEL * (1 - sample[figure] / most)).toFixed(1)}`,
    );
    return [
      `<rect x="${LEFT}" y="${top}" width="${WIDTH - LEFT - RIGHT}" height="${PANEL}" fill="none" stroke="#bbb"/>`,
      text(10, top + 20, figure),
      text(10, top + 38, `${good ? 'flat' : 'NOT FLAT'}: ${rise >= 0 ? '+' : ''}${rise}`),
      text(LEFT - 6, top + 10, String(most), 'text-anchor="end"'),
      text(LEFT - 6, top + PANEL, '0', 'text-anchor="end"'),
      `<polyline points="${points.join(' ')}" fill="none" stroke="${good ? '#1668c7' : '#c72316'}" stroke-width="1.5"/>`,
    ].join('\n');
  });
  const from = x(warmUp(end)).toFixed(1);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${height}" fill="#fff"/>`,
    text(10, 20, title, 'font-size="14"'),
    ...panels,
    `<line x1="${from}" y1="40" x2="${from}" y2="${height - 40}" stroke="#888" stroke-dasharray="4"/>`,
    text(Number(from) + 4, height - 28, 'from here on it is judged'),
    text(WIDTH - RIGHT, height - 10, `${Math.round(end)} s`, 'text-anchor="end"'),
    '</svg>\n',
  ].join('\n');
}
