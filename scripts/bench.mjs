// `npm run bench`: the comparison with libteec and the bare ioctl, in a guest. Options: see bench/run.ts.
import { createRequire } from 'node:module';
import { buildAddon } from './build-addon.mjs';
import { ROOT, compileBench } from './setup.mjs';

await compileBench();
await buildAddon('arm64');
createRequire(import.meta.url)(`${ROOT}/build/bench/run.js`);
