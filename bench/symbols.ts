import { spawnSync } from 'node:child_process';

interface Symbol {
  readonly from: bigint;
  readonly name: string;
}

const NM = /^([0-9a-f]+) [tTwW] (.*)$/gm;

/** Names of functions by their addresses. */
export class Symbols {
  readonly #symbols: Symbol[];

  /**
   * @param text lines of `nm` or /proc/kallsyms (address, type, name), or of `perf-PID.map`
   * @param line address and name of a function in one of these
   */
  constructor(text: string, line = NM) {
    this.#symbols = [...text.matchAll(line)]
      .map(([, address, name]) => ({ from: BigInt(`0x${address}`), name: name.split('\t')[0] }))
      .sort((a, b) => (a.from < b.from ? -1 : a.from > b.from ? 1 : 0));
  }

  /** Those of V8's `perf-PID.map`: address, size, name. */
  static ofPerfMap(text: string): Symbols {
    return new Symbols(text, /^([0-9a-f]+) [0-9a-f]+ (.*)$/gm);
  }

  /** Those of an arm64 program. */
  static ofFile(path: string): Symbols {
    const argv = ['-C', '--defined-only', path];
    const { status, stdout, stderr, error } = spawnSync('aarch64-linux-gnu-nm', argv, {
      encoding: 'utf8',
      maxBuffer: 1 << 30,
    });
    if (status !== 0) throw error ?? new Error(`nm: ${stderr}`);
    return new Symbols(stdout);
  }

  /** The last one that begins at this address or before it. */
  at(address: bigint): string | undefined {
    let low = 0;
    let high = this.#symbols.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#symbols[middle].from <= address) low = middle + 1;
      else high = middle;
    }
    return this.#symbols[low - 1]?.name;
  }
}
