/** The guest's tee-supplicant, which tests stop, kill and start. */
import { execFile, spawn } from 'node:child_process';
import { existsSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { until } from './until.js';

export async function supplicant(): Promise<number | undefined> {
  const { stdout } = await promisify(execFile)('pidof', ['tee-supplicant']).catch(() => ({ stdout: '' }));
  return Number(stdout.trim()) || undefined;
}

export async function startSupplicant(): Promise<void> {
  const log = openSync('/dev/null', 'w');
  spawn('/usr/sbin/tee-supplicant', [], { detached: true, stdio: ['ignore', log, log] }).unref();
  await until(async () => (await supplicant()) !== undefined);
}

/** With SIGTERM: after any other end the guest starts it again. */
export async function stopSupplicant(): Promise<void> {
  process.kill((await supplicant()) as number, 'SIGTERM');
  await until(async () => (await supplicant()) === undefined);
}

/** Stops it as it is: what is asked of it waits. Returns its pid. */
export async function freezeSupplicant(): Promise<number> {
  const pid = (await supplicant()) as number;
  process.kill(pid, 'SIGSTOP');
  const stopped = (thread: string): boolean => {
    const status = `/proc/${pid}/task/${thread}/status`;
    return !existsSync(status) || /^State:\s+T/m.test(readFileSync(status, 'utf8'));
  };
  try {
    await until(() => readdirSync(`/proc/${pid}/task`).every(stopped));
  } catch (error) {
    process.kill(pid, 'SIGCONT'); // stopped, it would hold up all that follows
    throw error;
  }
  return pid;
}
