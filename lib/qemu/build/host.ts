import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { BuildError } from './command.js';

interface HostPackages {
  missingPackages: () => string[] | undefined;
  installLine: (packages: readonly string[]) => string;
  installPackages: (packages: readonly string[]) => void;
}

/** One implementation for the repository's set-up, which runs before anything is compiled, and for the package. */
async function hostPackages(): Promise<HostPackages> {
  const path = join(__dirname, '..', '..', '..', 'scripts', 'host-packages.mjs');
  return (await import(pathToFileURL(path).href)) as HostPackages;
}

/** Throws a BuildError with the line to run where a Debian package that the build needs is not installed. */
export async function requireHostPackages(): Promise<void> {
  const { missingPackages, installLine } = await hostPackages();
  const missing = missingPackages();
  // No dpkg: not Debian, which the builder explains by itself.
  if (missing === undefined || missing.length === 0) return;
  throw new BuildError(
    `These Debian packages are needed on this host: ${missing.join(', ')}\n` +
      `Install them with: ${installLine(missing)}\nor run the command again with --install.`,
  );
}

/** Installs what is missing, as root or with sudo. */
export async function installHostPackages(): Promise<void> {
  const { missingPackages, installPackages } = await hostPackages();
  const missing = missingPackages();
  if (missing !== undefined && missing.length > 0) installPackages(missing);
}
