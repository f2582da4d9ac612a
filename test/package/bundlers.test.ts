// Every command and configuration of docs/bundlers.md, with the package as users have it. What it makes runs.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { installPacked, type Packed } from '../support/packed.js';
import { installTools } from '../support/tools.js';

const ROOT = dirname(require.resolve('node-optee/package.json'));

const APP = `
  import { TeeContext } from 'node-optee';
  console.log(TeeContext.list().length);
  try { TeeContext.open('/dev/tee99'); } catch ({ name, code }) { console.log(name, code); }`;
const OUTPUT = /^\d+\nTeeSystemError ENOENT\n$/;

/** Code blocks of docs/bundlers.md in their order: heading, language, text. */
const blocks: [heading: string, language: string, text: string][] = [];
let heading = '';
const page = readFileSync(join(ROOT, 'docs/bundlers.md'), 'utf8');
for (const [, title, language, text] of page.matchAll(/^## (.*)$|^```(\w+)\n([^]*?)^```$/gm)) {
  if (title !== undefined) heading = title;
  else blocks.push([heading, language, text]);
}

let packed: Packed;
let tools: string;
beforeAll(() => {
  packed = installPacked();
  tools = installTools();
  writeFileSync(join(packed.app, 'app.mjs'), APP);
}, 300_000);
afterAll(() => packed.remove());
beforeEach(() => rmSync(join(packed.app, 'dist'), { recursive: true, force: true }));

/** Runs what is in dist: where the package is installed if it was left out, else alone in an empty folder. */
function runResult(leftOut: boolean): string {
  const alone = mkdtempSync(join(tmpdir(), 'node-optee-bundle-'));
  try {
    let folder = join(packed.app, 'dist');
    if (!leftOut) renameSync(folder, (folder = join(alone, 'dist')));
    const program = readdirSync(folder).find((name) => /^(app|index)\.(cjs|mjs|js)$/.test(name)) ?? '';
    return execFileSync(process.execPath, [join(folder, program)], { cwd: alone, encoding: 'utf8' });
  } finally {
    rmSync(alone, { recursive: true, force: true });
  }
}

const sh = (command: string): void => {
  const PATH = [join(tools, '.bin'), process.env['PATH']].join(delimiter);
  execFileSync('sh', ['-c', command], {
    cwd: packed.app,
    env: { ...process.env, PATH },
    stdio: 'pipe',
  });
};

test('the page has its commands', () => {
  expect(blocks.map(([heading]) => heading)).toEqual([
    ...Array<string>(4).fill('esbuild'),
    ...Array<string>(2).fill('webpack'),
    'Rollup',
    'ncc',
    'File tracing: nft, Next.js',
  ]);
});

test.each(blocks)('%s, %s: %s', (_, language, text) => {
  if (language === 'sh') sh(text);
  else {
    writeFileSync(join(packed.app, 'webpack.config.cjs'), text);
    const build = `
      const options = require('./webpack.config.cjs');
      options.resolveLoader = { modules: [${JSON.stringify(tools)}] };
      require(${JSON.stringify(join(tools, 'webpack'))})(options, (error, stats) => {
        if (error || stats.compilation.errors.length + stats.compilation.warnings.length > 0) {
          throw error ?? new Error(stats.toString());
        }
      });`;
    execFileSync(process.execPath, ['-e', build], { cwd: packed.app, stdio: 'pipe' });
  }
  expect(runResult(/external/.test(text))).toMatch(OUTPUT);
});

describe('file tracing', () => {
  test('copies what the client needs, the guest not', () => {
    sh('nft build app.mjs');
    const copied = join(packed.app, 'dist/node_modules/node-optee');
    for (const arch of ['arm64', 'x64']) {
      expect(existsSync(join(copied, `prebuilds/linux-${arch}/node-optee.node`))).toBe(true);
    }
    expect(existsSync(join(copied, 'dist/qemu'))).toBe(false);
  });
});

test('a bundle without the addon says why it does not run', () => {
  sh('esbuild app.mjs --bundle --platform=node --external:*.node --outfile=dist/app.cjs');
  const alone = mkdtempSync(join(tmpdir(), 'node-optee-bundle-'));
  try {
    renameSync(join(packed.app, 'dist'), join(alone, 'dist'));
    const { stderr } = spawnSync(process.execPath, [join(alone, 'dist/app.cjs')], { encoding: 'utf8' });
    expect(stderr).toMatch(/ERR_TEE_ADDON_MISSING/);
    expect(stderr).toMatch(/bundler.*docs\/bundlers\.md/);
  } finally {
    rmSync(alone, { recursive: true, force: true });
  }
});

test("esbuild's ES module of the guest loads", () => {
  writeFileSync(
    join(packed.app, 'guest.mjs'),
    "import { Guest } from 'node-optee/qemu'; console.log(typeof Guest.boot);",
  );
  const banner =
    "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);";
  sh(
    `esbuild guest.mjs --bundle --platform=node --format=esm --outfile=dist/app.mjs --banner:js="${banner}"`,
  );
  expect(runResult(false)).toBe('function\n');
});
