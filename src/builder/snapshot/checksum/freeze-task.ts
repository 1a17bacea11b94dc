/**
 * Freezes a named directory: a tree of hard links beside it, with the whole listing and the digests that are known, so that the
 * checksum of a local source needs no walk and no hashing.
 */
import { hash } from 'node:crypto';
import { type BigIntStats, linkSync, rmSync } from 'node:fs';
import { type Digest, hexOf } from '../../../core/digest.ts';
import type { TaskContext } from '../../../core/worker-pool.ts';
import { TreeCopier } from '../tree/copy-task.ts';
import { bytesOf } from '../tree/names.ts';
import { markAllShared } from '../tree/shared-files.ts';
import { newNode, type TreeNode } from './content-tree.ts';
import { readDigests, writeDigests } from './digest-file.ts';

export interface FreezeArgs {
  readonly from: string;
  /** An existing empty directory. */
  readonly to: string;
  /** Where the digests of the new tree go. */
  readonly digests: string;
  /** Digests of the directory at its last freeze; replaced by the new ones. */
  readonly known: string;
  /** Entry digests of what arrived since. */
  readonly received: ReadonlyMap<string, Digest> | undefined;
}
export interface FreezeOutput {
  readonly entries: number;
}

export function freezeTree(args: FreezeArgs, context: TaskContext): FreezeOutput {
  const before = args.received === undefined ? undefined : readDigests(args.known);
  rmSync(args.known, { force: true });
  const listing = new Listing(before, args.received);
  new TreeCopier('link', context, (path, stat) => listing.add(path, stat)).directory(bytesOf(args.from), bytesOf(args.to));
  // The transfer that fills a local source never names its root, so the real daemon keys it with the hash of nothing.
  listing.root.entry = hash('sha256', '', 'hex');
  writeDigests(args.digests, listing.sorted());
  markAllShared(args.to);
  linkSync(args.digests, args.known);
  return { entries: listing.entries };
}

class Listing {
  readonly root = newNode('dir');
  entries = 0;
  readonly #before: TreeNode | undefined;
  readonly #received: ReadonlyMap<string, string> | undefined;
  /** The directory of the last entry: entries of one directory come together. */
  #last: { path: string; node: TreeNode; before: TreeNode | undefined };

  constructor(before: TreeNode | undefined, received: ReadonlyMap<string, Digest> | undefined) {
    this.#before = before;
    this.#received =
      received === undefined ? undefined : new Map([...received].map(([path, digest]) => [bytesOf(path), hexOf(digest)]));
    this.root.children = new Map();
    this.#last = { path: '', node: this.root, before };
  }

  add(path: string, stat: BigIntStats): void {
    this.entries += 1;
    const slash = path.lastIndexOf('/');
    const name = path.slice(slash + 1);
    const { node, before } = this.#directory(slash === -1 ? '' : path.slice(0, slash));
    const entry = newNode(stat.isDirectory() ? 'dir' : stat.isSymbolicLink() ? 'link' : 'file');
    if (entry.kind === 'dir') entry.children = new Map();
    else if (stat.isFile()) {
      entry.ino = stat.ino;
      entry.mtimeNs = stat.mtimeNs;
      const known = before?.children?.get(name);
      const same = known !== undefined && known.kind === 'file' && known.ino === stat.ino && known.mtimeNs === stat.mtimeNs;
      entry.entry = this.#received?.get(path) ?? (same ? known.entry : undefined);
    }
    node.children?.set(name, entry);
  }

  #directory(path: string): { readonly node: TreeNode; readonly before: TreeNode | undefined } {
    if (this.#last.path === path) return this.#last;
    let node = this.root;
    let before = this.#before;
    for (const name of path === '' ? [] : path.split('/')) {
      node = node.children?.get(name) ?? node;
      before = before?.children?.get(name);
    }
    this.#last = { path, node, before };
    return this.#last;
  }

  /** Children in byte order, as ContentTree wants them. */
  sorted(node: TreeNode = this.root): TreeNode {
    if (node.children !== undefined) {
      node.children = new Map([...node.children].sort(([a], [b]) => (a < b ? -1 : 1)));
      for (const child of node.children.values()) this.sorted(child);
    }
    return node;
  }
}
