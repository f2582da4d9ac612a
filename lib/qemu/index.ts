// Kept in the declarations: they have streams, Buffer and names of signals, and TypeScript 6 takes no types by itself.
/// <reference types="node" preserve="true" />
/// <reference lib="esnext.disposable" preserve="true" />
export { Guest } from './guest.js';
export type { CommandResult, GuestEvents } from './guest.js';
export type { BootOptions, CommandOptions, RunOptions, SpawnOptions } from './options.js';
export type { AgentProcess as GuestProcess } from './agent.js';
export { GuestError } from './guest-error.js';
export type { ExitStatus, GuestErrorCode, GuestLogs } from './guest-error.js';
export type { GdbOptions, GdbServer } from './gdb.js';
export { MACHINES, NODE_VERSIONS } from './machine.js';
export type { Machine, MachineName, NodeVersion } from './machine.js';
export type { LogName, Panic } from './panic.js';
export type { TaFrame, TaPanic } from './symbols.js';
export type { TerminalSize } from './protocol.js';
export {
  BuildError,
  cacheFolder,
  cleanCache,
  prepareDevKit,
  prepareMachine,
  prepareNodeModules,
} from './build/index.js';
export { cacheKey, exportParts, importParts } from './build/exchange.js';
export type { ArchiveInfo, ExportOptions, MachineSet } from './build/exchange.js';
export { buildTa } from './build/ta.js';
export type { TaBuildOptions } from './build/ta.js';
export { silentProgress, streamProgress } from './build/progress.js';
export type { Progress } from './build/progress.js';
export type { PrepareOptions } from './build/index.js';
