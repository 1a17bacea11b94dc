/** Disk use of trees, counted in a thread as du counts: blocks, each inode once. */
import { lstatSync, readdirSync } from 'node:fs';
import { cancelled } from '../../../core/errors.ts';
import type { TaskContext } from '../../../core/worker-pool.ts';
import { bytesOf, fsPath } from './names.ts';

export interface UsageArgs {
  /** `ownOnly`: files that have another name are somebody else's. */
  readonly trees: readonly { readonly dir: string; readonly ownOnly: boolean }[];
}

/** Bytes per tree; 0 for one that is gone. */
export function diskUsage({ trees }: UsageArgs, context: TaskContext): number[] {
  return trees.map(({ dir, ownOnly }) => {
    const seen = new Set<number>();
    let blocks = 0;
    const count = (path: string): void => {
      if (context.aborted()) throw cancelled();
      const stat = lstatSync(fsPath(path), { throwIfNoEntry: false });
      if (stat === undefined) return;
      const linked = stat.nlink > 1 && !stat.isDirectory();
      if (linked && (ownOnly || seen.has(stat.ino))) return;
      if (linked) seen.add(stat.ino);
      blocks += stat.blocks;
      if (stat.isDirectory()) for (const name of readdirSync(fsPath(path), { encoding: 'latin1' })) count(`${path}/${name}`);
    };
    count(bytesOf(dir));
    return blocks * 512;
  });
}
