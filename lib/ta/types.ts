/** What TypeScript knows of a description: the names and types of arguments and results. */
import type { CallOptions } from '../client/call.js';
import type { ReservedCommand } from './names.js';
import type { Slot } from './slots.js';

/** At most four. */
export type Slots =
  | readonly []
  | readonly [AnySlot]
  | readonly [AnySlot, AnySlot]
  | readonly [AnySlot, AnySlot, AnySlot]
  | readonly [AnySlot, AnySlot, AnySlot, AnySlot];
export type AnySlot = Slot<object, object>;

/** A command of a described TA. */
export interface CommandDefinition {
  /** The TA's number for it, u32. */
  readonly id: number;
  /** Its parameters, at most four; none unless told otherwise. */
  readonly slots?: Slots;
  /**
   * Where the TA answers TEE_ERROR_SHORT_BUFFER, call it once more with as much room as it asked for, at most the `max` of
   * the slot. For commands that change nothing, or not until they succeed.
   */
  readonly repeatable?: boolean;
}

/** What a TA is, for `defineTrustedApplication`. */
export interface TaDefinition {
  /** The prefix of all that is generated, and its name in messages: 'notary'. */
  readonly name: string;
  readonly uuid: string;
  /** The TA's own results: `{ NOTARY_LOCKED: 0x80000001 }` makes `error.code` 'NOTARY_LOCKED'. */
  readonly results?: Readonly<Record<string, number>>;
  /** The parameters of the opening. */
  readonly open?: Slots;
  readonly commands: Readonly<Record<string, CommandDefinition>>;
}

type Flat<T> = { [K in keyof T]: T[K] };
/** No names at all. */
export type Empty = Readonly<Record<string, never>>;

type AllIn<S> = S extends readonly [Slot<infer In, object>, ...infer Rest] ? In & AllIn<Rest> : unknown;
type AllOut<S> = S extends readonly [Slot<object, infer Out>, ...infer Rest] ? Out & AllOut<Rest> : unknown;

/** What slots take, by name. */
export type SlotsIn<S> = keyof AllIn<S> extends never ? Empty : Flat<AllIn<S>>;
/** What slots bring back, by name; undefined where that is nothing. */
export type SlotsOut<S> = keyof AllOut<S> extends never ? undefined : Flat<AllOut<S>>;

type SlotsOf<C> = C extends { readonly slots: infer S } ? S : readonly [];
type OpenOf<D> = D extends { readonly open: infer S } ? S : readonly [];

/** What a command takes, by name. */
export type Arguments<C> = SlotsIn<SlotsOf<C>>;
/** What a command brings back, by name; undefined where that is nothing. */
export type Results<C> = SlotsOut<SlotsOf<C>>;

/** What the opening takes. */
export type OpenArguments<D> = SlotsIn<OpenOf<D>> extends Empty ? unknown : SlotsIn<OpenOf<D>>;
/** What the opening brings back. */
export type OpenResults<D> = SlotsOut<OpenOf<D>>;

/** A parameter list whose first may be left out if nothing in it has to be there. */
export type Call<A, O> = Record<never, never> extends A ? [args?: A, options?: O] : [args: A, options?: O];

/** A function per command. */
export type Methods<D extends TaDefinition> = {
  readonly [K in keyof D['commands']]: (
    ...call: Call<Arguments<D['commands'][K]>, CallOptions>
  ) => Promise<Results<D['commands'][K]>>;
};
/** A function per command that blocks. */
export type SyncMethods<D extends TaDefinition> = {
  readonly [K in keyof D['commands']]: (
    ...call: Call<Arguments<D['commands'][K]>, Pick<CallOptions, 'wipe'>>
  ) => Results<D['commands'][K]>;
};

type NamesOf<S> = S extends Slot<infer In, infer Out> ? keyof In | keyof Out : never;
/** Do two slots have the same name? */
type Twice<S> = S extends readonly [infer First, ...infer Rest]
  ? NamesOf<First> & NamesOf<Rest[number]> extends never
    ? Twice<Rest>
    : true
  : false;

/** Ids of the other commands. */
type OtherIds<C, K extends keyof C> = {
  [Other in Exclude<keyof C, K>]: C[Other] extends { readonly id: infer Id } ? Id : never;
}[Exclude<keyof C, K>];
type SameId<C, K extends keyof C> = C[K] extends { readonly id: infer Id }
  ? number extends Id
    ? false
    : Id extends OtherIds<C, K>
      ? true
      : false
  : false;

type NoOther<T, Known extends PropertyKey> = { readonly [K in Exclude<keyof T, Known>]: never };

type CheckCommand<C, K extends keyof C> = (SameId<C, K> extends true
  ? { readonly id: 'another command has this id' }
  : unknown) &
  (Twice<SlotsOf<C[K]>> extends true ? { readonly slots: 'two slots have the same name' } : unknown) &
  NoOther<C[K], keyof CommandDefinition>;

/** What a definition must be besides its shape: what does not hold does not compile. */
export type Check<D extends TaDefinition> = NoOther<D, keyof TaDefinition> & {
  readonly commands: {
    readonly [K in keyof D['commands']]: K extends ReservedCommand
      ? 'every client or pool has something of this name'
      : CheckCommand<D['commands'], K>;
  };
} & (Twice<OpenOf<D>> extends true ? { readonly open: 'two slots have the same name' } : unknown);
