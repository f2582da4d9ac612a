// The built addon, as a file: what it needs of a system, and what it shows to it. And where it can be built.
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, test } from '@jest/globals';

const ROOT = join(require.resolve('node-optee/package.json'), '..');

describe.each(['arm64', 'x64'])('prebuilds/linux-%s', (arch) => {
  const file = join(ROOT, 'prebuilds', `linux-${arch}`, 'node-optee.node');
  const readelf = (...flags: string[]): string =>
    execFileSync('readelf', [...flags, file], { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } });

  test('is for that architecture', () => {
    expect(readelf('-h')).toMatch(arch === 'arm64' ? /Machine:\s+AArch64/ : /Machine:.*X86-64/);
  });

  test('needs glibc 2.28 at most, and nothing that Node does not need itself', () => {
    const versions = [...readelf('-W', '--dyn-syms').matchAll(/ UND (\w+@GLIBC_(\d+)\.(\d+))/g)];
    expect(versions.length).toBeGreaterThan(0);
    // What is newer goes to native/glibc.cc.
    expect(versions.filter((m) => Number(m[2]) > 2 || Number(m[3]) > 28).map((m) => m[1])).toEqual([]);
    const needed = [...readelf('-W', '-d').matchAll(/\(NEEDED\).*\[(.*)\]/g)].map((m) => m[1]);
    for (const name of needed) expect(name).toMatch(/^(libc\.so\.6|libgcc_s\.so\.1|ld-linux-.*)$/);
  });

  test('stays when a worker ends, and has its addresses bound from the start', () => {
    expect(readelf('-W', '-d')).toMatch(/\(FLAGS_1\).*NOW.*NODELETE/);
  });

  test('shows its entry alone', () => {
    const shown = [...readelf('-W', '--dyn-syms').matchAll(/(?:GLOBAL|WEAK)\s+DEFAULT\s+\d+ (\S+)/g)].map(
      (m) => m[1],
    );
    expect(shown.sort()).toEqual(['napi_register_module_v1', 'node_api_module_get_api_version_v1']);
  });
});

test('is built for this machine or cross-built, and for no other', () => {
  const build = ['scripts/build-addon.mjs', 'mips'];
  const { status, stderr } = spawnSync(process.execPath, build, { cwd: ROOT, encoding: 'utf8' });
  expect(status).toBe(1);
  expect(stderr).toContain(
    `No addon for mips: ${process.platform}-${process.arch} builds its own, and Linux cross-builds those for arm64 and x64`,
  );
});

test.each(['__linux__', '__LP64__'])('without %s it loads and says that there is no TEE', (macro) => {
  const folder = mkdtempSync(join(tmpdir(), 'node-optee-addon-'));
  try {
    cpSync(join(ROOT, 'dist'), join(folder, 'dist'), { recursive: true });
    const addon = join(folder, 'prebuilds', `${process.platform}-${process.arch}`, 'node-optee.node');
    mkdirSync(dirname(addon), { recursive: true });
    const headers = ['node-api-headers/include', 'node-addon-api'].flatMap((name) => [
      '-isystem',
      join(ROOT, 'node_modules', name),
    ]);
    const defines = [
      'NODE_GYP_MODULE_NAME=node_optee',
      'NAPI_VERSION=9',
      'NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS',
    ];
    const flags = ['-std=c++17', '-shared', '-fPIC', '-Wall', '-Wextra', '-Werror', `-U${macro}`];
    execFileSync(
      'g++',
      [
        ...flags,
        ...defines.map((define) => `-D${define}`),
        ...headers,
        'native/binding/addon.cc',
        '-o',
        addon,
      ],
      { cwd: ROOT },
    );
    const code = `
      const { DmaBuf, DmaHeap, TeeContext } = require(${JSON.stringify(join(folder, 'dist'))});
      const error = (refused) => {
        try { refused(); } catch ({ code, message }) { return { code, message }; }
      };
      console.log(JSON.stringify({
        versions: TeeContext.list().map(({ version }) => version),
        first: error(() => TeeContext.open()),
        named: error(() => TeeContext.open('/dev/tee0')),
        heap: error(() => DmaHeap.open('system')),
        buf: error(() => DmaBuf.fromFd(999999)),
      }));`;
    const found = JSON.parse(execFileSync(process.execPath, ['-e', code], { encoding: 'utf8' })) as {
      versions: unknown[];
      first: object;
    };
    const message = expect.stringContaining('on 64-bit Linux only');
    expect(found.versions.filter((version) => version != null)).toEqual([]);
    // Of the devices of this host, if it has any.
    expect(found.first).toMatchObject({ message: expect.stringContaining('TEE device') });
    expect(found).toMatchObject({
      named: { code: 'ENOSYS', message },
      heap: { code: 'ENOSYS', message },
      buf: { code: 'ENOSYS' },
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
