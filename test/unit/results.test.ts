import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { originName, resultName, TEE_RESULTS } from '#lib/client/results';

describe('results', () => {
  test.each([
    [0xffff0010, 'TEE_ERROR_SHORT_BUFFER'],
    [0xffff3024, 'TEE_ERROR_TARGET_DEAD'],
    [0xf0100003, 'TEE_ERROR_STORAGE_NOT_AVAILABLE'],
    [0, 'TEE_SUCCESS'],
    [0x12345678, 'TEE_0x12345678'],
    [0x1, 'TEE_0x00000001'],
    [0xffffffff, 'TEE_0xffffffff'],
  ])('%s is %s', (result, name) => {
    expect(resultName(result)).toBe(name);
  });

  test('every u32 has a name that leads back to it', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffffffff }), (result) => {
        const name = resultName(result);
        const known = (TEE_RESULTS as Record<string, number>)[name];
        expect(known ?? Number(name.slice('TEE_'.length))).toBe(result);
      }),
    );
  });

  test('origins', () => {
    expect([0, 1, 2, 3, 4, 5, 0xffffffff].map(originName)).toEqual([
      'unknown',
      'api',
      'comms',
      'tee',
      'trusted-app',
      'unknown',
      'unknown',
    ]);
  });
});
