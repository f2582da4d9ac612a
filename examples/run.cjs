// Builds the TA of an example with a folder of its own (or its TAs), and runs its main.mjs in the guest:
//   node examples/run.cjs hello-world
// Further words are options of `node-optee qemu`.
const { execFileSync } = require('node:child_process');
const { existsSync, readdirSync } = require('node:fs');
const { join } = require('node:path');

const [name = '', ...options] = process.argv.slice(2);
const folder = join(__dirname, name);
if (name === '' || !existsSync(join(folder, 'ta'))) {
  const names = readdirSync(__dirname).filter((entry) => existsSync(join(__dirname, entry, 'ta')));
  console.error(`Usage: node examples/run.cjs ${names.join(' | ')} [OPTIONS OF QEMU]`);
  process.exit(2);
}
const root = join(__dirname, '..');
// NAME.ta.mjs and ta; with several TAs, video_decoder.ta.mjs and ta/video_decoder.
const descriptions = readdirSync(folder).filter((file) => file.endsWith('.ta.mjs'));
const tas = descriptions.map((file) => ({
  description: join(folder, file),
  ta: join(folder, 'ta', descriptions.length > 1 ? file.slice(0, -'.ta.mjs'.length) : ''),
}));
const command = (...args) =>
  execFileSync(process.execPath, [join(root, 'dist/cli.js'), ...args], {
    cwd: root,
    stdio: ['ignore', args[0] === 'ta' ? 2 : 1, 2], // what is built goes to stderr
  });
try {
  for (const { description, ta } of tas) {
    command('ta', 'generate', description, '--out', join(ta, 'generated'));
    command('ta', ta, '--install');
  }
  const built = tas.flatMap(({ ta }) => ['--ta', join(ta, 'build')]);
  command('qemu', '--share', root, ...built, ...options, 'node', join(folder, 'main.mjs'));
} catch (error) {
  process.exit(error.status ?? 1);
}
