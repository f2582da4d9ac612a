'use strict';
// Debian packages that the host needs: which are missing, and how they get there. No dependency: it runs first.
// Plain CommonJS, so that the repository's set-up and the compiled package share it.
const { spawnSync } = require('node:child_process');
const { closeSync, existsSync, mkdirSync, openSync, readFileSync } = require('node:fs');
const { dirname } = require('node:path');

/** For the guest: QEMU, what builds it, what builds the addon and TAs. */
const HOST_PACKAGES = [
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

/** Is this Debian, or a host that was told a Debian mirror? */
function isDebian() {
  if (process.env.NODE_OPTEE_DEBIAN_MIRROR) return true;
  return existsSync('/etc/os-release') && /^ID=debian$/m.test(readFileSync('/etc/os-release', 'utf8'));
}

/** @returns {string[]} packages that are not installed; none where the host is not Debian, whose names these are */
function missingPackages(packages = HOST_PACKAGES) {
  if (!isDebian()) return [];
  const query = ['-W', '-f', '${Package} ${db:Status-Status}\n', ...packages];
  const { stdout, error } = spawnSync('dpkg-query', query, { encoding: 'utf8' });
  if (error) return [];
  const installed = new Set();
  for (const line of stdout.split('\n')) {
    const [name, status] = line.split(' ');
    if (status === 'installed') installed.add(name);
  }
  return packages.filter((name) => !installed.has(name));
}

// Another apt (unattended-upgrades on a new machine) is waited for. sudo drops the environment, so it is set behind it.
const APT = 'env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600';

/** The line that installs packages, with sudo where the user is not root. */
function installLine(packages) {
  const sudo = process.getuid?.() === 0 ? '' : 'sudo ';
  return `${sudo}${APT} install -y --no-install-recommends ${packages.join(' ')}`;
}

/**
 * Installs packages. The line that does it is printed first, on stderr; what apt says goes into the file `log`.
 * Throws where apt fails, with its last lines.
 */
function installPackages(packages, log) {
  const line = installLine(packages);
  mkdirSync(dirname(log), { recursive: true });
  const output = openSync(log, 'w');
  const run = (command) => {
    process.stderr.write(`${command}\n`);
    // sudo asks for a password on the terminal itself.
    return spawnSync('sh', ['-c', command], { stdio: ['inherit', output, output] }).status;
  };
  try {
    // Old lists name files that are gone. One broken source of the host's must not stop us, so its status does not count.
    run(line.replace(/ install -y.*/, ' update -q'));
    if (run(line) === 0) return;
    const lines = readFileSync(log, 'utf8').trimEnd().split('\n').slice(-25);
    throw new Error(`This failed: ${line}\n${lines.join('\n')}\nThe whole log: ${log}`);
  } finally {
    closeSync(output);
  }
}

module.exports = { HOST_PACKAGES, isDebian, missingPackages, installLine, installPackages };
