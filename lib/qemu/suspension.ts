/**
 * QEMU and a build's programs are in sessions of their own: a terminal's Ctrl-Z does not reach them. Here they are
 * stopped and continued together with this process.
 */
const children = new Set<number>();

/**
 * A child that is to stop with this process.
 * @param pid of a process, or negative: of its group
 * @returns forgets it
 */
export function stopWithUs(pid: number | undefined): () => void {
  if (pid !== undefined) children.add(pid);
  return () => {
    if (pid !== undefined) children.delete(pid);
  };
}

/** From now on Ctrl-Z stops the children first. */
export function followTerminal(): void {
  process.on('SIGTSTP', () => {
    signalAll('SIGSTOP');
    // The next line runs when this process is continued.
    process.kill(process.pid, 'SIGSTOP');
    signalAll('SIGCONT');
  });
}

function signalAll(signal: NodeJS.Signals): void {
  for (const pid of children) {
    try {
      process.kill(pid, signal);
    } catch {
      // It has just ended.
    }
  }
}
