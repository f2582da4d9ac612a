import { join } from 'node:path';
import { Cache } from './cache.js';
import { BuildError } from './command.js';

interface HostPackages {
  isDebian: () => boolean;
  missingPackages: (packages?: readonly string[]) => string[];
  installLine: (packages: readonly string[]) => string;
  installPackages: (packages: readonly string[], log: string) => void;
}

/** One implementation for the repository's set-up, which runs before anything is compiled, and for the package. */
// eslint-disable-next-line @typescript-eslint/no-require-imports
const host = require('../../../scripts/host-packages.cjs') as HostPackages;

/** Debian packages that the build needs and this host lacks. */
export class MissingPackagesError extends BuildError {}

/** Is this host Debian, or one that was told a Debian mirror? */
export const isDebian = host.isDebian;

/** Throws a MissingPackagesError with the line to run where a Debian package is not installed. */
export function requireHostPackages(packages?: readonly string[]): void {
  // Without a name, dpkg would tell of all packages.
  const missing = packages?.length === 0 ? [] : host.missingPackages(packages);
  if (missing.length === 0) return;
  throw new MissingPackagesError(
    `These Debian packages are needed on this host: ${missing.join(', ')}\n` +
      `Install them with: ${host.installLine(missing)}`,
  );
}

/** Installs what is missing, as root or with sudo, and `others` with it. The cache keeps what apt says. */
export function installHostPackages(others: readonly string[] = []): void {
  const missing = [...host.missingPackages(), ...(others.length > 0 ? host.missingPackages(others) : [])];
  if (missing.length === 0) return;
  try {
    host.installPackages(missing, join(new Cache().logs, 'debian-packages.log'));
  } catch (cause) {
    throw new BuildError((cause as Error).message, { cause });
  }
}
