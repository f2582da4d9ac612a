// Builds the TA of an example with a folder of its own, and runs its main.mjs in the guest:
//   node examples/run.cjs hello-world
const { execFileSync } = require('node:child_process');
const { existsSync, readdirSync } = require('node:fs');
const { join } = require('node:path');

const [name = ''] = process.argv.slice(2);
const folder = join(__dirname, name);
const description = join(folder, `${name.replaceAll('-', '_')}.ta.mjs`);
if (name === '' || !existsSync(description)) {
  const names = readdirSync(__dirname, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  console.error(`Usage: node examples/run.cjs ${names.map((entry) => entry.name).join(' | ')}`);
  process.exit(2);
}
const root = join(__dirname, '..');
const ta = join(folder, 'ta');
const command = (...args) =>
  execFileSync(process.execPath, [join(root, 'dist/cli.js'), ...args], {
    cwd: root,
    stdio: ['ignore', args[0] === 'ta' ? 2 : 1, 2], // what is built goes to stderr
  });
try {
  command('ta', 'generate', description, '--out', join(ta, 'generated'));
  command('ta', ta, '--install');
  command('qemu', '--share', root, '--ta', join(ta, 'build'), 'node', join(folder, 'main.mjs'));
} catch (error) {
  process.exit(error.status ?? 1);
}
