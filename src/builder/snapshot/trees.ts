/**
 * Where the trees of snapshots live and how a stack of them becomes one directory. Every snapshot has `<root>/snapshots/<id>/fs`. With
 * overlayfs that holds only what it changed, in overlayfs's own form, and the kernel stacks them; where overlayfs is missing it is a
 * whole copy.
 */
import { mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Sys } from '../worker/sys/ports.ts';

export interface Trees {
  readonly kind: 'overlay' | 'native';
  /** Directory of a snapshot's own tree. */
  treeOf(id: string): string;
  /** Makes the directories of a new snapshot on top of `chain` (ids, lowest first). */
  create(id: string, chain: readonly string[], signal: AbortSignal): Promise<void>;
  /** The writable merged tree. */
  mountWritable(id: string, chain: readonly string[]): string;
  /** Undoes mountWritable; harmless when it was not mounted. */
  unmountWritable(id: string): void;
  /** A readable merged tree of `chain`, mounted at `at` (a directory to be made) when that takes a mount. */
  mountView(chain: readonly string[], at: string): { readonly dir: string; readonly mounted: boolean };
  unmountView(at: string): void;
}

/** Directories of one snapshot: `fs` its tree, `work` overlayfs's own, `m` where the writable tree is mounted. */
export const directoryOf = (snapshots: string, id: string): string => join(snapshots, id);

/** Unmounts and removes a mount point of ours. */
export function unmountAt(sys: Sys, target: string): void {
  sys.unmount(target);
  rmdirSync(target);
}

export function makeTree(snapshots: string, id: string): string {
  const dir = directoryOf(snapshots, id);
  mkdirSync(dir, { mode: 0o700 });
  mkdirSync(join(dir, 'fs'), { mode: 0o755 });
  return dir;
}
