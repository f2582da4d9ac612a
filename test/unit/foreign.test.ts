import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { foreignPart, processorOf } from '#lib/qemu/foreign';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'node-optee-foreign-'));
  mkdirSync(join(folder, 'node_modules/my addon'), { recursive: true });
  write('node_modules/my addon/x.node', elf(62));
  write('node_modules/arm.node', elf(183));
  write('program', elf(62));
  write('script', Buffer.from('#!/bin/sh\necho a script of more than twenty bytes\n'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const write = (name: string, bytes: Buffer) => writeFileSync(join(folder, name), bytes);

/** The head of an ELF file, little-endian, 64 bits. */
function elf(machine: number): Buffer {
  const head = Buffer.alloc(64);
  head.write('\x7fELF\x02\x01\x01', 'latin1');
  head.writeUInt16LE(3, 16);
  head.writeUInt16LE(machine, 18);
  return head;
}

test.each<[string, string | undefined]>([
  // What Node.js in the guest says of an addon of the host.
  [
    'Error: $/node_modules/my addon/x.node: cannot open shared object file: No such file or directory\n    at f (a.js:1:2)',
    '$/node_modules/my addon/x.node is for x86-64, and the guest is arm64: --node-modules installs the dependencies for arm64',
  ],
  ['./program', '$/program is for x86-64, and the guest is arm64: build it for arm64'],
  ['Error: spawn ./program ENOEXEC', '$/program is for x86-64, and the guest is arm64: build it for arm64'],
  [
    "Error: Cannot find module '@unrs/resolver-binding-linux-arm64-gnu'\nRequire stack:",
    '@unrs/resolver-binding-linux-arm64-gnu is not installed for the guest, which is arm64: --node-modules installs the dependencies for it',
  ],
  ['Error: $/node_modules/arm.node: undefined symbol: x', undefined],
  ['$/script: line 1: syntax error', undefined],
  ["Cannot find module './x'\n/no/such/file /dev/null $", undefined],
  ['', undefined],
])('%j', (text, expected) => {
  const here = (words: string) => words.replaceAll('$', folder);
  expect(foreignPart(here(text), folder)).toBe(expected === undefined ? undefined : here(expected));
});

test('this host’s own programs are told by their processor', () => {
  copyFileSync(process.execPath, join(folder, 'node'));
  const names: Partial<Record<NodeJS.Architecture, string | undefined>> = { x64: 'x86-64', arm64: undefined };
  expect(processorOf(join(folder, 'node'))).toBe(names[process.arch]);
});
