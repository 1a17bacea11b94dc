/** Trees as whole copies, for machines without overlayfs. Reflinks where the file system has them, so a copy is not always the bytes. */
import { taskRef, type WorkerPool } from '../../core/worker-pool.ts';
import type { CopyTreeArgs } from './tree/copy-task.ts';
import { makeTree, type Trees } from './trees.ts';

const copyTree = taskRef<CopyTreeArgs, null>(new URL('./tree/copy-task.ts', import.meta.url), 'copyTree');

export function openNativeTrees(snapshots: string, pool: WorkerPool): Trees {
  const treeOf = (id: string): string => `${snapshots}/${id}/fs`;
  return {
    kind: 'native',
    treeOf,
    async create(id, chain, signal) {
      makeTree(snapshots, id);
      const parent = chain.at(-1);
      if (parent !== undefined) await pool.run(copyTree, { from: treeOf(parent), to: treeOf(id), files: 'copy' }, { signal });
    },
    mountWritable: (id) => treeOf(id),
    unmountWritable() {},
    mountView: (chain) => ({ dir: treeOf(chain.at(-1) ?? ''), mounted: false }),
    unmountView() {},
  };
}
