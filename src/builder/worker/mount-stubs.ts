/**
 * Mount points that exist only because the runtime had to make them: empty files and directories in the root file system that no layer
 * may keep. Noted before the process runs, removed after it, unless the process put something there.
 */
import { lstatSync, readdirSync, rmdirSync, statSync, unlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { resolveInRoot } from './root-path.ts';
import type { Sys } from './sys/ports.ts';

/**
 * Notes which of `destinations` are missing in `root`; the result removes them again. `recursive` also removes the parents that had to
 * be made. Times of directories that lose a stub are set back to what they were before the removal.
 */
export function noteMountStubs(root: string, destinations: readonly string[], recursive: boolean, sys: Sys): () => void {
  const missing: string[] = [];
  for (const destination of destinations) {
    let path = resolveInRoot(root, destination);
    while (path !== root && !exists(path)) {
      missing.push(path);
      if (!recursive) break;
      path = dirname(path);
    }
  }
  return () => {
    for (const path of missing) {
      try {
        removeStub(root, path, sys);
      } catch {
        // What the process did to the path (a loop of links, say) is its own affair: then the stub stays, and nothing else suffers.
      }
    }
  };
}

function exists(path: string): boolean {
  try {
    return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOTDIR') return false;
    throw error;
  }
}

/** The process may have replaced any part of the path by a symlink: a stub reached by another way than before is left alone. */
function removeStub(root: string, path: string, sys: Sys): void {
  if (resolveInRoot(root, path.slice(root.length), { followLast: false }) !== path) return;
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined || stat.isSymbolicLink()) return;
  if (stat.isDirectory() ? readdirSync(path).length > 0 : stat.size > 0) return;
  const parent = dirname(path);
  const before = statSync(parent, { bigint: true });
  if (stat.isDirectory()) rmdirSync(path);
  else unlinkSync(path);
  sys.setTimes(parent, before.atimeNs, before.mtimeNs);
}
