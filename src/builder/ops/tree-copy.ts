/**
 * COPY: a file or tree from one root into another, with Docker's rules of what replaces what. A file that keeps owner, mode and time is
 * hard-linked when both sides are on one file system: its source is a committed snapshot that nobody writes to again, and what is
 * stacked on the result is written by overlayfs's copy-up (or copied whole), never through the shared inode.
 */
import { type BigIntStats, chmodSync, constants, copyFileSync, linkSync, readdirSync, readlinkSync, symlinkSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path/posix';
import { BuildError, cancelled } from '../../core/errors.ts';
import { compilePatterns, type PatternSet, type PatternState } from '../../core/patterns.ts';
import type { TaskContext } from '../../core/worker-pool.ts';
import { major, minor } from '../snapshot/tree/copy-task.ts';
import { bytesOf, fsPath, textOf } from '../snapshot/tree/names.ts';
import type { SharedFiles } from '../snapshot/tree/shared-files.ts';
import type { ModeChange } from './chmod-mode.ts';
import { goCall, pathError } from './go-error.ts';
import { copySparse, isSparse } from './sparse-copy.ts';
import { lstat, type NewAttributes, parentOf, type TargetTree } from './target-tree.ts';

export interface CopyRules extends NewAttributes {
  /** Changes the permission bits of everything copied. */
  readonly mode: ModeChange | undefined;
  /** Mode of directories that have to be made for the destination. */
  readonly parentMode: number;
  /** A directory's content is copied, not the directory itself. */
  readonly dirCopyContents: boolean;
  /** What is in the way of something of another type is removed. */
  readonly alwaysReplace: boolean;
  readonly includePatterns: readonly string[];
  readonly excludePatterns: readonly string[];
}

/** The source: a path below a root that nobody writes to. */
export interface CopySource {
  readonly root: string;
  /** Resolved, relative to the root; a byte string. */
  readonly path: string;
  /** What it is called in an existing directory: the last component as the user wrote it, which may be a symlink to `path`. */
  readonly name: string;
}

interface Filter {
  readonly patterns: PatternSet;
  readonly hasNegation: boolean;
}
interface Delayed {
  readonly source: string;
  readonly target: string;
  copied: boolean;
}
interface Match {
  readonly include: PatternState | undefined;
  readonly exclude: PatternState | undefined;
}

const S_IFREG = 0o100000;
const SETGID = 0o2000n;

/** Copies to `destination` (a path as the user wrote it, trailing slash kept). */
export function copyInto(
  source: CopySource,
  destination: string,
  target: TargetTree,
  rules: CopyRules,
  shared: SharedFiles,
  context: TaskContext,
): void {
  const last = basename(destination);
  const namesDirectory = destination.endsWith('/') || last === '.' || last === '';
  const made = target.makeDirectories(
    target.resolve(bytesOf(namesDirectory ? destination : dirname(destination))),
    rules.parentMode,
    rules,
  );
  const from = source.path === '' ? bytesOf(source.root) : `${bytesOf(source.root)}/${source.path}`;
  const stat = lstat(from);
  if (stat === undefined) throw pathError('lstat', `/${textOf(source.path)}`, 'ENOENT');
  let to = target.resolve(bytesOf(destination));
  const existing = target.stat(to);
  const intoExisting = stat.isDirectory() ? !rules.dirCopyContents && existing !== undefined : existing?.isDirectory() === true;
  if (intoExisting) to = relative('/', join('/', to, source.name));
  const contents = rules.dirCopyContents && stat.isDirectory() && existing === undefined;
  made.push(...target.makeDirectories(contents ? to : parentOf(to), rules.parentMode, rules));
  new TreeCopy(source.root, target, rules, shared, context).copy(from, '', to, {
    overwrite: false,
    fresh: false,
    match: { include: undefined, exclude: undefined },
  });
  if (rules.timeNs !== undefined) for (const path of made.reverse()) target.setTime(path, rules.timeNs);
}

class TreeCopy {
  readonly #target: TargetTree;
  readonly #root: string;
  readonly #rules: CopyRules;
  readonly #shared: SharedFiles;
  readonly #context: TaskContext;
  readonly #include: Filter | undefined;
  readonly #exclude: Filter | undefined;
  /** Where the first name of an inode with several names went. */
  readonly #inodes = new Map<string, string>();
  readonly #parents: Delayed[] = [];
  readonly #mayLink: boolean;
  /** Device of the layer; files of another cannot be linked. */
  readonly #device: bigint | undefined;

  constructor(root: string, target: TargetTree, rules: CopyRules, shared: SharedFiles, context: TaskContext) {
    this.#root = root;
    this.#target = target;
    this.#shared = shared;
    this.#rules = rules;
    this.#context = context;
    this.#include = filterOf(rules.includePatterns);
    this.#exclude = filterOf(rules.excludePatterns);
    this.#mayLink = rules.owner === undefined && rules.mode === undefined && rules.timeNs === undefined;
    this.#device = lstat(target.host(''))?.dev;
  }

  /**
   * `inner` is the path below the copied root, which the patterns are about. `overwrite`: an existing directory takes the source's
   * attributes. `fresh`: the directory was made a moment ago, so nothing can be in the way.
   */
  copy(
    source: string,
    inner: string,
    to: string,
    { overwrite, fresh, match }: { readonly overwrite: boolean; readonly fresh: boolean; readonly match: Match },
  ): void {
    const included = inner === '' ? { wanted: true, excluded: false, match } : this.#match(inner, match);
    if (!included.wanted && !this.#mayHoldWanted(inner, included.excluded)) return;
    const stat = lstat(source);
    if (stat === undefined) throw pathError('lstat', textOf(inner), 'ENOENT');
    if (!included.wanted && !stat.isDirectory()) return;
    let existing = fresh ? undefined : this.#target.stat(to);
    if (included.wanted) {
      if (this.#rules.alwaysReplace && existing !== undefined && !(stat.isDirectory() && existing.isDirectory())) {
        this.#target.remove(to);
        existing = undefined;
      }
      this.#makeParents();
    }
    if (stat.isDirectory()) this.#copyDirectory(source, inner, to, stat, existing, overwrite, included);
    else this.#copyFile(source, to, stat, existing);
  }

  #copyDirectory(
    source: string,
    inner: string,
    to: string,
    stat: BigIntStats,
    existing: BigIntStats | undefined,
    overwrite: boolean,
    { wanted, match }: { readonly wanted: boolean; readonly match: Match },
  ): void {
    if (this.#context.aborted()) throw cancelled();
    const created = wanted && this.#directoryOnly(to, existing, Number(stat.mode) & 0o7777, overwrite);
    this.#parents.push({ source, target: to, copied: wanted });
    for (const name of readdirSync(fsPath(source), { encoding: 'latin1' }).sort()) {
      this.copy(`${source}/${name}`, inner === '' ? name : `${inner}/${name}`, to === '' ? name : `${to}/${name}`, {
        overwrite: true,
        fresh: created,
        match,
      });
    }
    this.#parents.pop();
    if (wanted && (created || overwrite)) this.#attributes(source, to, stat, created);
    else if (wanted && existing !== undefined) {
      this.#target.enter(to);
      this.#times(to, stat);
    }
  }

  /** True when it was made. */
  #directoryOnly(to: string, existing: BigIntStats | undefined, mode: number, overwrite: boolean): boolean {
    if (existing === undefined && to !== '') {
      this.#target.makeDirectory(to, mode);
      return true;
    }
    if (existing !== undefined && !existing.isDirectory()) {
      throw new BuildError('invalid-input', `cannot copy to non-directory: /${textOf(to)}`);
    }
    this.#target.enter(to);
    if (overwrite) chmodSync(fsPath(this.#target.host(to)), mode);
    return false;
  }

  /** Directories that matched no pattern are made once something below them does. */
  #makeParents(): void {
    for (const parent of this.#parents) {
      if (parent.copied) continue;
      parent.copied = true;
      const stat = lstat(parent.source);
      if (stat === undefined) throw pathError('lstat', textOf(parent.source), 'ENOENT');
      const created = this.#directoryOnly(parent.target, this.#target.stat(parent.target), Number(stat.mode) & 0o7777, true);
      if (created) this.#attributes(parent.source, parent.target, stat, true);
    }
  }

  #copyFile(source: string, to: string, stat: BigIntStats, existing: BigIntStats | undefined): void {
    this.#target.makeWay(to, existing);
    const host = this.#target.host(to);
    if (stat.isFile()) {
      if (this.#linked(source, host, stat)) return;
      goCall('copy', `/${textOf(to)}`, () => this.#content(source, host, stat));
    } else if (stat.isSymbolicLink()) symlinkSync(readlinkSync(fsPath(source), { encoding: 'buffer' }), fsPath(host));
    else this.#node(host, stat);
    this.#attributes(source, to, stat, true);
  }

  /** True when the name was given to an inode that exists: another name of the same file, or the source itself. */
  #linked(source: string, host: string, stat: BigIntStats): boolean {
    const inode = `${stat.dev}:${stat.ino}`;
    const first = stat.nlink > 1n ? this.#inodes.get(inode) : undefined;
    if (first !== undefined) {
      linkSync(fsPath(first), fsPath(host));
      return true;
    }
    const sharable = this.#mayLink && stat.dev === this.#device && this.#shared.mayLink(this.#root, stat.ino);
    if (stat.nlink > 1n || sharable) this.#inodes.set(inode, host);
    if (!sharable) return false;
    try {
      linkSync(fsPath(source), fsPath(host));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EMLINK' || code === 'EXDEV' || code === 'EPERM') return false;
      throw error;
    }
    this.#shared.add(this.#root, stat.ino);
    return true;
  }

  #content(source: string, host: string, stat: BigIntStats): void {
    if (isSparse(stat)) copySparse(fsPath(source), fsPath(host), Number(stat.size));
    else copyFileSync(fsPath(source), fsPath(host), constants.COPYFILE_FICLONE | constants.COPYFILE_EXCL);
    this.#context.progress(Number(stat.size));
  }

  /** Devices and pipes as they are; a socket is of use to nobody and becomes an empty file. */
  #node(host: string, stat: BigIntStats): void {
    const mode = stat.isSocket() ? S_IFREG | (Number(stat.mode) & 0o7777) : Number(stat.mode);
    this.#target.sys.makeNode(fsPath(host), mode, major(stat.rdev), minor(stat.rdev));
  }

  /** The mode after the owner, since chown clears setuid; extended attributes that cannot be set are left out, as Docker does. */
  #attributes(source: string, to: string, stat: BigIntStats, created: boolean): void {
    const { sys } = this.#target;
    const host = fsPath(this.#target.host(to));
    const uid = this.#rules.owner?.uid ?? Number(stat.uid);
    const gid = this.#rules.owner?.gid ?? Number(stat.gid);
    // What we make is root's already, unless a directory with the setgid bit gave it its group.
    const inherits = lstat(this.#target.host(parentOf(to)))?.mode ?? SETGID;
    if (!created || uid !== 0 || gid !== 0 || (inherits & SETGID) !== 0n) sys.changeOwner(host, uid, gid);
    if (!stat.isSymbolicLink()) {
      const mode = Number(stat.mode) & 0o7777;
      chmodSync(host, this.#rules.mode?.(mode, stat.isDirectory()) ?? mode);
    }
    for (const name of sys.listXattr(fsPath(source))) {
      if (name.startsWith('trusted.overlay.')) continue;
      const value = sys.getXattr(fsPath(source), name);
      try {
        if (value !== undefined) sys.setXattr(host, name, value);
      } catch {
        // The target's file system does not have this kind.
      }
    }
    this.#times(to, stat);
  }

  #times(to: string, stat: BigIntStats): void {
    const { timeNs } = this.#rules;
    this.#target.sys.setTimes(fsPath(this.#target.host(to)), timeNs ?? stat.atimeNs, timeNs ?? stat.mtimeNs);
  }

  #match(inner: string, parent: Match): { readonly wanted: boolean; readonly excluded: boolean; readonly match: Match } {
    const path = textOf(inner);
    const include = this.#include?.patterns.visit(path, parent.include);
    const exclude = this.#exclude?.patterns.visit(path, parent.exclude);
    const excluded = exclude?.matched === true;
    return {
      wanted: include?.matched !== false && !excluded,
      excluded,
      match: { include: include?.state, exclude: exclude?.state },
    };
  }

  /** Whether a directory that is not wanted itself can hold something that is. */
  #mayHoldWanted(inner: string, excluded: boolean): boolean {
    if (excluded && this.#exclude?.hasNegation !== true) return false;
    return excluded || this.#include?.patterns.mayMatchBelow(textOf(inner)) !== false;
  }
}

function filterOf(patterns: readonly string[]): Filter | undefined {
  if (patterns.length === 0) return undefined;
  return { patterns: compilePatterns(patterns), hasNegation: patterns.some((pattern) => pattern.trim().startsWith('!')) };
}
