/** Answers of the addon, for what reads them. */
import { Answer, Place } from '#lib/client/native';

/**
 * @param numbers by their place
 * @param params a and b of each parameter
 * @param outputs the new arrays, at the index of their parameter
 * @param index which answer it is: 0 of what ends at once, others of a delivery
 */
export function answerOf(
  numbers: Partial<Record<Place, number>>,
  params: [a: number, b: number][] = [],
  outputs: (Uint8Array | undefined)[] = [],
  index = 0,
): Answer {
  // Rubbish, as of a call before, in whatever is not given.
  const records = new Float64Array((index + 1) * Place.length).fill(77);
  const set = (place: number, number: number): void => void (records[index * Place.length + place] = number);
  for (const place of [Place.status, Place.detail, Place.result, Place.origin, Place.staleCancel])
    set(place, 0);
  for (const [place, number] of Object.entries(numbers)) set(Number(place), number);
  params.flat().forEach((number, i) => set(Place.data + i, number));
  return new Answer(records, [...Array<undefined>(index * 4), ...outputs], index);
}
