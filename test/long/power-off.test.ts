import { expect, test } from '@jest/globals';
import { Guest, prepareMachine } from 'node-optee/qemu';
import { BUILD_TIMEOUT, GUEST_TIMEOUT } from '../support/guest.js';

test(
  '20 clean power-offs in a row',
  async () => {
    const machine = await prepareMachine();
    for (let i = 0; i < 20; i++) {
      const guest = await Guest.boot({ machine });
      expect((await guest.run(['true'])).status).toBe(0);
      await guest.close();
      expect(guest.logs.kernel).toContain('reboot: Power down');
    }
  },
  BUILD_TIMEOUT + 5 * GUEST_TIMEOUT,
);
