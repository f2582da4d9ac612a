// Debian packages that the host needs: which are missing, and how they get there. No dependency: it runs first.
import { spawnSync } from 'node:child_process';

/** For the guest: QEMU, what builds it, what builds the addon and TAs. */
export const HOST_PACKAGES = [
  'bc',
  'bison',
  'ca-certificates',
  'cpio',
  'debian-archive-keyring',
  'device-tree-compiler',
  'dpkg-dev',
  'e2fsprogs',
  'fakeroot',
  'flex',
  'g++',
  'g++-aarch64-linux-gnu',
  'gcc',
  'gcc-aarch64-linux-gnu',
  'libc6-dev',
  'libssl-dev',
  'make',
  'patch',
  'python3',
  'python3-cryptography',
  'python3-pyelftools',
  'qemu-system-arm',
  'qemu-user',
  'util-linux',
  'xz-utils',
];

/** @returns {string[] | undefined} packages that are not installed; undefined where there is no dpkg */
export function missingPackages(packages = HOST_PACKAGES) {
  const { stdout, error } = spawnSync(
    'dpkg-query',
    ['-W', '-f', '${Package} ${db:Status-Status}\n', ...packages],
    {
      encoding: 'utf8',
    },
  );
  if (error) return undefined;
  const installed = new Set();
  for (const line of stdout.split('\n')) {
    const [name, status] = line.split(' ');
    if (status === 'installed') installed.add(name);
  }
  return packages.filter((name) => !installed.has(name));
}

/** The line that installs packages, with sudo where the user is not root. */
export function installLine(packages) {
  const sudo = process.getuid?.() === 0 ? '' : 'sudo ';
  return `${sudo}apt-get install -y --no-install-recommends ${packages.join(' ')}`;
}

/** Installs packages, printing the line first; all output goes to stderr. Throws where apt fails. */
export function installPackages(packages) {
  const line = installLine(packages);
  process.stderr.write(`${line}\n`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const run = (command) => spawnSync('sh', ['-c', command], { stdio: ['ignore', 2, 2], env }).status;
  const update = line.replace(/apt-get install.*/, 'apt-get update -q');
  // Old lists name files that are gone: fetch them anew first.
  if (run(update) !== 0 || run(line) !== 0) throw new Error(`This failed: ${line}`);
}
