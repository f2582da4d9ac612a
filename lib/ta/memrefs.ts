/** Slots of memory: bytes, structs, texts and shared memory. */
import { invalidArgType, outOfRange } from '../client/errors.js';
import { buffer, reportedSize } from '../client/parameters.js';
import { SharedMemory } from '../client/shared-memory.js';
import { byteLengthOf, checkBytes, checkInteger, checkKnown } from '../client/validate.js';
import { badOutput } from './bad-output.js';
import { codecOf } from './codec.js';
import type { BytesSlot, MemorySlot, StructSlot, TextSlot } from './description.js';
import type { Decode, Encode } from './encoding.js';
import { decodeText, encodeText } from './text.js';

type MemrefSlot = BytesSlot | StructSlot | TextSlot | MemorySlot;

/**
 * The parameter of a memref.
 * @param at where the arguments of the call have its own
 * @param keep copy bytes that go in: they are sent later, or twice
 */
export function memrefIn(slot: MemrefSlot, place: string, at: number, keep: boolean): Encode {
  switch (slot.kind) {
    case 'bytes':
      return slot.direction === 'out' ? bytesOut(slot, place, at) : bytesIn(slot, place, at, keep);
    case 'struct':
      return structIn(slot, place, at);
    case 'text':
      return textIn(slot, place, at);
    case 'memory':
      return memoryIn(slot, place, at);
  }
}

/** What a memref brings back. */
export function memrefOut(slot: MemrefSlot, place: string): Decode {
  const { name } = slot;
  switch (slot.kind) {
    case 'bytes': {
      const { min, max } = slot;
      if (min !== max) break;
      return (output, results) => (results[name] = exactly(output as Uint8Array, max, place));
    }
    case 'struct': {
      const { decode } = codecOf(slot.struct);
      const { size } = slot.struct;
      return (output, results) => (results[name] = decode(exactly(output as Uint8Array, size, place), place));
    }
    case 'text': {
      const { max } = slot;
      return (output, results) =>
        (results[name] = decodeText(whole(output as Uint8Array, max, place), place));
    }
    case 'memory':
      break;
  }
  return (output, results) => (results[name] = output);
}

function exactly(bytes: Uint8Array, size: number, place: string): Uint8Array {
  const length = reportedSize(bytes);
  if (length !== size) throw badOutput(place, `has ${length} bytes, and must have ${size}`);
  return bytes;
}

/** What has no bytes missing at its end. */
function whole(bytes: Uint8Array, max: number, place: string): Uint8Array {
  const length = reportedSize(bytes);
  if (length > max) throw badOutput(place, `has ${length} bytes, and at most ${max}`);
  return bytes;
}

/** How many bytes there may be, in words. */
function sizes({ min, max }: { min: number; max: number }): string {
  if (min === max) return `${max} bytes long`;
  return min === 0 ? `at most ${max} bytes long` : `from ${min} to ${max} bytes long`;
}

function checkSize(bytes: Uint8Array, slot: BytesSlot, place: string): Uint8Array {
  const length = byteLengthOf(bytes);
  if (length < slot.min || length > slot.max) throw outOfRange(place, sizes(slot), length);
  return bytes;
}

function bytesIn(slot: BytesSlot, place: string, at: number, keep: boolean): Encode {
  const { direction, optional } = slot;
  return (args) => {
    const given = args[at];
    if (given === undefined && optional) return buffer.null('in');
    const bytes = checkSize(checkBytes(given, place), slot, place);
    const sent = keep ? new Uint8Array(bytes) : bytes;
    return direction === 'in' ? buffer.in(sent) : buffer.inout(sent);
  };
}

function bytesOut(slot: BytesSlot, place: string, at: number): Encode {
  const { min, max, initial } = slot;
  const usual = buffer.out(initial);
  return (args) => {
    const given = args[at];
    if (given === undefined) return usual;
    if (typeof given === 'number' && min !== max) return buffer.out(checkInteger(given, place, 0, max));
    if (ArrayBuffer.isView(given)) return buffer.into(checkSize(checkBytes(given, place), slot, place));
    throw invalidArgType(
      place,
      `${min === max ? '' : 'a number of bytes or '}a Uint8Array to write into`,
      given,
    );
  };
}

function structIn({ direction, struct }: StructSlot, place: string, at: number): Encode {
  const { encode } = codecOf(struct);
  switch (direction) {
    case 'in':
      return (args) => buffer.in(encode(args[at], place));
    case 'inout':
      return (args) => buffer.inout(encode(args[at], place));
    case 'out': {
      const room = buffer.out(struct.size);
      return () => room;
    }
  }
}

function textIn({ direction, max, optional }: TextSlot, place: string, at: number): Encode {
  switch (direction) {
    case 'in':
      return (args) => {
        const given = args[at];
        if (given === undefined && optional) return buffer.null('in');
        return buffer.in(encodeText(given, max, place));
      };
    case 'inout':
      return (args) => {
        const room = new Uint8Array(max);
        room.set(encodeText(args[at], max, place));
        return buffer.inout(room);
      };
    case 'out': {
      const room = buffer.out(max);
      return () => room;
    }
  }
}

function memoryIn(slot: MemorySlot, place: string, at: number): Encode {
  const { direction, min, max, optional } = slot;
  return (args) => {
    const given = args[at];
    if (given === undefined && optional) return buffer.null(direction);
    const { memory, offset, size } = rangeOf(given, place);
    if (size < min || size > max) throw outOfRange(place, sizes(slot), size);
    return memory[direction]({ offset, size });
  };
}

/** What of which memory. */
function rangeOf(given: unknown, place: string): { memory: SharedMemory; offset: number; size: number } {
  if (given instanceof SharedMemory) return { memory: given, offset: 0, size: given.size };
  const wanted = 'a SharedMemory, or an object with memory, offset and size';
  if (typeof given !== 'object' || given === null) throw invalidArgType(place, wanted, given);
  checkKnown(given, place, ['memory', 'offset', 'size']);
  const { memory, offset = 0, size } = given as { memory?: unknown; offset?: unknown; size?: unknown };
  if (!(memory instanceof SharedMemory)) throw invalidArgType(`${place}.memory`, 'a SharedMemory', memory);
  const from = checkInteger(offset, `${place}.offset`, 0, memory.size);
  const rest = memory.size - from;
  return {
    memory,
    offset: from,
    size: size === undefined ? rest : checkInteger(size, `${place}.size`, 0, rest),
  };
}
