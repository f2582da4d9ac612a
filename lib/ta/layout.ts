/**
 * The layout of structs, as C has it on arm64: each field at a multiple of its own alignment, the struct's size a multiple
 * of the largest. Numbers are little endian. All of it is plain data.
 */
import { cNameOf } from './names.js';

/** A member of an enumeration. */
export interface EnumerationMember {
  /** As JavaScript has it, and in upper case the last part of its macro: 'OFF'. */
  readonly name: string;
  /** u32 */
  readonly value: number;
}

/** A type that fits into one u32 of a value (u64: into both). */
export type ScalarType =
  | { readonly kind: 'u8' | 'u16' | 'u32' | 'u64' }
  /** One byte in a struct, a u32 in a value: 0 or 1. */
  | { readonly kind: 'bool' }
  /** Always a u32. `members` has at least one, with unique names and values. */
  | { readonly kind: 'enumeration'; readonly members: readonly EnumerationMember[] };

/** The type of a struct's field. */
export type FieldType =
  | ScalarType
  /** `uint8_t name[length]`, all of it used. */
  | { readonly kind: 'octets'; readonly length: number }
  | { readonly kind: 'array'; readonly element: FieldType; readonly length: number }
  | { readonly kind: 'struct'; readonly struct: StructLayout };

/** A field of a struct. */
export interface FieldLayout {
  readonly name: string;
  readonly cName: string;
  readonly type: FieldType;
  /** In bytes, from the start of its struct. */
  readonly offset: number;
  /** In bytes. */
  readonly size: number;
  /** In bytes. */
  readonly alignment: number;
  /** Unused bytes behind it, before the next field or the end of the struct. They are sent as zeros. */
  readonly padding: number;
}

/** A struct. */
export interface StructLayout {
  /** Unique in a description. */
  readonly name: string;
  /** Without the prefix of the description's name. */
  readonly cName: string;
  /** In bytes, a multiple of the alignment. */
  readonly size: number;
  /** In bytes: 1, 2, 4 or 8. */
  readonly alignment: number;
  /** At least one. */
  readonly fields: readonly FieldLayout[];
}

/** What a type takes, in bytes. */
export function sizeOf(type: FieldType): number {
  switch (type.kind) {
    case 'u8':
    case 'bool':
      return 1;
    case 'u16':
      return 2;
    case 'u32':
    case 'enumeration':
      return 4;
    case 'u64':
      return 8;
    case 'octets':
      return type.length;
    case 'array':
      return type.length * sizeOf(type.element);
    case 'struct':
      return type.struct.size;
  }
}

/** What a type's address is a multiple of, in bytes. */
export function alignmentOf(type: FieldType): number {
  switch (type.kind) {
    case 'octets':
      return 1;
    case 'array':
      return alignmentOf(type.element);
    case 'struct':
      return type.struct.alignment;
    default:
      return sizeOf(type);
  }
}

const alignUp = (offset: number, alignment: number): number => Math.ceil(offset / alignment) * alignment;

/**
 * Lays out a struct.
 * @param fields at least one, in their order in memory
 */
export function layOut(name: string, fields: readonly (readonly [string, FieldType])[]): StructLayout {
  const alignment = Math.max(...fields.map(([, type]) => alignmentOf(type)));
  const laid: FieldLayout[] = [];
  let offset = 0;
  fields.forEach(([field, type], i) => {
    const size = sizeOf(type);
    const next = fields[i + 1]?.[1];
    const end = alignUp(offset + size, next === undefined ? alignment : alignmentOf(next));
    const padding = end - offset - size;
    laid.push({
      name: field,
      cName: cNameOf(field),
      type,
      offset,
      size,
      alignment: alignmentOf(type),
      padding,
    });
    offset = end;
  });
  return { name, cName: cNameOf(name), size: offset, alignment, fields: laid };
}
