/**
 * The tree a file op changes. It is either one directory, or a layer with what it changes on top of a base that is only read: new files
 * are then put straight into the layer, as overlayfs itself would, which needs no mount, makes hard links to other snapshots possible
 * (a link cannot cross into a mount) and asks nothing about directories the base does not have. The layer holds no deletions, so an op
 * that removes something works on a mounted tree instead.
 *
 * Paths are byte strings (snapshot/tree/names.ts) relative to the root, which is the empty string.
 */
import { type BigIntStats, chmodSync, lstatSync, mkdirSync, readlinkSync, rmSync, unlinkSync } from 'node:fs';
import { dirname } from 'node:path/posix';
import { BuildError } from '../../core/errors.ts';
import { bytesOf, fsPath, textOf } from '../snapshot/tree/names.ts';
import { resolveLinks } from '../worker/root-path.ts';
import type { Sys } from '../worker/sys/ports.ts';
import { goCall, pathError } from './go-error.ts';

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}
/** What new directories get besides their mode. */
export interface NewAttributes {
  readonly owner: Owner | undefined;
  readonly timeNs: bigint | undefined;
}

export class TargetTree {
  readonly sys: Sys;
  readonly #layer: string;
  readonly #base: string | undefined;
  /** Directories known to be in the layer. */
  readonly #present = new Set<string>(['']);

  /** `base` undefined: `layer` is the whole tree. */
  constructor(layer: string, base: string | undefined, sys: Sys) {
    this.#layer = bytesOf(layer);
    this.#base = base === undefined ? undefined : bytesOf(base);
    this.sys = sys;
  }

  /** Where `path` is written; its parent must be in the layer (see `enter`). */
  host(path: string): string {
    return path === '' ? this.#layer : `${this.#layer}/${path}`;
  }

  /** Undefined when there is nothing; symlinks are not followed. */
  stat(path: string): BigIntStats | undefined {
    const own = lstat(this.host(path));
    return own !== undefined || this.#base === undefined ? own : lstat(path === '' ? this.#base : `${this.#base}/${path}`);
  }

  /** As resolveInRoot, for a path of text or bytes. */
  resolve(path: string): string {
    return resolveLinks(path, (inside) => (this.stat(inside)?.isSymbolicLink() ? this.#readLink(inside) : undefined));
  }

  /** Makes sure an existing directory is in the layer, with the attributes it has in the base. */
  enter(path: string): void {
    if (this.#base === undefined || this.#present.has(path)) return;
    if (lstat(this.host(path)) === undefined) {
      this.enter(parentOf(path));
      this.#copyUp(path, `${this.#base}/${path}`);
    }
    this.#present.add(path);
  }

  /** A new directory with exactly this mode. */
  makeDirectory(path: string, mode: number): void {
    this.enter(parentOf(path));
    const host = fsPath(this.host(path));
    goCall('mkdir', `/${textOf(path)}`, () => mkdirSync(host));
    chmodSync(host, mode); // not by mkdir: it would subtract our umask
    this.#present.add(path);
  }

  /** Makes a directory and the parents it lacks. The new ones, outermost first. */
  makeDirectories(path: string, mode: number, attributes: NewAttributes): string[] {
    const stat = this.stat(path);
    if (stat?.isDirectory()) return [];
    if (stat !== undefined) throw pathError('mkdir', `/${textOf(path)}`, 'ENOTDIR');
    const made = this.makeDirectories(parentOf(path), mode, attributes);
    this.makeDirectory(path, mode);
    if (attributes.owner !== undefined) this.sys.changeOwner(fsPath(this.host(path)), attributes.owner.uid, attributes.owner.gid);
    if (attributes.timeNs !== undefined) this.setTime(path, attributes.timeNs);
    return [...made, path];
  }

  /** Makes way for a new file at a path that holds none or a file; its directory is then in the layer. */
  makeWay(path: string, existing: BigIntStats | undefined): void {
    this.enter(parentOf(path));
    if (existing === undefined) return;
    if (existing.isDirectory()) throw new BuildError('invalid-input', `cannot replace to directory /${textOf(path)} with file`);
    // In the base it needs no removal: what the layer has hides it.
    if (lstat(this.host(path)) !== undefined) unlinkSync(fsPath(this.host(path)));
  }

  /** Only for a tree that is one directory. */
  remove(path: string): void {
    if (this.#base !== undefined) throw new BuildError('internal', 'a layer cannot hold a deletion');
    rmSync(fsPath(this.host(path)), { recursive: true, force: true });
  }

  setTime(path: string, timeNs: bigint): void {
    this.sys.setTimes(fsPath(this.host(path)), timeNs, timeNs);
  }

  #readLink(path: string): string {
    const own = this.host(path);
    const from = lstat(own) === undefined ? `${this.#base}/${path}` : own;
    return readlinkSync(fsPath(from), { encoding: 'latin1' });
  }

  #copyUp(path: string, from: string): void {
    const stat = lstat(from);
    const to = fsPath(this.host(path));
    if (!stat?.isDirectory()) throw pathError('open', `/${textOf(path)}`, stat === undefined ? 'ENOENT' : 'ENOTDIR');
    mkdirSync(to);
    this.sys.changeOwner(to, Number(stat.uid), Number(stat.gid));
    chmodSync(to, Number(stat.mode) & 0o7777);
    for (const name of this.sys.listXattr(fsPath(from))) {
      const value = name.startsWith('trusted.overlay.') ? undefined : this.sys.getXattr(fsPath(from), name);
      if (value !== undefined) this.sys.setXattr(to, name, value);
    }
    this.sys.setTimes(to, stat.atimeNs, stat.mtimeNs);
  }
}

export const parentOf = (path: string): string => {
  const parent = dirname(path);
  return parent === '.' ? '' : parent;
};

/** Undefined when there is nothing at `path`, or it lies below a file. */
export function lstat(path: string): BigIntStats | undefined {
  try {
    return lstatSync(fsPath(path), { bigint: true, throwIfNoEntry: false });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOTDIR') return undefined;
    throw error;
  }
}
