/** Structs as bytes: what a layout says, done once for each description. */
import { invalidArgType, invalidArgValue, outOfRange } from '../client/errors.js';
import { byteLengthOf, checkBytes } from '../client/validate.js';
import { sizeOf, type FieldLayout, type FieldType, type StructLayout } from './layout.js';
import { fromU32, u32Of, u64Of } from './scalars.js';

/**
 * Writes what a caller gave. This can run code of the caller's.
 * @param place for errors: 'configure.config.level'
 */
type Put = (view: DataView, at: number, value: unknown, place: string) => void;
type Get = (view: DataView, at: number, place: string) => unknown;

/** A struct's way to bytes and back. */
export interface Codec {
  /** @throws as the arguments of a call do */
  readonly encode: (value: unknown, place: string) => Uint8Array;
  /**
   * @param bytes as many as the struct has
   * @throws Error ERR_TEE_BAD_OUTPUT
   */
  readonly decode: (bytes: Uint8Array, place: string) => unknown;
}

export function codecOf(layout: StructLayout): Codec {
  const put = putStruct(layout);
  const get = getStruct(layout);
  return {
    encode(value, place) {
      const bytes = new Uint8Array(layout.size); // zeros, so padding is
      put(new DataView(bytes.buffer), 0, value, place);
      return bytes;
    },
    decode: (bytes, place) => get(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0, place),
  };
}

function putterOf(type: FieldType): Put {
  switch (type.kind) {
    case 'u64':
      return (view, at, value, place) => view.setBigUint64(at, u64Of(value, place), true);
    case 'octets':
      return (view, at, value, place) => {
        const bytes = checkBytes(value, place);
        const length = byteLengthOf(bytes);
        if (length !== type.length) throw outOfRange(place, `${type.length} bytes long`, length);
        new Uint8Array(view.buffer, at, type.length).set(bytes);
      };
    case 'array':
      return putArray(putterOf(type.element), type.length, sizeOf(type.element));
    case 'struct':
      return putStruct(type.struct);
    default: {
      const number = u32Of(type);
      switch (type.kind) {
        case 'u8':
        case 'bool':
          return (view, at, value, place) => view.setUint8(at, number(value, place));
        case 'u16':
          return (view, at, value, place) => view.setUint16(at, number(value, place), true);
        default:
          return (view, at, value, place) => view.setUint32(at, number(value, place), true);
      }
    }
  }
}

function putArray(put: Put, length: number, size: number): Put {
  return (view, at, value, place) => {
    if (!Array.isArray(value)) throw invalidArgType(place, `an array of ${length}`, value);
    if (value.length !== length) throw outOfRange(`${place}.length`, String(length), value.length);
    for (let i = 0; i < length; i++) put(view, at + i * size, value[i], `${place}[${i}]`);
  };
}

function putStruct({ name, fields }: StructLayout): Put {
  const puts = fields.map((field) => ({ ...field, put: putterOf(field.type) }));
  const known = new Set(fields.map((field) => field.name));
  return (view, at, value, place) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw invalidArgType(place, `an object (struct ${name})`, value);
    }
    for (const field of puts) {
      field.put(
        view,
        at + field.offset,
        (value as Record<string, unknown>)[field.name],
        `${place}.${field.name}`,
      );
    }
    for (const key of Object.keys(value)) {
      if (!known.has(key)) {
        throw invalidArgValue(place, undefined, `has no ${key}; there are ${[...known].join(', ')}`);
      }
    }
  };
}

function getterOf(type: FieldType): Get {
  switch (type.kind) {
    case 'u64':
      return (view, at) => view.getBigUint64(at, true);
    case 'octets':
      return (view, at) => new Uint8Array(view.buffer, view.byteOffset + at, type.length).slice();
    case 'array':
      return getArray(getterOf(type.element), type.length, sizeOf(type.element));
    case 'struct':
      return getStruct(type.struct);
    default: {
      const from = fromU32(type);
      switch (type.kind) {
        case 'u8':
        case 'bool':
          return (view, at, place) => from(view.getUint8(at), place);
        case 'u16':
          return (view, at, place) => from(view.getUint16(at, true), place);
        default:
          return (view, at, place) => from(view.getUint32(at, true), place);
      }
    }
  }
}

function getArray(get: Get, length: number, size: number): Get {
  return (view, at, place) => Array.from({ length }, (_, i) => get(view, at + i * size, `${place}[${i}]`));
}

function getStruct({ fields }: StructLayout): Get {
  const gets = fields.map((field: FieldLayout) => ({ ...field, get: getterOf(field.type) }));
  return (view, at, place) => {
    const found: Record<string, unknown> = {};
    for (const { name, offset, get } of gets) found[name] = get(view, at + offset, `${place}.${name}`);
    return found;
  };
}
