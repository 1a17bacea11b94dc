/** Parts of Sys that Node can do by itself, shared by both implementations. */
import { closeSync, ftruncateSync, openSync, readFileSync, statfsSync, writeSync } from 'node:fs';
import type { DiskStats } from './ports.ts';
import { codeOf, SysError } from './sys-error.ts';

export function killGroup(group: number, signal: NodeJS.Signals): boolean {
  if (group <= 1) throw new SysError('kill', String(-group), 'EINVAL', 'not a process group of ours');
  try {
    process.kill(-group, signal);
    return true;
  } catch (error) {
    if (codeOf(error) === 'ESRCH') return false;
    throw new SysError('kill', String(-group), codeOf(error) ?? 'unknown');
  }
}

export function diskStats(path: string): DiskStats {
  const { bsize, blocks, bavail, files, ffree } = statfsSync(path);
  return { totalBytes: blocks * bsize, freeBytes: bavail * bsize, totalInodes: files, freeInodes: ffree };
}

/** Opens the lock file, tries `take` on it, and records our pid or reads the holder's. */
export function lockWith(
  path: string,
  take: (fd: number) => boolean,
): { readonly held: true; readonly lock: Disposable } | { readonly held: false; readonly pid: number } {
  const fd = openSync(path, 'a+', 0o600);
  try {
    if (!take(fd)) {
      closeSync(fd);
      return { held: false, pid: Number.parseInt(readFileSync(path, 'utf8'), 10) || 0 };
    }
    ftruncateSync(fd);
    writeSync(fd, `${process.pid}\n`);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  let open = true;
  return {
    held: true,
    lock: {
      [Symbol.dispose]: () => {
        if (open) closeSync(fd);
        open = false;
      },
    },
  };
}
