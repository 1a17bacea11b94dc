/** Content digest of selected paths of a snapshot, in a thread. What was hashed is saved beside the snapshot. */
import { type CacheDigest, cacheDigestOf } from '../../../core/digest.ts';
import type { TaskContext } from '../../../core/worker-pool.ts';
import { openSys } from '../../worker/sys/sys.ts';
import type { Selector } from '../ports.ts';
import { bytesOf } from '../tree/names.ts';
import { ContentTree, newNode } from './content-tree.ts';
import { readDigests, writeDigests } from './digest-file.ts';
import { selectorDigest } from './select.ts';

export interface ChecksumArgs {
  /** The merged tree. */
  readonly dir: string;
  /** Where digests of this snapshot are kept. */
  readonly digests: string;
  readonly selectors: readonly Selector[];
}

/** @throws BuildError `not-found` when a selector names a path that is not there. */
export function checksum({ dir, digests, selectors }: ChecksumArgs, context: TaskContext): CacheDigest {
  const tree = new ContentTree(bytesOf(dir), readDigests(digests) ?? newNode('dir'), openSys(), context.aborted);
  try {
    return cacheDigestOf(selectors.map((selector) => selectorDigest(tree, selector)).join('\0'));
  } finally {
    if (tree.changed && !context.aborted()) writeDigests(digests, tree.root);
  }
}
