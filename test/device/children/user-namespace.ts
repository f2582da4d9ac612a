/**
 * Becomes another user, opens the device in a user namespace that maps this user alone, as a rootless container does, and
 * prints how that goes. Arguments: uid, gid, supplementary groups.
 */
import { spawnSync } from 'node:child_process';

const INSIDE = `
  const { TeeContext } = require(${JSON.stringify(require.resolve('node-optee'))});
  try {
    const tee = TeeContext.open();
    console.log(JSON.stringify(tee.version.path));
    tee.close();
  } catch ({ code, message }) {
    console.log(JSON.stringify({ code, message }));
  }`;

function main([uid, gid, ...groups]: number[]): void {
  process.setgroups?.(groups);
  process.setgid?.(gid);
  process.setuid?.(uid);
  const { status } = spawnSync('unshare', ['-U', '-r', process.execPath, '-e', INSIDE], { stdio: 'inherit' });
  process.exitCode = status ?? 1;
}

main(process.argv.slice(2).map(Number));
