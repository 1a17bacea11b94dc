/** A directory tree as the listing of a transfer: entries with their metadata, in walk order. Synchronous; for worker threads. */
import { type BigIntStats, lstatSync, readdirSync, readlinkSync } from 'node:fs';
import { goModeOf, isDevice, isDirectory, isSymlink } from './mode.ts';
import { fsPathOf, type Stat } from './packet.ts';

export interface WalkOptions {
  /** Reads the extended attributes of a path; left out, none are reported. */
  readonly xattrsOf?: (path: string | Buffer) => Stat['xattrs'];
  /** Which entries are listed. A directory left out is still listed, late, when something below it is kept. */
  readonly select?: (path: string, directory: boolean) => Selection;
  /** Asked before a listed directory is entered, when the consumer has dealt with it; false keeps the walk out. */
  readonly enter?: (stat: Stat) => boolean;
}

/** `prune`: neither the directory nor anything below it. */
export type Selection = 'keep' | 'skip' | 'prune';

/**
 * Entries below `root` (a byte string), without `root` itself. Files that vanish on the way are left out. A file with several names
 * carries the path of the first one listed as `linkname` at the others, and size 0 there.
 */
export function* walk(root: string, options: WalkOptions = {}): Generator<Stat, void, undefined> {
  const firstNames = new Map<bigint, string>();
  const unlisted: Stat[] = []; // directories above the current one that were skipped so far

  function* below(dir: string): Generator<Stat, void, undefined> {
    for (const name of namesIn(dir === '' ? root : `${root}/${dir}`, unlisted.length > 0)) {
      const path = dir === '' ? name : `${dir}/${name}`;
      const found = lstat(root, path);
      if (found === undefined) continue;
      const selection = options.select?.(path, found.isDirectory()) ?? 'keep';
      if (selection === 'prune' || (selection === 'skip' && !found.isDirectory())) continue;
      const stat = toStat(root, path, found, firstNames, options.xattrsOf);
      if (selection === 'keep') {
        yield* unlisted.splice(0);
        yield stat;
      } else unlisted.push(stat);
      if (!isDirectory(stat.mode) || options.enter?.(stat) === false) continue;
      yield* below(path);
      if (unlisted.at(-1) === stat) unlisted.pop();
    }
  }
  yield* below('');
}

/** One entry, or undefined when there is none. Hard links are not looked for. */
export function statOf(root: string, path: string): Stat | undefined {
  const found = lstat(root, path);
  return found === undefined ? undefined : toStat(root, path, found, undefined, undefined);
}

function lstat(root: string, path: string): BigIntStats | undefined {
  try {
    return lstatSync(fsPathOf(`${root}/${path}`), { bigint: true });
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

function toStat(
  root: string,
  path: string,
  found: BigIntStats,
  firstNames: Map<bigint, string> | undefined,
  xattrsOf: WalkOptions['xattrsOf'],
): Stat {
  const absolute = fsPathOf(`${root}/${path}`);
  const mode = goModeOf(Number(found.mode));
  const directory = isDirectory(mode);
  let linkname = '';
  let size = directory ? 0 : Number(found.size);
  if (isSymlink(mode)) linkname = readlinkSync(absolute, 'latin1');
  else if (!directory && found.nlink > 1n && firstNames !== undefined) {
    linkname = firstNames.get(found.ino) ?? '';
    if (linkname === '') firstNames.set(found.ino, path);
    else size = 0;
  }
  return {
    path,
    mode,
    uid: Number(found.uid),
    gid: Number(found.gid),
    size,
    modTime: found.mtimeNs,
    linkname,
    ...(isDevice(mode) ? deviceNumbers(Number(found.rdev)) : NO_DEVICE),
    xattrs: xattrsOf?.(absolute) ?? [],
  };
}

const NO_DEVICE = { devMajor: 0, devMinor: 0 };

/** makedev(3) undone, for numbers that fit 32 bits. */
function deviceNumbers(rdev: number): { devMajor: number; devMinor: number } {
  return { devMajor: (rdev >>> 8) & 0xfff, devMinor: (rdev & 0xff) | ((rdev >>> 12) & 0xfff00) };
}

/** Sorted by bytes. A directory that is gone is empty; so is one we may not read when nobody asked for it. */
function namesIn(dir: string, unwanted: boolean): string[] {
  try {
    return readdirSync(fsPathOf(dir), 'latin1').sort();
  } catch (error) {
    if (isMissing(error) || (unwanted && (error as NodeJS.ErrnoException).code === 'EACCES')) return [];
    throw error;
  }
}

function isMissing(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code;
  return code === 'ENOENT' || code === 'ENOTDIR';
}
