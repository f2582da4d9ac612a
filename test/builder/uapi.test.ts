// native/uapi.h against the headers of the kernel that the image was built from.
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, test } from '@jest/globals';
import { prepareMachine } from 'node-optee/qemu';

const ROOT = join(require.resolve('node-optee/package.json'), '..');

test('sizes, offsets and numbers are those of the kernel', async () => {
  const { kernel } = await prepareMachine({ machine: 'dynamic' });
  const folder = mkdtempSync(join(tmpdir(), 'node-optee-uapi-'));
  try {
    mkdirSync(join(folder, 'linux'));
    for (const header of ['tee.h', 'dma-heap.h', 'dma-buf.h']) {
      copyFileSync(join(dirname(kernel), header), join(folder, 'linux', header));
    }
    const flags = ['-std=c++17', '-fsyntax-only', `-I${folder}`];
    const compile = () => execFileSync('g++', [...flags, 'test/native/uapi_test.cc'], { cwd: ROOT });
    expect(compile().toString()).toBe('');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
