import { describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

// The benchmark is a program beside the package, compiled to build/bench.
const from = (name: string): Record<string, (...args: never[]) => unknown> =>
  // eslint-disable-next-line @typescript-eslint/no-require-imports
  require(join(process.cwd(), 'build', 'bench', name)) as Record<string, (...args: never[]) => unknown>;
const { quantile, summarize } = from('statistics.js') as unknown as {
  quantile: (numbers: number[], q: number) => number;
  summarize: (ns: number[]) => object;
};
const { verdicts, ratio, spread } = from('goals.js') as unknown as {
  verdicts: (runs: object[]) => { name: string; of: string; ratio: number; met: boolean }[];
  ratio: (runs: object[], name: string, subject: string, of: string) => number;
  spread: (runs: object[], name: string) => number;
};
const { report } = from('report.js') as unknown as {
  report: (runs: object[], facts: string[], instructions: boolean) => string;
};
const { parseRegisters } = from('profile.js') as unknown as { parseRegisters: (text: string) => object[] };
const { Symbols } = from('symbols.js') as unknown as {
  Symbols: {
    new (text: string): { at(address: bigint): string | undefined };
    ofPerfMap(text: string): { at(address: bigint): string | undefined };
  };
};
const { Qmp } = from('qmp.js') as unknown as {
  Qmp: { connect(path: string): Promise<{ execute(command: string): Promise<unknown>; close(): void }> };
};

const guest = { node: 'v24.0.0', kernel: '7.3', cpus: 2, tee: {} };
const summary = (median: number) => ({
  median,
  quartiles: [median - 1, median + 1],
  fastest: median - 2,
  measurements: 9,
});

/** A run with one case, of medians by subject. */
function run(name: string, medians: Record<string, number>) {
  const subjects = Object.fromEntries(Object.entries(medians).map(([key, ns]) => [key, summary(ns)]));
  return { guest, cases: { [name]: subjects } };
}

describe('statistics', () => {
  test('quantiles between neighbours', () => {
    expect(quantile([3, 1, 2], 0.5)).toBe(2);
    expect(quantile([4, 1, 2, 3], 0.5)).toBe(2.5);
    expect(quantile([1, 2, 3, 4, 5], 0.25)).toBe(2);
    expect(quantile([7], 0.99)).toBe(7);
    expect(quantile([], 0.5)).toBeNaN();
  });

  test('a summary', () => {
    expect(summarize([5, 1, 3, 2, 4])).toEqual({ median: 3, quartiles: [2, 4], fastest: 1, measurements: 5 });
  });
});

describe('goals', () => {
  const medians = { ioctl: 1000, libteec: 1000, 'libteec again': 1000, sync: 1000 };

  test('within the limit, and above it', () => {
    const met = (name: string, sync: number) =>
      verdicts([run(name, { ...medians, sync })]).map((verdict) => verdict.met);
    expect([met('shm-whole-16', 1040), met('shm-whole-16', 1041)]).toEqual([[true], [false]]);
    expect([met('tmp-in-16', 650), met('tmp-into-65536', 801)]).toEqual([[true], [false]]);
    expect(met('tmp-in-1048576', 2000)).toEqual([]);
  });

  test('ratios are of each run, then their median', () => {
    const runs = [100, 300, 200].map((sync) => run('empty', { ...medians, sync }));
    expect(ratio(runs, 'empty', 'sync', 'libteec')).toBe(0.2);
    expect(ratio(runs, 'empty', 'async', 'handover')).toBeNaN();
    expect(spread(runs, 'empty')).toBe(0);
  });

  test('what was not measured is not met', () => {
    const found = verdicts([run('empty', medians)]);
    expect(found.map(({ of, met }) => [of, met])).toEqual([
      ['libteec', true],
      ['handover', false],
    ]);
  });
});

test.each([
  [['--seconds', '5'], '--seconds needs --profile'],
  [['--subject', 'sync'], '--subject needs --profile'],
  [['--profile', 'empty', '--rounds', '3'], '--rounds cannot be used with --profile'],
  [['--profile', 'empty', '--quick'], '--quick cannot be used with --profile'],
  [['--profile', 'empty', '--subject', 'libc'], '--subject must be one of ioctl, libteec, '],
  [['--runs', '0'], '--runs must be a whole number from 1'],
])('the benchmark refuses %j', (options, message) => {
  const run = join(process.cwd(), 'build', 'bench', 'run.js');
  const { status, stderr } = spawnSync(process.execPath, [run, ...options], { encoding: 'utf8' });
  expect(stderr).toMatch(message);
  expect(status).toBe(1);
});

test('the report has a line for each case and each goal', () => {
  const text = report(
    [
      run('empty', {
        ...{ ioctl: 500e3, libteec: 600e3, 'libteec again': 606e3, sync: 570e3 },
        ...{ libteec8: 300e3, async8: 450e3 },
      }),
    ],
    ['fact'],
    true,
  );
  expect(text).toMatch(/^fact\n/);
  expect(text).toMatch(
    /^empty +500 ±0\.0 +600 ±0\.0 +570 ±0\.0 +300 ±0\.0 +450 ±0\.0 +0\.95 +1\.14 +1\.50 +±0\.01$/m,
  );
  expect(text).toMatch(/^empty: sync \/ libteec +0\.95 +at most 1\.05 +met$/m);
  expect(text).toMatch(/^empty: async \/ handover +at most 1\.35 +not measured$/m);
  expect(report([run('empty', { ioctl: 1, libteec: 1, sync: 1 })], [], false)).not.toMatch(/at most/);
});

describe('the profile', () => {
  test('where processors were, by what QEMU says of their registers', () => {
    const cpu = (pc: string, state: string): string =>
      ` PC=${pc} X00=000000000000002a X01=0000000000000000\nX30=000000000e091a24  SP=000000000e0c2720\n` +
      `PSTATE=${state}     FPCR=00000000 FPSR=00000000\n`;
    const text = [
      cpu('ffffffc0080a5e40', '600000c5 -ZC- NS EL1h'),
      cpu('000000000e091870', '600003cd -ZC- EL3h'),
      cpu('000000000e17a1b4', '20000145 --C- S  EL1h'),
      cpu('0000000000c0ffee', '60001000 -ZC- NS EL0t'),
    ];
    expect(parseRegisters(text.map((registers, i) => `\nCPU#${i}\n${registers}`).join(''))).toEqual([
      { pc: 0xffffffc0080a5e40n, secure: false, level: 1 },
      { pc: 0xe091870n, secure: false, level: 3 },
      { pc: 0xe17a1b4n, secure: true, level: 1 },
      { pc: 0xc0ffeen, secure: false, level: 0 },
    ]);
    expect(() => parseRegisters('\nCPU#0\n EAX=00000000')).toThrow('not as expected');
  });

  test('names of nm, of the kernel and of V8', () => {
    const symbols = new Symbols(
      [
        '0000000000001000 T main',
        '0000000000003000 t v8::internal::Heap::Scavenge()',
        '0000000000002000 D data',
        '0000000000002800 d local_data',
        'ffffffc008000000 T _text',
        'ffffffc008000010 t helper\t[module]',
      ].join('\n'),
    );
    expect([0x999n, 0x1000n, 0x2fffn, 0x3001n, 0xffffffc008000020n].map((at) => symbols.at(at))).toEqual([
      undefined,
      'main',
      'main',
      'v8::internal::Heap::Scavenge()',
      'helper',
    ]);
    const compiled = Symbols.ofPerfMap('a000 40 JS:*invoke /share/session.js:1:1\nb000 d JS:+x\n');
    expect([0x9fffn, 0xa01fn, 0xb001n].map((at) => compiled.at(at))).toEqual([
      undefined,
      'JS:*invoke /share/session.js:1:1',
      'JS:+x',
    ]);
  });

  test('the monitor of QEMU: answers, events between them, errors, its end', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'node-optee-qmp-'));
    const server = createServer((socket) => {
      socket.write('{"QMP":{}}\n');
      socket.on('data', (data) => {
        const { execute } = JSON.parse(data.toString()) as { execute: string };
        if (execute === 'quit') socket.end();
        else if (execute === 'wrong') socket.write('{"error":{"desc":"no such thing"}}\n');
        else socket.write(`{"event":"STOP"}\n{"return":"${execute}"}\n`);
      });
    });
    try {
      const path = join(folder, 'qmp');
      await new Promise<void>((resolve) => server.listen(path, resolve));
      const qmp = await Qmp.connect(path);
      expect(await qmp.execute('stop')).toBe('stop');
      await expect(qmp.execute('wrong')).rejects.toThrow('QEMU, wrong: no such thing');
      await expect(qmp.execute('quit')).rejects.toThrow('QEMU has closed its monitor');
      await expect(qmp.execute('stop')).rejects.toThrow('QEMU has closed its monitor');
      qmp.close();
    } finally {
      server.close();
      rmSync(folder, { recursive: true });
    }
  });
});
