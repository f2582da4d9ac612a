export { Guest } from './guest.js';
export type { BootOptions, CommandOptions, CommandResult, RunOptions, SpawnOptions } from './guest.js';
export type { AgentProcess as GuestProcess, ExitStatus } from './agent.js';
export { GuestError } from './guest-error.js';
export type { GuestErrorCode, GuestLogs } from './guest-error.js';
export { MACHINES, NODE_VERSIONS } from './machine.js';
export type { Machine, MachineName, NodeVersion } from './machine.js';
export type { LogName, Panic } from './panic.js';
export type { TerminalSize } from './protocol.js';
