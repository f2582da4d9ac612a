// Builds the TA of an example (or its TAs), and runs the example in the guest:
//   node examples/run.cjs hello-world
// Further words are options of `node-optee qemu`. With the installed package: node node_modules/node-optee/examples/run.cjs
const { execFileSync } = require('node:child_process');
const { existsSync, readdirSync } = require('node:fs');
const { basename, join } = require('node:path');

const root = join(__dirname, '..');
const [name = '', ...options] = process.argv.slice(2);
const files = readdirSync(__dirname).filter((entry) => entry.endsWith('.mjs'));
const folders = readdirSync(__dirname).filter((entry) => existsSync(join(__dirname, entry, 'ta')));
const names = [...folders, ...files.map((file) => basename(file, '.mjs'))];
if (!names.includes(name)) {
  console.error(`Usage: node examples/run.cjs NAME [OPTIONS OF QEMU]\n\nNAME: ${names.join(', ')}`);
  process.exit(2);
}

const command = (...args) =>
  execFileSync(process.execPath, [join(root, 'dist/cli.js'), ...args], {
    cwd: root,
    stdio: ['ignore', args[0] === 'ta' ? 2 : 1, 2], // what is built goes to stderr
  });

/** Generates and builds those of a folder. NAME.ta.mjs and ta; with several, video_decoder.ta.mjs and ta/video_decoder. */
function buildDescribed(folder) {
  const descriptions = readdirSync(folder).filter((file) => file.endsWith('.ta.mjs'));
  return descriptions.map((file) => {
    const ta = join(folder, 'ta', descriptions.length > 1 ? basename(file, '.ta.mjs') : '');
    command('ta', 'generate', join(folder, file), '--out', join(ta, 'generated'));
    command('ta', ta, '--install');
    return join(ta, 'build');
  });
}

/** A file uses the test TA. */
function buildTestTa() {
  const ta = join(root, 'test/ta');
  command('ta', ta, '--install');
  return [join(ta, 'build')];
}

try {
  const isFolder = folders.includes(name);
  const tas = isFolder ? buildDescribed(join(__dirname, name)) : buildTestTa();
  const main = isFolder ? join(__dirname, name, 'main.mjs') : join(__dirname, `${name}.mjs`);
  command('qemu', '--share', root, ...tas.flatMap((ta) => ['--ta', ta]), ...options, 'node', main);
} catch (error) {
  process.exit(error.status ?? 1);
}
