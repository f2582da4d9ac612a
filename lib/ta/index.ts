// Kept in the declarations, for users whose own settings do not bring it: Symbol.dispose of the classes.
/// <reference lib="esnext.disposable" preserve="true" />
/**
 * A Trusted Application described once: a typed client, and the C of the TA, from one file.
 * @packageDocumentation
 */
export { defineTrustedApplication } from './define.js';
export type {
  ClientOf,
  DefinitionOf,
  Opening,
  OpenOptions,
  PoolOptions,
  TrustedApplication,
} from './define.js';
export type { Client, ClientBase } from './client.js';
export type { Described } from './description.js';
export { array, bool, enumeration, octets, struct, u16, u32, u64, u8 } from './fields.js';
export type { Field, InputOf, Scalar, Struct, Type, TypeOf } from './fields.js';
export type { Pool, PoolBase } from './pool.js';
export { slot } from './slots.js';
export type { MemoryArgument, Slot } from './slots.js';
export type {
  Arguments,
  CommandDefinition,
  Methods,
  OpenArguments,
  OpenResults,
  Results,
  Slots,
  SyncMethods,
  TaDefinition,
} from './types.js';
