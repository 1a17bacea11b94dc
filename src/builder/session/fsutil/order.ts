/** Order and shape of a listing: parents before children, each name once, nothing that leaves the root (buildkit-wire.md 4.4). */
import { BuildError } from '../../../core/errors.ts';
import { isDirectory, isRegular } from './mode.ts';
import { type Stat, textOf } from './packet.ts';

/** Compares byte-string paths as a walk meets them: as if `/` sorted below every other byte. Negative when `a` comes first. */
export function comparePaths(a: string, b: string): number {
  const shared = Math.min(a.length, b.length);
  for (let at = 0; at < shared; at += 1) {
    const left = a.charCodeAt(at);
    const right = b.charCodeAt(at);
    if (left === right) continue;
    if (left === SLASH) return -1;
    if (right === SLASH) return 1;
    return left - right;
  }
  return a.length - b.length;
}
const SLASH = 0x2f;

/** What a validated entry is to the receiver. */
export interface Checked {
  /** Path of the directory it is in; empty at the top. */
  readonly parent: string;
  readonly base: string;
}

/**
 * Takes the entries of a listing one by one and refuses the first that is not a clean relative path, comes out of order or twice, lies
 * in something that was not sent as a directory, or is a hard link to a file not sent before.
 */
export class ListingValidator {
  /** Directories from the top to the one being listed, each with the last name seen in it. */
  readonly #open: { dir: string; last: string }[] = [{ dir: '', last: '' }];
  readonly #files = new Set<string>();

  /** @throws BuildError `invalid-input` that names the path. */
  check(stat: Stat): Checked {
    const { path } = stat;
    if (!isCleanRelative(path)) throw refused(path, 'is not a clean relative path');
    const slash = path.lastIndexOf('/');
    const parent = slash === -1 ? '' : path.slice(0, slash);
    const base = path.slice(slash + 1);
    let open = this.#open.at(-1) as { dir: string; last: string };
    while (open.dir !== parent && this.#open.length > 1) {
      this.#open.pop();
      open = this.#open.at(-1) as { dir: string; last: string };
    }
    if (open.dir !== parent) throw refused(path, 'lies in a directory that was not listed before it');
    if (open.last !== '' && open.last >= base)
      throw refused(path, `is listed out of order, after ${JSON.stringify(textOf(open.last))}`);
    open.last = base;
    if (isDirectory(stat.mode)) this.#open.push({ dir: path, last: '' });
    else if (isRegular(stat.mode)) this.#checkLink(stat);
    return { parent, base };
  }

  #checkLink(stat: Stat): void {
    if (stat.linkname === '') this.#files.add(stat.path);
    else if (!this.#files.has(stat.linkname)) {
      throw refused(
        stat.path,
        `is a hard link to ${JSON.stringify(textOf(stat.linkname))}, which was not listed as a file before it`,
      );
    }
  }
}

function isCleanRelative(path: string): boolean {
  if (path === '' || path.includes('\0')) return false;
  for (const part of path.split('/')) if (part === '' || part === '.' || part === '..') return false;
  return true;
}

const refused = (path: string, why: string): BuildError =>
  new BuildError('invalid-input', `refused file transfer: ${JSON.stringify(textOf(path))} ${why}`);
