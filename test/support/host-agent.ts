import { execFileSync, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll } from '@jest/globals';

let binary: string | undefined;
const started: ChildProcess[] = [];

/**
 * The guest's agent, built for this machine, behind a socket instead of a virtio-serial port.
 * @param files how many descriptors it may have, `soft:hard`
 */
export function startHostAgent(files?: string): { child: ChildProcess; socket: Duplex } {
  binary ??= build();
  const limited = files === undefined ? [] : ['prlimit', `--nofile=${files}`];
  const [program = '', ...args] = [...limited, binary, '--fd', '3'];
  const child = spawn(program, args, { stdio: ['ignore', 'inherit', 'pipe', 'pipe'] });
  started.push(child);
  return { child, socket: child.stdio[3] as Duplex };
}

/** None may outlive its test: Jest would wait for it. */
export function killHostAgents(): void {
  for (const child of started.splice(0)) child.kill('SIGKILL');
}

afterAll(() => {
  if (binary) rmSync(dirname(binary), { recursive: true });
});

function build(): string {
  const path = join(mkdtempSync(join(tmpdir(), 'node-optee-agent-')), 'agent');
  const folder = join(__dirname, '../../../qemu/agent');
  const sources = readdirSync(folder)
    .filter((name) => name.endsWith('.c'))
    .map((name) => join(folder, name));
  const sanitizers = ['-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
  execFileSync('cc', [
    '-O1',
    '-g',
    '-Wall',
    '-Wextra',
    '-Werror',
    ...sanitizers,
    '-std=c11',
    '-o',
    path,
    ...sources,
  ]);
  return path;
}
