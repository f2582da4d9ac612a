/** The TEE devices of this machine. */
import { realpathSync } from 'node:fs';
import { basename } from 'node:path';
import { describeErrno, invalidArgType, invalidArgValue, notSupported, TeeSystemError } from './errors.js';
import { namesIn, NO_DRIVER, openHint } from './hints.js';
import type { ContextData, Failure } from './native.js';

const FOLDER = '/dev';

/** What TEE_IOC_VERSION tells about a device. */
export interface TeeVersion {
  /** Which TEE it is (TEE_IMPL_ID_*); `unknown` if the kernel's number has no name here. */
  readonly implementation: 'optee' | 'amdtee' | 'tstee' | 'qtee' | 'unknown';
  readonly capabilities: TeeCapabilities;
  /** The file of the device. */
  readonly path: string;
}

/** What a device can do (TEE_GEN_CAP_*). */
export interface TeeCapabilities {
  /** It speaks GlobalPlatform: sessions and commands. */
  readonly globalPlatform: boolean;
  /** It is a supplicant's device, which has rights that a client does not have. */
  readonly privileged: boolean;
  /** It takes the client's own memory: needed by `registerSharedMemory`, and by shared memory of more than a few MiB. */
  readonly registeredMemory: boolean;
  /** It takes NULL buffers: `buffer.null`. */
  readonly nullMemref: boolean;
  /** It takes references to objects. */
  readonly objects: boolean;
}

/** A device: its version, or the error with which it could not be opened. */
export type TeeDevice =
  | { readonly path: string; readonly version: TeeVersion; readonly error?: undefined }
  | { readonly path: string; readonly version?: undefined; readonly error: TeeSystemError };

const IMPLEMENTATIONS: Record<number, TeeVersion['implementation']> = {
  1: 'optee',
  2: 'amdtee',
  3: 'tstee',
  4: 'qtee',
};

/** The answer of TEE_IOC_VERSION, with names for its numbers and bits. */
export function versionOf(path: string, data: ContextData): TeeVersion {
  const bits = data.generalCapabilities;
  return Object.freeze({
    implementation: IMPLEMENTATIONS[data.implementationId] ?? 'unknown',
    capabilities: Object.freeze({
      globalPlatform: (bits & 1) !== 0,
      privileged: (bits & 2) !== 0,
      registeredMemory: (bits & 4) !== 0,
      nullMemref: (bits & 8) !== 0,
      objects: (bits & 16) !== 0,
    }),
    path,
  });
}

/**
 * The files of the devices for clients, sorted by their number. Never tee-supplicant's teepriv: it has only one slot, and
 * opening it ends the supplicant.
 */
export function devicePaths(folder = FOLDER): string[] {
  return namesIn(folder)
    .filter((name) => /^tee[0-9]+$/.test(name))
    .sort((a, b) => Number(a.slice(3)) - Number(b.slice(3)))
    .map((name) => `${folder}/${name}`);
}

/** Checks the path of a device that a caller wants to open. */
export function checkDevicePath(path: unknown, name: string): string {
  if (typeof path !== 'string') throw invalidArgType(name, 'a string', path);
  if (path === '' || path.includes('\0')) throw invalidArgValue(name, path, 'must be the path of a device');
  let real = path;
  try {
    real = realpathSync(path);
  } catch {
    // Opening it gives the reason.
  }
  if (/^teepriv[0-9]+$/.test(basename(real))) {
    throw invalidArgValue(
      name,
      path,
      'must not be a teepriv device: it has a single slot, and tee-supplicant ends when another process opens it',
    );
  }
  return path;
}

/** Why a device could not be opened. */
export function openError(path: string, failed: Failure): TeeSystemError {
  return new TeeSystemError({
    errno: failed.errno,
    syscall: failed.syscall,
    operation: failed.operation,
    path,
    hint: openHint(path, failed.operation, describeErrno(failed.errno).code),
  });
}

/**
 * Why no device can be used.
 * @param tried for each device, why it could not be opened, or its version if it does not speak GlobalPlatform
 */
export function noDevice(tried: readonly (TeeSystemError | TeeVersion)[]): Error {
  const reasons = tried.map((one) =>
    one instanceof TeeSystemError
      ? one.message
      : `${one.path} (${one.implementation}) does not speak GlobalPlatform`,
  );
  const refused = tried.find((one) => one instanceof TeeSystemError);
  if (refused !== undefined) {
    const others = reasons.filter((_, i) => tried[i] !== refused);
    if (others.length > 0) refused.message += `. And of the other devices: ${others.join('; ')}`;
    return refused;
  }
  if (reasons.length > 0) return notSupported(`No TEE device can be used: ${reasons.join('; ')}`);
  return new TeeSystemError({
    errno: 2,
    syscall: 'open',
    operation: 'open',
    path: '/dev/tee0',
    hint: NO_DRIVER,
  });
}
