// Before `npm pack` and `npm publish`: the addon for every architecture that is published.
import { buildAddon } from './build-addon.mjs';

for (const arch of ['arm64', 'x64']) await buildAddon(arch);
