/** How generated C is laid out: as clang-format does it with Google's style, 110 columns wide. */

/** Columns of a line. */
export const WIDTH = 110;

/** The longest line of comment text, behind ` * `. */
const COMMENT_WIDTH = WIDTH - 3;

const spaces = (count: number): string => ' '.repeat(count);

/** Fills lines with words: each is as long as `width` allows, but for words that are longer. */
function fill(words: readonly string[], separator: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of words) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + separator.length + word.length <= width) {
      lines[lines.length - 1] = last + separator + word;
    } else {
      lines.push(word);
    }
  }
  return lines;
}

/**
 * Something with parentheses: a call, a prototype. Where it is too long for a line, what is in them stands below what is
 * behind the opening one; where that is too long too, on lines of its own.
 * @param head what stands before: 'TEE_Result notary_hash(' with its indentation
 * @param tail what stands behind: ');'
 */
export function parentheses(
  head: string,
  inside: readonly string[],
  tail: string,
  width: number = WIDTH,
): string[] {
  const line = `${head}${inside.join(', ')}${tail}`;
  if (line.length <= width) return [line];
  const words = inside.map((word, i) => (i + 1 < inside.length ? `${word},` : `${word}${tail}`));
  const column = head.length;
  const lines = fill(words, ' ', width - column);
  if (lines.every((part) => column + part.length <= width)) {
    return lines.map((part, i) => (i === 0 ? `${head}${part}` : `${spaces(column)}${part}`));
  }
  const indent = head.length - head.trimStart().length + 4;
  return [head, ...fill(words, ' ', width - indent).map((part) => `${spaces(indent)}${part}`)];
}

/** `if (condition) statement`, on several lines where one is too short. */
export function ifThen(indent: number, condition: string, statement: string): string[] {
  const head = `${spaces(indent)}if (${condition})`;
  const below = `${spaces(indent + 2)}${statement}`;
  if (head.length + 1 + statement.length <= WIDTH) return [`${head} ${statement}`];
  if (head.length <= WIDTH) return [head, below];
  const terms = condition.split(' && ');
  const lines = terms.flatMap((term, i) => {
    const start = i === 0 ? `${spaces(indent)}if (` : spaces(indent + 4);
    const end = i + 1 < terms.length ? ' &&' : ')';
    const open = term.indexOf('(') + 1;
    if (open === 0) return [`${start}${term}${end}`];
    return parentheses(start + term.slice(0, open), term.slice(open, -1).split(', '), `)${end}`);
  });
  return [...lines, below];
}

/** `left = right(inside);`, where it is too long in the form with the fewest lines. */
export function assignment(indent: number, left: string, right: string, inside: readonly string[]): string[] {
  const start = `${spaces(indent)}${left} =`;
  const aligned = parentheses(`${start} ${right}(`, inside, ');');
  if (aligned.length === 1) return aligned;
  const below = [start, ...parentheses(`${spaces(indent + 4)}${right}(`, inside, ');')];
  const best = below.length <= aligned.length ? below : aligned;
  const words = inside.map((word, i) => (i + 1 < inside.length ? `${word},` : `${word});`));
  const open = [
    `${start} ${right}(`,
    ...fill(words, ' ', WIDTH - indent - 4).map((part) => `${spaces(indent + 4)}${part}`),
  ];
  return open.length < best.length ? open : best;
}

/** A comment of some paragraphs. */
export function comment(...paragraphs: readonly string[]): string[] {
  const lines = paragraphs.flatMap((text) =>
    text === '' ? [''] : fill(text.split(' '), ' ', COMMENT_WIDTH),
  );
  const [only = ''] = lines;
  if (lines.length === 1 && only.length + 6 <= WIDTH) return [`/* ${only} */`];
  return ['/*', ...lines.map((line) => (line === '' ? ' *' : ` * ${line}`)), ' */'];
}

/** Lines of a macro, each but the last with a backslash below each other. */
export function continued(lines: readonly string[]): string[] {
  const last = lines.length - 1;
  const column = Math.max(...lines.slice(0, last).map((line) => line.length));
  return lines.map((line, i) => (i < last ? `${line.padEnd(column)} \\` : line));
}

/** `#define NAME function(inside)`, over as many lines as it takes. */
export function defineCall(name: string, called: string, inside: readonly string[]): string[] {
  const one = `#define ${name} ${called}(${inside.join(', ')})`;
  if (one.length <= WIDTH) return [one];
  const below = `  ${called}(${inside.join(', ')})`;
  if (below.length <= WIDTH) return continued([`#define ${name}`, below]);
  return continued([`#define ${name}`, ...parentheses(`  ${called}(`, inside, ')', WIDTH - 2)]);
}
