/** Has a dma-buf as descriptor 3, which is nobody's of this package. Prints what becomes of it. */
import { readFileSync } from 'node:fs';
import { DmaBuf } from 'node-optee';
import { census } from '../../support/census.js';

const GIVEN = 3;
const isOpen = (): boolean => (census()['dmaBuf descriptors'] ?? 0) > 0;

const copy = DmaBuf.fromFd(GIVEN);
const other = copy.fd !== GIVEN;
copy.close();
const copied = { other, afterwards: isOpen() };

const dma = DmaBuf.fromFd(GIVEN, { own: true });
const flags = /^flags:\s+([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${GIVEN}`, 'utf8'));
const closeOnExec = (parseInt(flags?.[1] ?? '0', 8) & 0o2000000) !== 0;
const own = { fd: dma.fd, size: dma.size, closeOnExec };

let twice: unknown;
try {
  DmaBuf.fromFd(GIVEN, { own: true }).close();
} catch (error) {
  const { code, message } = error as NodeJS.ErrnoException;
  twice = [code, message];
}
dma.close();
console.log(JSON.stringify({ copied, own, twice, afterwards: isOpen() }));
