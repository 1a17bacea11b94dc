/**
 * What a snapshot changed against what is below it, in the order and with the judgement of the real daemon, so that equal steps give
 * equal layers. With overlayfs its upper directory is the answer; without, both trees are walked side by side.
 */
import { type BigIntStats, closeSync, lstatSync, openSync, readdirSync, readlinkSync, readSync } from 'node:fs';
import { BuildError, cancelled } from '../../../core/errors.ts';
import type { Sys } from '../../worker/sys/ports.ts';
import { codeOf } from '../../worker/sys/sys-error.ts';
import { fsPath, textOf } from '../tree/names.ts';

export type ChangeKind = 'add' | 'modify' | 'delete' | 'unmodified';
/** `path` is a byte string without leading slash; `stat` of what is there now (of the whiteout for a deletion). */
export type OnChange = (kind: ChangeKind, path: string, stat: BigIntStats) => void;

export interface ChangeSource {
  /** Byte strings. `upper`: an overlayfs upper directory, or with `whole` the complete tree. */
  readonly upper: string;
  /** The merged tree below; undefined when there is none. */
  readonly base: string | undefined;
  readonly whole: boolean;
}

const SECOND = 1_000_000_000n;

export function findChanges(source: ChangeSource, sys: Sys, aborted: () => boolean, onChange: OnChange): void {
  new ChangeWalk(source, sys, aborted, onChange).run();
}

class ChangeWalk {
  readonly #source: ChangeSource;
  readonly #sys: Sys;
  readonly #aborted: () => boolean;
  readonly #onChange: OnChange;

  constructor(source: ChangeSource, sys: Sys, aborted: () => boolean, onChange: OnChange) {
    this.#source = source;
    this.#sys = sys;
    this.#aborted = aborted;
    this.#onChange = onChange;
  }

  run(): void {
    if (this.#source.whole) this.#compare('', this.#source.base !== undefined);
    else this.#upper('');
  }

  #names(root: string, dir: string): string[] {
    if (this.#aborted()) throw cancelled();
    return readdirSync(fsPath(at(root, dir)), { encoding: 'latin1' }).sort();
  }

  /** Everything in a directory of the upper tree. */
  #upper(dir: string): void {
    for (const name of this.#names(this.#source.upper, dir)) {
      const path = dir === '' ? name : `${dir}/${name}`;
      const stat = statOf(this.#source.upper, path) as BigIntStats;
      const below = statOf(this.#source.base, path);
      if (isWhiteout(stat)) {
        if (below !== undefined) this.#onChange('delete', path, stat);
        continue;
      }
      if (stat.isDirectory()) this.#refuseRedirect(path);
      if (below === undefined) this.#onChange('add', path, stat);
      else if (!this.#isSame(below, stat, path)) this.#onChange('modify', path, stat);
      if (!stat.isDirectory()) continue;
      // An opaque directory hides all that is below it, so what is gone is found by comparing.
      if (below !== undefined && this.#isOpaque(path)) this.#compare(path, below.isDirectory());
      else this.#upper(path);
    }
  }

  /** Walks a directory of both trees by name. Whiteouts of the upper tree are not there. */
  #compare(dir: string, withBase: boolean): void {
    const { upper, base } = this.#source;
    const now = this.#names(upper, dir);
    const before = withBase && base !== undefined ? this.#names(base, dir) : [];
    for (let n = 0, b = 0; n < now.length || b < before.length; ) {
      const name = now[n];
      const old = before[b];
      if (name === undefined || (old !== undefined && old < name)) {
        b += 1;
        this.#gone(dir === '' ? (old as string) : `${dir}/${old}`);
        continue;
      }
      n += 1;
      const inBoth = name === old;
      if (inBoth) b += 1;
      this.#compareEntry(dir === '' ? name : `${dir}/${name}`, inBoth);
    }
  }

  #gone(path: string): void {
    const stat = statOf(this.#source.base, path);
    if (stat !== undefined) this.#onChange('delete', path, stat);
  }

  #compareEntry(path: string, inBase: boolean): void {
    const stat = statOf(this.#source.upper, path) as BigIntStats;
    if (!this.#source.whole && isWhiteout(stat)) {
      if (inBase) this.#gone(path);
      return;
    }
    const below = inBase ? statOf(this.#source.base, path) : undefined;
    if (below === undefined) this.#onChange('add', path, stat);
    else if (!this.#isSame(below, stat, path)) this.#onChange('modify', path, stat);
    else if (isLinked(stat)) this.#onChange('unmodified', path, stat);
    if (stat.isDirectory()) this.#compare(path, below?.isDirectory() === true);
  }

  /** Equal metadata; for files also equal times, and where those may have been cut to seconds, equal content. */
  #isSame(before: BigIntStats, now: BigIntStats, path: string): boolean {
    if (before.dev === now.dev && before.ino === now.ino) return true;
    if (before.mode !== now.mode || before.uid !== now.uid || before.gid !== now.gid || before.rdev !== now.rdev) return false;
    const [old, current] = [at(this.#source.base ?? '', path), at(this.#source.upper, path)];
    const [a, b] = [old, current].map((file) => this.#sys.getXattr(fsPath(file), 'security.capability'));
    if (!(a ?? Buffer.alloc(0)).equals(b ?? Buffer.alloc(0))) return false;
    if (now.isDirectory()) return true;
    if (before.size !== now.size) return false;
    if (before.mtimeNs !== now.mtimeNs) return false;
    if (now.mtimeNs % SECOND !== 0n) return true;
    if (now.isSymbolicLink()) return readLink(old) === readLink(current);
    if (now.size === 0n) return true;
    return now.isFile() && sameContent(old, current);
  }

  #isOpaque(path: string): boolean {
    const dir = fsPath(at(this.#source.upper, path));
    return ['trusted.overlay.opaque', 'user.overlay.opaque'].some((name) => this.#sys.getXattr(dir, name)?.toString() === 'y');
  }

  /** A renamed directory that only points to its old place: we mount with redirect_dir=off, so somebody else made it. */
  #refuseRedirect(path: string): void {
    const redirect = this.#sys.getXattr(fsPath(at(this.#source.upper, path)), 'trusted.overlay.redirect');
    if (redirect !== undefined)
      throw new BuildError('internal', `${textOf(path)} is an overlayfs redirect, which layers cannot express`, {
        hint: 'load the overlay module with redirect_always_follow=N and redirect_dir=N',
      });
  }
}

const at = (root: string, path: string): string => (path === '' ? root : `${root}/${path}`);

function statOf(root: string | undefined, path: string): BigIntStats | undefined {
  if (root === undefined) return undefined;
  try {
    return lstatSync(fsPath(at(root, path)), { bigint: true, throwIfNoEntry: false });
  } catch (error) {
    if (codeOf(error) === 'ENOTDIR') return undefined;
    throw error;
  }
}

const isWhiteout = (stat: BigIntStats): boolean => stat.isCharacterDevice() && stat.rdev === 0n;
export const isLinked = (stat: BigIntStats): boolean => !stat.isDirectory() && stat.nlink > 1n;
const readLink = (path: string): string => readlinkSync(fsPath(path), { encoding: 'latin1' });

const CHUNK = 256 * 1024;
const left = Buffer.allocUnsafeSlow(CHUNK);
const right = Buffer.allocUnsafeSlow(CHUNK);

function sameContent(a: string, b: string): boolean {
  const one = openSync(fsPath(a), 'r');
  try {
    const two = openSync(fsPath(b), 'r');
    try {
      for (let position = 0; ; position += CHUNK) {
        const size = readSync(one, left, 0, CHUNK, position);
        if (readSync(two, right, 0, CHUNK, position) !== size) return false;
        if (!left.subarray(0, size).equals(right.subarray(0, size))) return false;
        if (size < CHUNK) return true;
      }
    } finally {
      closeSync(two);
    }
  } finally {
    closeSync(one);
  }
}
