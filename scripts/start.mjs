// What `npm run qemu`, `npm run demo`, `npm test` and `npm run bench` call: all the set-up, then the thing itself.
import { pathToFileURL } from 'node:url';
import { join } from 'node:path';
import { ROOT, setUpAll } from './setup.mjs';

const [name, ...args] = process.argv.slice(2);

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  process.stderr.write(`node-optee needs Node.js 20.19 or newer; this is ${process.version}\n`);
  process.exit(1);
}

try {
  await setUpAll();
} catch (error) {
  process.stderr.write(`Set-up failed: ${error.message}\n`);
  process.exit(1);
}

const load = (path) => import(pathToFileURL(join(ROOT, path)).href);
if (name === 'qemu') {
  process.argv.splice(1, process.argv.length, join(ROOT, 'dist/cli.js'), 'qemu', ...args);
  await load('dist/cli.js');
} else {
  process.argv.splice(1, process.argv.length, join(ROOT, 'scripts', `${name}.mjs`), ...args);
  await load(`scripts/${name}.mjs`);
}
