/** Disk use of directories, counted in a thread: blocks, and of a file with several names each name its share. */
import { lstatSync, readdirSync } from 'node:fs';
import { cancelled } from '../../../core/errors.ts';
import type { TaskContext } from '../../../core/worker-pool.ts';
import { bytesOf, fsPath } from './names.ts';

export interface UsageArgs {
  readonly dirs: readonly string[];
}
export interface DirectoryUsage {
  readonly sizeBytes: number;
  /** It has files with several names, so what others do changes its share. */
  readonly linked: boolean;
}

/** Mount points: what shows there is counted where it lies. */
const MOUNTS: readonly string[] = ['m', 'view'];

/** One answer per directory; 0 bytes for one that is gone. Shares of one file add up to the file. */
export function diskUsage({ dirs }: UsageArgs, context: TaskContext): DirectoryUsage[] {
  return dirs.map((dir) => {
    let blocks = 0;
    let linked = false;
    const count = (path: string, skipped: readonly string[]): void => {
      if (context.aborted()) throw cancelled();
      const stat = lstatSync(fsPath(path), { throwIfNoEntry: false });
      if (stat === undefined) return;
      if (!stat.isDirectory()) {
        if (stat.nlink > 1) linked = true;
        blocks += stat.blocks / Math.max(1, stat.nlink);
        return;
      }
      blocks += stat.blocks;
      for (const name of readdirSync(fsPath(path), { encoding: 'latin1' }))
        if (!skipped.includes(name)) count(`${path}/${name}`, []);
    };
    count(bytesOf(dir), MOUNTS);
    return { sizeBytes: Math.round(blocks * 512), linked };
  });
}
