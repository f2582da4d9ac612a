import { command } from './command.js';
import { type Workshop, recipeOf } from './part.js';

const OPTIONS = [
  '-q',
  '-F',
  '-t',
  'ext4',
  '-O',
  '^has_journal',
  '-E',
  'root_owner=0:0,lazy_itable_init=1',
  '-m',
  '0',
];

/** How images are made, for the keys of parts that are one. */
export const ext4Recipe = (): string => recipeOf(__filename);

/** Makes an ext4 image of a folder, all files root's. `free` is in MiB. */
export async function makeExt4(
  folder: string,
  image: string,
  free: number,
  shop: Pick<Workshop, 'run' | 'signal'>,
): Promise<void> {
  const used = Number((await command('du', ['-sm', '--apparent-size', folder])).split('\t')[0]);
  const inodes = Number((await command('sh', ['-c', 'find "$1" | wc -l', 'sh', folder])).trim());
  // A block of 4 KiB for the tail of each file, and room for ext4's own tables.
  const size = Math.ceil(used * 1.05 + inodes / 200) + 16 + free;
  const count = ['-N', String(inodes + 1024 + free * 16)];
  // fakeroot: files of an ordinary user's build are root's in the guest. Who builds with a umask of 077 gets the same.
  await shop.run('fakeroot', [
    '--',
    'sh',
    '-c',
    'chown -R 0:0 "$1" && chmod -R go+rX,go-w "$1" && shift && exec mke2fs "$@"',
    'sh',
    folder,
    ...OPTIONS,
    ...count,
    '-d',
    folder,
    image,
    `${size}M`,
  ]);
}
