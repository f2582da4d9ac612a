import type { Summary } from './statistics';

/**
 * Who makes the calls. `libteec again` is the same as `libteec`: how far the two differ is the error of it all.
 * `libteec8` has 8 threads and `async8` has 8 calls under way, each on a session of its own: their time is that of all
 * calls together, divided by all of them. `described` is `sync` through a description of the TA.
 */
export const SUBJECTS = [
  'ioctl',
  'libteec',
  'libteec again',
  'handover',
  'sync',
  'described',
  'async',
  'libteec8',
  'async8',
] as const;
export type Subject = (typeof SUBJECTS)[number];

export type CaseResult = Partial<Record<Subject, Summary>>;

/** How others fare while the TEE is busy; all in nanoseconds. */
export interface Responsiveness {
  /** `fs.readFile` of 64 KiB, without and with 16 calls that are blocked in the TEE. */
  readonly readFile: { readonly idle: Summary; readonly blocked: Summary; readonly calls: number };
  /** How late a timer of 5 ms fires: with nothing to do, and with calls 8 deep over 8 sessions. */
  readonly timer: { readonly idle: Lateness; readonly load: Lateness };
}

export interface Lateness {
  readonly median: number;
  readonly p99: number;
  readonly worst: number;
}

/** Resident set in bytes, after garbage collection, at equal steps of the work. */
export interface Memory {
  readonly emptyCalls: { readonly calls: number; readonly resident: readonly number[] };
  readonly buffers: { readonly calls: number; readonly resident: readonly number[] };
}

/** What one run in one guest has measured. */
export interface Run {
  readonly guest: {
    readonly node: string;
    readonly kernel: string;
    readonly cpus: number;
    readonly tee: unknown;
  };
  readonly cases: Readonly<Record<string, CaseResult>>;
  readonly responsiveness?: Responsiveness;
  readonly memory?: Memory;
}
