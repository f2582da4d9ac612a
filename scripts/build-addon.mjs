// Builds the native addon: node scripts/build-addon.mjs [ARCH]..., this machine's by default, whatever that is. On Linux
// arm64 and x64 are cross-built, too. The result is prebuilds/<platform>-<arch>/node-optee.node; nothing is done where
// that was built from the same files. Steps are told on stderr.
//
// Tests also build variants: for a runtime without external buffers, in build/no-external-buffers, and with sanitizers,
// in build/sanitized.
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ROOT, step } from './setup.mjs';

const CROSS = { arm64: 'aarch64-linux-gnu', x64: 'x86_64-linux-gnu' };

/** What variants have besides. */
const VARIANTS = {
  // Node-API's function that makes a buffer over memory from outside, which refuses.
  'no-external-buffers': { sources: ['test/native/no_external_buffers.cc'] },
  // It keeps its symbols, for addr2line.
  sanitized: {
    flags: ['-fsanitize=address,undefined', '-fno-sanitize-recover=all', '-fno-omit-frame-pointer', '-g1'],
  },
};

// All of Node's own build settings that an addon needs. N-API's headers come from node-api-headers, so the
// build needs neither the headers of the running Node nor a download. Paths of sources are relative to this file.
const commonGypi = (sources, flags) => `{
  'target_defaults': {
    'sources': ${JSON.stringify(sources)},
    'default_configuration': 'Release',
    'configurations': { 'Release': { 'defines': ['NDEBUG'] }, 'Debug': { 'cflags': ['-g', '-O0'] } },
    'cflags': ${JSON.stringify(['-pthread', ...flags])},
    'ldflags': ${JSON.stringify(['-pthread', ...flags])},
    'target_conditions': [['_type=="loadable_module"', {
      'cflags': ['-fPIC'],
      'ldflags!': ${JSON.stringify(flags.length > 0 ? ['-s'] : [])},
    }]],
  },
}
`;

function hashOf(arch, sources) {
  const hash = createHash('sha256').update(`${arch}\n${process.platform}\n`);
  const files = readdirSync(join(ROOT, 'native'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
  const packages = ['node-addon-api', 'node-api-headers', 'node-gyp'].map(
    (name) => `node_modules/${name}/package.json`,
  );
  for (const file of [
    ...files.sort(),
    ...['binding.gyp', 'scripts/build-addon.mjs', ...packages, ...sources].map((name) => join(ROOT, name)),
  ]) {
    hash
      .update(`${file.slice(ROOT.length)}\n`)
      .update(readFileSync(file))
      .update('\n');
  }
  return hash.digest('hex');
}

/**
 * @param {string} [arch] as Node names it
 * @param {{ variant?: keyof typeof VARIANTS }} [options]
 * @returns {Promise<string>} the addon's path
 */
export async function buildAddon(arch = process.arch, { variant } = {}) {
  if (arch !== process.arch && (process.platform !== 'linux' || !Object.hasOwn(CROSS, arch))) {
    throw new Error(
      `No addon for ${arch}: ${process.platform}-${process.arch} builds its own, and Linux cross-builds those for ` +
        Object.keys(CROSS).join(' and '),
    );
  }
  const { sources = [], flags = [] } = variant === undefined ? {} : VARIANTS[variant];
  const where = variant === undefined ? 'prebuilds' : `build/${variant}`;
  const folder = join(ROOT, where, `${process.platform}-${arch}`);
  const addon = join(folder, 'node-optee.node');
  const name = variant === undefined ? arch : `${arch}-${variant}`;
  const stamp = join(ROOT, 'build', 'addon', `${name}.built-from`);
  const hash = hashOf(arch, sources);
  if (existsSync(addon) && existsSync(stamp) && readFileSync(stamp, 'utf8') === hash) return addon;

  mkdirSync(dirname(stamp), { recursive: true });
  // A folder of its own: node-gyp empties the folder build/ beside binding.gyp, and two builds may run at once.
  const work = mkdtempSync(join(ROOT, 'build', 'addon', `${name}-`));
  try {
    const title = `Addon for ${arch}${variant === undefined ? '' : `, ${variant}`}`;
    const built = await compile(title, arch, work, sources, flags);
    mkdirSync(folder, { recursive: true });
    // Written aside first: a process may have the old one loaded.
    const aside = `${addon}.${process.pid}`;
    copyFileSync(built, aside);
    renameSync(aside, addon);
    writeFileSync(stamp, hash);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return addon;
}

async function compile(title, arch, work, sources, flags) {
  const headers = join(work, 'headers', 'include', 'node');
  mkdirSync(headers, { recursive: true });
  const paths = sources.map((source) => `../../../${basename(source)}`);
  writeFileSync(join(headers, 'common.gypi'), commonGypi(paths, flags));
  writeFileSync(join(headers, 'config.gypi'), "{ 'target_defaults': {}, 'variables': {} }\n");
  cpSync(join(ROOT, 'native'), join(work, 'native'), { recursive: true });
  copyFileSync(join(ROOT, 'binding.gyp'), join(work, 'binding.gyp'));
  for (const source of sources) copyFileSync(join(ROOT, source), join(work, basename(source)));

  // node-gyp takes npm's settings (nodedir, for one) from these, before its own command line.
  const ours = Object.entries(process.env).filter(
    ([name]) => !/^npm_(config|package_config_node_gyp)_/i.test(name),
  );
  const env = Object.fromEntries(ours);
  if (arch !== process.arch) {
    env.CC = `${CROSS[arch]}-gcc`;
    env.CXX = `${CROSS[arch]}-g++`;
  }
  const nodeGyp = join(ROOT, 'node_modules', 'node-gyp', 'bin', 'node-gyp.js');
  const args = [
    'rebuild',
    '--arch',
    arch,
    '--nodedir',
    join(work, 'headers'),
    '--jobs=max',
    '--loglevel=warn',
  ];
  await step(title, (runLogged) => runLogged(process.execPath, [nodeGyp, ...args], { cwd: work, env }));
  return join(work, 'build', 'Release', 'node-optee.node');
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  for (const arch of process.argv.length > 2 ? process.argv.slice(2) : [process.arch]) {
    process.stderr.write(`${await buildAddon(arch)}\n`);
  }
}
