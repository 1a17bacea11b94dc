/** Disk use of trees, counted in a thread as du counts: blocks, each inode once. */
import { lstatSync, readdirSync } from 'node:fs';
import { cancelled } from '../../../core/errors.ts';
import type { TaskContext } from '../../../core/worker-pool.ts';
import { bytesOf, fsPath } from './names.ts';

export interface UsageArgs {
  /** `ownOnly`: files that have another name are somebody else's. */
  readonly trees: readonly { readonly dir: string; readonly ownOnly: boolean }[];
}

/** Mount points: what shows there is counted where it lies. */
const MOUNTS: readonly string[] = ['m', 'view'];

/** Bytes per directory; 0 for one that is gone. */
export function diskUsage({ trees }: UsageArgs, context: TaskContext): number[] {
  return trees.map(({ dir, ownOnly }) => {
    const seen = new Set<number>();
    let blocks = 0;
    const count = (path: string, skipped: readonly string[]): void => {
      if (context.aborted()) throw cancelled();
      const stat = lstatSync(fsPath(path), { throwIfNoEntry: false });
      if (stat === undefined) return;
      const linked = stat.nlink > 1 && !stat.isDirectory();
      if (linked && (ownOnly || seen.has(stat.ino))) return;
      if (linked) seen.add(stat.ino);
      blocks += stat.blocks;
      if (!stat.isDirectory()) return;
      for (const name of readdirSync(fsPath(path), { encoding: 'latin1' }))
        if (!skipped.includes(name)) count(`${path}/${name}`, []);
    };
    count(bytesOf(dir), MOUNTS);
    return blocks * 512;
  });
}
