import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BuildError } from '#lib/qemu/build/command';
import {
  absentSuites,
  expiredSuites,
  type DebianArchive,
  mirrorOf,
  mirrorOfUris,
  newestFirst,
  parseMadison,
} from '#lib/qemu/build/debian';
import { requireHostPackages } from '#lib/qemu/build/host';
import { checkConfiguration } from '#lib/qemu/build/linux';
import { checkFlags } from '#lib/qemu/build/optee';
import {
  GUEST,
  LINUX,
  NODE,
  OPTEE_OS,
  TRUSTED_FIRMWARE,
  UnsuitableError,
  debianCandidates,
  readTested,
  takeFirst,
  testedFirst,
} from '#lib/qemu/build/sources';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'node-optee-sources-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe("the host's mirror", () => {
  test("is Debian's own archive, not the security one or another origin", () => {
    const targets = [
      'http://mirror.example/tools/\tSomeone\tTools',
      'http://mirror.example/debian-security/\tDebian\tDebian-Security',
      'http://mirror.example/debian/\tDebian\tDebian',
    ].join('\n');
    expect(mirrorOf(targets)).toBe('http://mirror.example/debian');
    expect(mirrorOf('http://mirror.example/ubuntu/\tUbuntu\tUbuntu\n')).toBeUndefined();
    expect(mirrorOf('cdrom://[Debian 12]/\tDebian\tDebian\n')).toBeUndefined();
    expect(mirrorOf('')).toBeUndefined();
  });

  test('is found without lists, too', () => {
    const uris = [
      "'http://mirror.example/tools/linux/debian/dists/bookworm-tools/InRelease' mirror.example_tools 0 ",
      "'http://mirror.example/debian-security/dists/bookworm-security/InRelease' mirror.example_security 0 ",
      "'http://mirror.example/debian/dists/bookworm/InRelease' mirror.example_debian 0 ",
    ].join('\n');
    expect(mirrorOfUris(uris, 'bookworm')).toBe('http://mirror.example/debian');
    expect(mirrorOfUris(uris, 'trixie')).toBeUndefined();
  });
});

const MADISON = `
linux-source-7.2 |   7.2.13-1 | http://mirror.example/debian sid/main arm64 Packages
linux-source-7.2 | 7.2.12-1~bpo13+1 | http://mirror.example/debian trixie-backports/main arm64 Packages
linux-source-7.2 |   7.2.13-1 | http://mirror.example/debian forky/main arm64 Packages
     linux |    7.2.7-1 | http://mirror.example/debian sid/main Sources
`;

describe('candidates', () => {
  test('of madison: each version once, sources apart from packages', () => {
    expect(parseMadison(MADISON, 'Packages')).toEqual([
      { package: 'linux-source-7.2', version: '7.2.13-1', suites: ['sid', 'forky'] },
      { package: 'linux-source-7.2', version: '7.2.12-1~bpo13+1', suites: ['trixie-backports'] },
    ]);
    expect(parseMadison(MADISON, 'Sources')).toEqual([
      { package: 'linux', version: '7.2.7-1', suites: ['sid'] },
    ]);
  });

  test("are sorted by Debian's order, the newest first", async () => {
    const versions = ['7.2.12-1~bpo13+1', '7.10-1', '7.2.12-1', '1:1.0', '7.9-1'];
    const sorted = await newestFirst(versions.map((version) => ({ package: 'p', version, suites: [] })));
    expect(sorted.map(({ version }) => version)).toEqual([
      '1:1.0',
      '7.10-1',
      '7.9-1',
      '7.2.12-1',
      '7.2.12-1~bpo13+1',
    ]);
  });

  test('are tried from the tested one on: the newer ones from the nearest, then the older ones', async () => {
    const candidates = ['7.10-1', '7.3.5-1', '7.3.4-1', '7.3.4-1~bpo13+1', '7.2-1', '6.18-1'].map(
      (version) => ({
        package: `linux-source-${/^\d+\.\d+/.exec(version)?.[0]}`,
        version,
        suites: ['sid'],
      }),
    );
    const order = async (name: string, version: string): Promise<string[]> =>
      (await testedFirst(candidates, { package: name, version, files: {} })).map((one) => one.version);
    const [newer, older] = [
      ['7.3.4-1', '7.3.5-1', '7.10-1'],
      ['7.2-1', '6.18-1'],
    ];
    expect(await order('linux-source-7.3', '7.3.4-1~bpo13+1')).toEqual([
      '7.3.4-1~bpo13+1',
      ...newer,
      ...older,
    ]);
    // It is gone.
    expect(await order('linux-source-7.3', '7.3.3-1')).toEqual(['7.3.4-1~bpo13+1', ...newer, ...older]);
    expect(await testedFirst(candidates, undefined)).toEqual(candidates);
  });
});

test('there is a tested version of everything, with the checksum of each file', () => {
  const tested = readTested();
  const requirements = [LINUX, OPTEE_OS, TRUSTED_FIRMWARE, ...GUEST, ...Object.values(NODE)];
  expect(Object.keys(tested).sort()).toEqual(requirements.map(({ name }) => name).sort());
  for (const { files } of Object.values(tested)) {
    expect(Object.keys(files).length).toBeGreaterThan(0);
    for (const digest of Object.values(files)) expect(digest).toMatch(/^[0-9a-f]{64}$/);
  }
  for (const [major, { name }] of Object.entries(NODE)) {
    expect(tested[name]?.version.split('.')[0]).toBe(major);
  }
});

test('of Linux the first is the newest, and all can register a dma-buf', async () => {
  const offered = [
    ['linux-source-6.12', '6.12.57-1'],
    ['linux-source-6.17', '6.17.13-1'],
    ['linux-source-6.18', '6.18~rc4-1~exp1'],
    ['linux-source-6.18', '6.18.2-1~bpo13+1'],
    ['linux-source-7.10', '7.10.1-1'],
    ['linux-source-7.2', '7.2.13-1'],
    ['linux-source-7.2', '7.2.12-1'],
    ['linux-source', '7.10.1-1'],
  ].map(([name = '', version = '']) => ({ package: name, version, suites: ['sid'] }));
  const asked: string[] = [];
  const archive = {
    names: async (expression: string) => {
      asked.push(expression);
      return [...new Set(offered.map((candidate) => candidate.package))].filter((name) =>
        new RegExp(expression).test(name),
      );
    },
    binaries: async () => offered,
  } as unknown as DebianArchive;
  const found = await debianCandidates(archive, LINUX);
  expect(found.map(({ package: name, version }) => ({ package: name, version }))).toEqual([
    { package: 'linux-source-7.10', version: '7.10.1-1' },
    { package: 'linux-source-7.2', version: '7.2.13-1' },
    { package: 'linux-source-7.2', version: '7.2.12-1' },
    { package: 'linux-source-6.18', version: '6.18.2-1~bpo13+1' },
  ]);
  expect(asked).toEqual(['^linux-source-[0-9.]+$']);
});

test('a suite is absent where the mirror does not carry it, not where it cannot be reached', () => {
  const message = `apt-get exited with 100:
Err:5 http://mirror.example/debian forky Release
  404  Not Found [IP: 192.0.2.1 80]
E: The repository 'http://mirror.example/debian forky Release' does not have a Release file.
E: The repository 'http://mirror.example/debian trixie-backports Release' does not have a Release file.
The whole log: /somewhere`;
  expect(absentSuites(message)).toEqual(['forky', 'trixie-backports']);
  for (const other of [
    "E: Failed to fetch http://mirror.example/debian/dists/sid/InRelease  Temporary failure resolving 'mirror.example'",
    'E: Failed to fetch http://mirror.example/debian/dists/sid/InRelease  403  Forbidden [IP: 192.0.2.1 80]',
    "E: The repository 'http://mirror.example/debian sid InRelease' is not signed.",
  ]) {
    expect(absentSuites(`apt-get exited with 100:\n${other}`)).toEqual([]);
  }
});

test("a suite's lists are out of date where its Valid-Until is over", () => {
  const message = `apt-get exited with 100:
E: Release file for http://mirror.example/debian/dists/sid/InRelease is expired (invalid since 23d 21h 8min 20s). Updates for this repository will not be applied.
E: Release file for http://mirror.example/debian/dists/forky/InRelease is expired (invalid since 1d). Updates for this repository will not be applied.
E: Release file for http://mirror.example/debian/dists/trixie/InRelease is not valid yet (invalid for another 1h 3min). Updates for this repository will not be applied.`;
  expect(expiredSuites(message)).toEqual(['sid', 'forky']);
  expect(absentSuites(message)).toEqual([]);
});

describe('a download that fails', () => {
  const candidates = ['3-1', '2-1', '1-1'].map((version) => ({
    package: 'arm-trusted-firmware',
    version,
    suites: ['sid'],
  }));

  test('makes way for the next older version, and the reason is kept', async () => {
    const resolved = await takeFirst(
      TRUSTED_FIRMWARE,
      candidates,
      async ({ version }, into) => {
        writeFileSync(join(into, `firmware_${version}.tar`), version);
        if (version === '3-1') {
          throw new BuildError(
            'apt-get exited with 100:\nGet:1 firmware\nE: Failed to fetch http://mirror.example/pool/firmware_3.tar  404  Not Found [IP: 192.0.2.1 80]',
          );
        }
      },
      join(folder, 'into'),
    );
    expect(resolved.version).toBe('2-1');
    expect(resolved.passedOver).toEqual([
      { version: '3-1', reason: 'E: Failed to fetch firmware_3.tar  404  Not Found' },
    ]);
    expect(Object.keys(resolved.files)).toEqual(['firmware_2-1.tar']);
    // Nothing of the failed one is left.
    expect(readdirSync(join(folder, 'into'))).toEqual(['firmware_2-1.tar']);
  });

  test('is one, too, where the tested version comes with other files', async () => {
    const download = async ({ version }: { version: string }, into: string): Promise<void> =>
      writeFileSync(join(into, 'a.tar'), version);
    const take = (digest: string) =>
      takeFirst(TRUSTED_FIRMWARE, candidates, download, join(folder, 'into'), {
        package: 'arm-trusted-firmware',
        version: '3-1',
        files: { 'a.tar': digest },
      });
    const right = createHash('sha256').update('3-1').digest('hex');
    expect(await take(right)).toMatchObject({ version: '3-1', passedOver: [] });
    expect(await take('00')).toMatchObject({
      version: '2-1',
      passedOver: [{ version: '3-1', reason: 'its files are not those that were tested' }],
    });
  });

  test('of every version is told in one sentence', async () => {
    const download = async (): Promise<void> => {
      throw new BuildError('apt-get exited with 100:\nE: No route');
    };
    await expect(takeFirst(LINUX, candidates, download, join(folder, 'into'))).rejects.toThrow(
      'No version of linux 6.18 or newer (needed for TEE_IOC_SHM_REGISTER_FD) could be downloaded; tried: 3-1, 2-1, 1-1. E: No route',
    );
    await expect(takeFirst(LINUX, [], download, join(folder, 'into'))).rejects.toThrow(
      'No version of linux 6.18 or newer (needed for TEE_IOC_SHM_REGISTER_FD) is on offer.',
    );
  });

  test('for another reason than the download is not taken for one', async () => {
    const download = (): Promise<void> => Promise.reject(new TypeError('a defect'));
    await expect(takeFirst(LINUX, candidates, download, join(folder, 'into'))).rejects.toThrow('a defect');
  });
});

test('what the host lacks is found, also from within Jest', () => {
  expect(() => requireHostPackages(['dpkg'])).not.toThrow();
  expect(() => requireHostPackages(['no-such-package'])).toThrow(
    /needed on this host: no-such-package\nInstall them with: .*apt-get .*install.* no-such-package$/,
  );
});

test('an option that got lost is named, and is a reason to take another version', () => {
  const wanted = '# comment\nCONFIG_TEE=y\nCONFIG_9P_FS=y\n';
  expect(() => checkConfiguration(wanted, 'CONFIG_TEE=y\n# CONFIG_9P_FS is not set\n')).toThrow(
    'CONFIG_9P_FS=y',
  );
  expect(() => checkConfiguration(wanted, 'CONFIG_9P_FS=y\nCONFIG_TEE=y\n')).not.toThrow();
  expect(() => checkConfiguration(wanted, '')).toThrow(UnsuitableError);
  const flags = ['PLATFORM=x', 'CFG_A=y', 'CFG_B=n', 'CFG_SIZE=0x10'];
  expect(() => checkFlags(flags, 'CFG_A=y\nCFG_B=n\nCFG_C=y\n')).not.toThrow();
  expect(() => checkFlags(flags, 'CFG_A=n\nCFG_B=n\n')).toThrow(UnsuitableError);
  expect(() => checkFlags(flags, 'CFG_A=n\nCFG_B=n\n')).toThrow('its configuration lost CFG_A=y');
});
