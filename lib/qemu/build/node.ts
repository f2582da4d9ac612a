import { chmodSync, copyFileSync, mkdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { NodeVersion } from '../machine.js';
import { ext4Recipe, makeExt4 } from './ext4.js';
import { type Part, recipeOf, sourceInputs } from './part.js';
import { NODE, type SourceList } from './sources.js';
import type { Toolchain } from './toolchain.js';

export const NODE_IMAGE = 'node.ext4';

/** An image with `bin/node` of one major version, for arm64, from its npm package. */
export function nodePart(version: NodeVersion, sources: SourceList, toolchain: Toolchain): Part {
  const requirement = NODE[version];
  return {
    name: requirement.name,
    title: `Node.js ${sources.get(requirement)?.version ?? version}`,
    needs: [requirement],
    after: [],
    inputs: {
      recipe: recipeOf(__filename),
      sources: sourceInputs(sources, requirement),
      tools: [toolchain.mke2fs],
      image: ext4Recipe(),
    },
    async build(folder, shop) {
      const [archive] = await shop.sources.files(requirement, shop.log, shop.signal);
      await shop.run('tar', ['-xzf', archive ?? '', '-C', shop.scratch, 'package/bin/node']);
      const root = join(shop.scratch, 'root');
      mkdirSync(join(root, 'bin'), { recursive: true });
      copyFileSync(join(shop.scratch, 'package/bin/node'), join(root, 'bin/node'));
      chmodSync(join(root, 'bin/node'), 0o755);
      await rm(join(shop.scratch, 'package'), { recursive: true });
      await makeExt4(root, join(folder, NODE_IMAGE), 0, shop);
    },
  };
}
