// An object that survives its client. In the guest: node examples/run.cjs secure-storage
// And that survives a reboot, twice the same: node examples/run.cjs secure-storage --storage /tmp/storage
import { TeeContext } from 'node-optee';
import { SecureStorage } from './secure_storage.ta.mjs';

/** A client for one task. When it is closed, nothing of the TA runs any more. */
async function withStorage(work) {
  const tee = TeeContext.open();
  try {
    return await work(await SecureStorage.open(tee));
  } finally {
    await tee.close();
  }
}

async function readText(storage, name) {
  try {
    const { data } = await storage.read({ name });
    return Buffer.from(data).toString();
  } catch (error) {
    if (error.code !== 'TEE_ERROR_ITEM_NOT_FOUND') throw error;
    return undefined;
  }
}

const boots = await withStorage(async (storage) => Number((await readText(storage, 'boots')) ?? 0) + 1);
await withStorage(async (storage) => {
  await storage.write({ name: 'boots', data: Buffer.from(String(boots)) });
  await storage.write({ name: 'note', data: Buffer.from('a note for the next client. '.repeat(10)) });
});

await withStorage(async (storage) => {
  const note = await readText(storage, 'note');
  console.log(`the next client reads ${note.length} characters: ${note.slice(0, 26)}`);
  await storage.remove({ name: 'note' });
  console.log('removed:', (await readText(storage, 'note')) === undefined);
  console.log('boots with this storage:', await readText(storage, 'boots'));
});
