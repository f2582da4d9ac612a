// lib/qemu/build/fdt.ts against Debian's device tree compiler.
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { reservedMemory } from '#lib/qemu/build/device-tree';
import { addNode } from '#lib/qemu/build/fdt';
import { STATIC_POOL } from '#lib/qemu/build/optee';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'node-optee-fdt-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const compile = (source: string): Buffer =>
  execFileSync('dtc', ['-q', '-I', 'dts', '-O', 'dtb'], { input: source });
const read = (tree: Buffer): string =>
  execFileSync('dtc', ['-q', '-I', 'dtb', '-O', 'dts'], { input: tree, encoding: 'utf8' });

const BASE = `
  /memreserve/ 0x40000000 0x10000;
  /memreserve/ 0x50000000 0x20000;
  / {
    #address-cells = <2>;
    #size-cells = <2>;
    odd = "abc";
    NOTHING
    cpus { #address-cells = <1>; #size-cells = <0>; cpu@0 { reg = <0>; empty; }; };
    chosen { bootargs = "quiet"; };
    NODE
  };`;
const dts = (node: string, nothing = ''): string =>
  `/dts-v1/;${BASE.replace('NODE', node).replace('NOTHING', nothing)}`;

test.each([
  ['static', 'no-map;'],
  ['dmabuf', 'compatible = "shared-dma-pool"; reusable;'],
] as const)('the node of %s is what dtc makes of it', (machine, mode) => {
  const node = `
    reserved-memory {
      #address-cells = <2>; #size-cells = <2>; ranges;
      sdp@7e000000 { reg = <0x0 0x7e000000 0x0 0x01000000>; ${mode} };
    };`;
  expect(STATIC_POOL).toEqual({ base: 0x7e000000, size: 0x01000000 });
  const tree = compile(dts(''));
  const before = Buffer.from(tree);
  const made = addNode(tree, 'reserved-memory', reservedMemory(machine));
  expect(read(made)).toBe(read(compile(dts(node))));
  expect(tree.equals(before)).toBe(true);
  // As QEMU writes it: with room behind.
  expect(read(addNode(Buffer.concat([tree], 1 << 16), 'reserved-memory', reservedMemory(machine)))).toBe(
    read(made),
  );
});

test('what is no tree, is cut, or has the node is refused', () => {
  const node = reservedMemory('static');
  const tree = compile(dts(''));
  const made = addNode(tree, 'reserved-memory', node);
  expect(() => addNode(made, 'reserved-memory', node)).toThrow(
    'The device tree has a node reserved-memory already',
  );
  // Of a child's name nobody minds.
  expect(read(addNode(tree, 'cpu@0', node))).toContain('cpu@0');
  expect(() => addNode(Buffer.from('no tree'), 'a', node)).toThrow('This is no device tree');
  expect(() => addNode(Buffer.alloc(100), 'a', node)).toThrow('This is no device tree');
});
