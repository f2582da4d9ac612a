/**
 * The TA has answered, with success, what its description does not allow.
 * @param place 'notary.status.mode'
 * @param problem 'is 7, and must be 0 or 1'
 */
export function badOutput(place: string, problem: string): Error & { code: string } {
  return Object.assign(new Error(`${place} ${problem}: the TA is not the one that is described`), {
    code: 'ERR_TEE_BAD_OUTPUT',
  });
}
