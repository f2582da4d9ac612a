// The built addon, as a file: what it needs of a system, and what it shows to it.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';

const ROOT = join(require.resolve('node-optee/package.json'), '..');

describe.each(['arm64', 'x64'])('prebuilds/linux-%s', (arch) => {
  const file = join(ROOT, 'prebuilds', `linux-${arch}`, 'node-optee.node');
  const readelf = (...flags: string[]): string =>
    execFileSync('readelf', [...flags, file], { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } });

  test('is for that architecture', () => {
    expect(readelf('-h')).toMatch(arch === 'arm64' ? /Machine:\s+AArch64/ : /Machine:.*X86-64/);
  });

  test('needs glibc 2.34 at most, and nothing that Node does not need itself', () => {
    const minors = [...readelf('-W', '--version-info').matchAll(/Name: GLIBC_2\.(\d+)/g)].map((m) =>
      Number(m[1]),
    );
    expect(minors.length).toBeGreaterThan(0);
    expect(Math.max(...minors)).toBeLessThanOrEqual(34);
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
