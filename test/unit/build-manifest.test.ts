import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Cache, type PartRecord } from '#lib/qemu/build/cache';
import { addToManifest, readManifest } from '#lib/qemu/build/manifest';
import { Sources } from '#lib/qemu/build/sources';

let cache: Cache;
beforeEach(() => {
  cache = new Cache(mkdtempSync(join(tmpdir(), 'node-optee-manifest-')));
});
afterEach(() => rmSync(cache.path, { recursive: true, force: true }));

function make(name: string, inputs: unknown, patches?: string): Promise<PartRecord> {
  return cache.make(
    name,
    inputs,
    async (folder) => {
      writeFileSync(join(folder, 'out'), name);
      if (patches !== undefined) writeFileSync(join(folder, 'debian-patches'), patches);
    },
    (record, folder) => addToManifest(cache, new Sources(cache), record, folder),
  );
}

test('the manifest has what every part was made from, and what came out', async () => {
  expect(readManifest(cache)).toBeUndefined();
  const source = { package: 'optee-os', version: '4.10.0-2', files: { 'a.dsc': '00' }, passedOver: [] };
  cache.writeFile('resolved.json', JSON.stringify({ 'optee-os': source }));
  const node = await make('node-24', { version: 1 });
  const optee = await make('optee-dynamic', { flags: ['A=y'] }, 'CVE-1.patch\nCVE-2.patch\n');
  const manifest = readManifest(cache);
  expect(manifest).toMatchObject({
    sources: { 'optee-os': source },
    parts: {
      [`node-24-${node.key}`]: node,
      [`optee-dynamic-${optee.key}`]: { ...optee, debianPatches: ['CVE-1.patch', 'CVE-2.patch'] },
    },
  });
  expect(manifest?.parts[`node-24-${node.key}`]).not.toHaveProperty('debianPatches');
  expect(Date.parse(manifest?.writtenAt ?? '')).toBeGreaterThan(0);
});

test('parts of one name are all there, those that are gone are not', async () => {
  const first = await make('rootfs', 1);
  const gone = await make('node-24', 1);
  const second = await make('rootfs', 2);
  rmSync(cache.partFolder(gone.name, gone.key), { recursive: true });
  const third = await make('rootfs', 3);
  const keys = [first, second, third].map(({ key }) => `rootfs-${key}`);
  expect(Object.keys(readManifest(cache)?.parts ?? {})).toEqual(keys);
});

test('a manifest that is no JSON is written anew', async () => {
  cache.writeFile('manifest.json', '{');
  const { key } = await make('rootfs', 1);
  expect(Object.keys(readManifest(cache)?.parts ?? {})).toEqual([`rootfs-${key}`]);
});
