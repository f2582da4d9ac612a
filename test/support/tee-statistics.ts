/** What OP-TEE's statistics pseudo TA counts, of all processes. Needs no Jest. */
import { buffer, value, type Session } from 'node-optee';
import { parseUuid, swapUuid } from '#lib/client/uuid';

const LOADED_TAS = 3;
const HEAP = 1;

/** Sizes and places in struct pta_stats_ta and struct pta_stats_alloc. */
const TA_SIZE = 88;
const TA_SESSIONS = 20;
const HEAP_SIZE = 64;
const HEAP_ALLOCATED = 40;

/** A UUID as a TA sees it: TEE_UUID, little-endian. */
export const struct = (uuid: string): Buffer => swapUuid(parseUuid(uuid));

function entries(bytes: Uint8Array, size: number): Buffer[] {
  const all = Buffer.from(bytes);
  if (all.length % size !== 0) throw new Error(`These are no entries of ${size} bytes: ${all.length}`);
  return Array.from({ length: all.length / size }, (_, i) => all.subarray(i * size, (i + 1) * size));
}

/**
 * How many sessions a TA has, in all of its instances.
 * @param stats a session with PTA_STATS
 */
export async function sessionsInTee(stats: Session, uuid: string): Promise<number> {
  let all: Uint8Array;
  try {
    [all] = await stats.invoke(LOADED_TAS, [buffer.out(64 * TA_SIZE)]);
  } catch (error) {
    if ((error as { code: string }).code === 'TEE_ERROR_ITEM_NOT_FOUND') return 0; // no TA is loaded
    throw error;
  }
  return entries(all, TA_SIZE)
    .filter((entry) => entry.subarray(0, 16).equals(struct(uuid)))
    .reduce((sum, entry) => sum + entry.readUInt32LE(TA_SESSIONS), 0);
}

/** Bytes of OP-TEE's own heap that are in use. */
export async function heapInTee(stats: Session): Promise<number> {
  const [, all] = await stats.invoke(HEAP, [value.in(0), buffer.out(16 * HEAP_SIZE)]);
  return entries(all, HEAP_SIZE).reduce((sum, entry) => sum + entry.readUInt32LE(HEAP_ALLOCATED), 0);
}
