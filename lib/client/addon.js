"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.loadAddon = loadAddon;
const node_module_1 = require("node:module");
/** What the package has the addon for. */
const PUBLISHED = ['linux-arm64', 'linux-x64'];
/**
 * Loads the native addon. Only native.ts calls it.
 * @throws Error with the reason, and what to do; code ERR_DLOPEN_DISABLED, ERR_TEE_ADDON_MISSING, or that of process.dlopen
 */
function loadAddon() {
    const target = `${process.platform}-${process.arch}`;
    const places = [
        () => loadPublished(target),
        () => loadBuilt(`prebuilds/${target}`),
        () => loadBuilt('build/Release'),
    ];
    for (const load of places) {
        try {
            const addon = load();
            if (addon !== undefined)
                return addon;
        }
        catch (error) {
            if (!isMissing(error))
                throw explained(error);
        }
    }
    throw Object.assign(new Error(missingMessage(target)), { code: 'ERR_TEE_ADDON_MISSING' });
}
/** One plain require() for each file: what bundles an application, or traces its files, finds the addon by it. */
function loadPublished(target) {
    switch (target) {
        case 'linux-arm64':
            // eslint-disable-next-line @typescript-eslint/no-require-imports
            return require('../../prebuilds/linux-arm64/node-optee.node');
        case 'linux-x64':
            // eslint-disable-next-line @typescript-eslint/no-require-imports
            return require('../../prebuilds/linux-x64/node-optee.node');
        default:
            return undefined;
    }
}
/** What was built on this machine, for another architecture or by node-gyp. Bundlers neither see it nor need it. */
function loadBuilt(folder) {
    // An ES module that was made of this file has no such variable.
    if (typeof __filename === 'undefined')
        return undefined;
    return (0, node_module_1.createRequire)(__filename)(`../../${folder}/node-optee.node`);
}
const isMissing = (error) => error.code === 'MODULE_NOT_FOUND';
function explained(error) {
    const { code, message } = error;
    const reason = code === 'ERR_DLOPEN_DISABLED' ? disabledReason() : message;
    return Object.assign(new Error(`node-optee's native addon cannot be loaded: ${reason}`, { cause: error }), code === undefined ? {} : { code });
}
/** Node answers both with the same error. Where both hold, the one that no other option can lift is told first. */
function disabledReason() {
    const options = [...process.execArgv, ...(process.env['NODE_OPTIONS'] ?? '').split(/\s+/)];
    // Without the permission model it is undefined.
    const permission = process.permission;
    return permission === undefined || options.includes('--no-addons')
        ? 'Node runs with --no-addons, which forbids native addons. Remove that option (from the command line, from ' +
            "NODE_OPTIONS, or from a worker's execArgv)."
        : 'Node runs with its permission model, which forbids native addons. Add --allow-addons to the command line.';
}
function missingMessage(target) {
    const builds = 'In a clone of its repository, "node scripts/build-addon.mjs" builds it for the machine that it runs on.';
    return PUBLISHED.includes(target)
        ? `node-optee's native addon for ${target} is missing. If a bundler made this program, or its files were traced ` +
            'and copied, the addon (prebuilds/*/node-optee.node) was left out: leave node-optee out of the bundle, as an ' +
            `external package (docs/bundlers.md). ${builds}`
        : `node-optee has no native addon for ${target}: the package has those for ${PUBLISHED.join(' and ')}, with ` +
            `glibc. ${builds}`;
}
//# sourceMappingURL=addon.js.map