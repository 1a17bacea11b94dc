/**
 * A snapshot's tree with the digests known so far (buildkit-wire.md 7.4). Directories are listed and entries hashed when somebody asks;
 * what was found can be saved beside the snapshot, whose content never changes, and is true forever.
 */
import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readlinkSync } from 'node:fs';
import { BuildError, cancelled } from '../../../core/errors.ts';
import type { Sys } from '../../worker/sys/ports.ts';
import { fsPath } from '../tree/names.ts';
import { entryDigest } from './entry-digest.ts';

export interface TreeNode {
  readonly kind: 'dir' | 'file' | 'link';
  /** Hex digest of the entry itself: file, symlink, or a directory's header. */
  entry: string | undefined;
  /** Directories: hex digest over everything inside. */
  whole: string | undefined;
  /** Directories: by name, in byte order; undefined until listed. */
  children: Map<string, TreeNode> | undefined;
  /** Symlinks: where it points, a byte string; undefined until read. */
  target: string | undefined;
  /** Regular files of a directory that goes on changing: tells whether `entry` still holds. */
  ino: bigint;
  mtimeNs: bigint;
}

export const newNode = (kind: TreeNode['kind']): TreeNode => ({
  kind,
  entry: undefined,
  whole: undefined,
  children: undefined,
  target: undefined,
  ino: 0n,
  mtimeNs: 0n,
});

const MAX_LINKS = 255;

export class ContentTree {
  readonly root: TreeNode;
  readonly #dir: string;
  readonly #sys: Sys;
  readonly #aborted: () => boolean;
  /** True when something was found that `root` did not hold at first. */
  changed = false;

  /** `dir`: the merged tree, a byte string. */
  constructor(dir: string, root: TreeNode, sys: Sys, aborted: () => boolean) {
    this.#dir = dir;
    this.root = root;
    this.#sys = sys;
    this.#aborted = aborted;
  }

  /** Children by name in byte order; `path` is '' for the root, else `/a/b`. Not a directory: none. */
  childrenOf(node: TreeNode, path: string): ReadonlyMap<string, TreeNode> {
    if (node.kind !== 'dir') return NONE;
    if (node.children !== undefined) return node.children;
    this.#check();
    const entries = readdirSync(fsPath(this.#dir + path), { encoding: 'latin1', withFileTypes: true });
    entries.sort((a, b) => (a.name < b.name ? -1 : 1));
    node.children = new Map(
      entries.map((entry) => [entry.name, newNode(entry.isDirectory() ? 'dir' : entry.isSymbolicLink() ? 'link' : 'file')]),
    );
    this.changed = true;
    return node.children;
  }

  /** Of the entry itself; for a directory, of its header. */
  entryOf(node: TreeNode, path: string): string {
    if (node.entry === undefined) {
      this.#check();
      const full = this.#dir + path;
      node.entry = entryDigest(full, lstatSync(fsPath(full)), this.#sys);
      this.changed = true;
    }
    return node.entry;
  }

  /** What a selector that names exactly this path gets: a directory with all that is in it, anything else itself. */
  digestOf(node: TreeNode, path: string): string {
    if (node.kind !== 'dir') return this.entryOf(node, path);
    if (node.whole === undefined) {
      const digest = createHash('sha256').update(`\0sha256:${this.entryOf(node, path)}`);
      for (const [name, child] of this.childrenOf(node, path)) {
        digest.update(Buffer.from(`\0${name}sha256:${this.digestOf(child, `${path}/${name}`)}`, 'latin1'));
      }
      node.whole = digest.digest('hex');
      this.changed = true;
    }
    return node.whole;
  }

  /**
   * The entry at a clean absolute path ('' is the root), with symlinks of parents followed inside the tree, and of the last component
   * too when `followLast`. Undefined when there is none. @throws BuildError `invalid-input` for a loop of links.
   */
  resolve(wanted: string, followLast: boolean): { readonly path: string; readonly node: TreeNode } | undefined {
    const rest = wanted.split('/').reverse();
    let at: { path: string; node: TreeNode }[] = [{ path: '', node: this.root }];
    let links = 0;
    while (rest.length > 0) {
      const name = rest.pop() as string;
      if (name === '' || name === '.') continue;
      if (name === '..') {
        if (at.length > 1) at.pop();
        continue;
      }
      const here = at.at(-1) as { path: string; node: TreeNode };
      const node = this.childrenOf(here.node, here.path).get(name);
      if (node === undefined) return undefined;
      const path = `${here.path}/${name}`;
      if (node.kind !== 'link' || (!followLast && !rest.some((part) => part !== ''))) {
        at.push({ path, node });
        continue;
      }
      links += 1;
      if (links > MAX_LINKS) throw new BuildError('invalid-input', 'too many links');
      const target = this.#targetOf(node, path);
      if (target.startsWith('/')) at = at.slice(0, 1);
      rest.push(...target.split('/').reverse());
    }
    return at.at(-1);
  }

  #targetOf(node: TreeNode, path: string): string {
    node.target ??= readlinkSync(fsPath(this.#dir + path), { encoding: 'latin1' });
    return node.target;
  }

  #check(): void {
    if (this.#aborted()) throw cancelled();
  }
}

const NONE: ReadonlyMap<string, TreeNode> = new Map();
