// `npm run bench`: the comparison with libteec and the bare ioctl, in a guest. Options: see bench/run.ts.
import { createRequire } from 'node:module';
import { ROOT, compileBench, run } from './setup.mjs';

compileBench();
run(process.execPath, ['scripts/build-addon.mjs', 'arm64']);
createRequire(import.meta.url)(`${ROOT}/build/bench/run.js`);
