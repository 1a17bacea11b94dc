/**
 * Which files of a layer have an inode that another snapshot has too. Copies are hard links where that is possible, and what is stacked
 * must not notice: overlayfs shows the inode numbers of its layers, so one inode in two layers of a stack would be one file for whoever
 * looks (`cp` and `mv` refuse, `tar` and our exporters write a link). So an inode is in at most one layer of a stack. To keep it so,
 * every layer remembers beside its tree, as `fs.linked`, the inode numbers that it shares: 8 bytes each, in this machine's byte order.
 */
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { codeOf } from '../../worker/sys/sys-error.ts';

/** Stands for every inode of the tree. */
const ALL = 0n;
const recordOf = (tree: string): string => `${tree}.linked`;

/** Says that any file of `tree` may be in other snapshots too. */
export function markAllShared(tree: string): void {
  writeFileSync(recordOf(tree), recordsOf([ALL]));
}

/** The links made into one new layer. */
export class SharedFiles {
  readonly #tree: string;
  readonly #below: readonly string[];
  /** Inodes that are in the stack, as far as another snapshot can have them. */
  #taken: Set<bigint> | undefined;
  readonly #linked = new Map<string, Set<bigint>>();

  /** `tree`: directory of the new layer. `below`: directories of the layers under it. */
  constructor(tree: string, below: readonly string[]) {
    this.#tree = tree;
    this.#below = below;
  }

  /** Whether a file of the layer `source` can become part of the new layer; not twice, or one layer would hold a link nobody made. */
  mayLink(source: string, inode: bigint): boolean {
    if (this.#below.includes(source)) return false;
    this.#taken ??= new Set(this.#below.flatMap((layer) => [...sharedBy(layer)]));
    return !this.#taken.has(ALL) && !this.#taken.has(inode);
  }

  /** Tells that it was done. */
  add(source: string, inode: bigint): void {
    this.#taken?.add(inode);
    const inodes = this.#linked.get(source) ?? new Set();
    this.#linked.set(source, inodes.add(inode));
  }

  /** Remembers the links on both sides. To be called before the new layer can be read by others. */
  save(): void {
    for (const [source, inodes] of this.#linked) {
      appendFileSync(recordOf(this.#tree), recordsOf(inodes));
      const known = sharedBy(source);
      const fresh = known.has(ALL) ? [] : [...inodes].filter((inode) => !known.has(inode));
      if (fresh.length > 0) appendFileSync(recordOf(source), recordsOf(fresh));
    }
  }
}

const recordsOf = (inodes: Iterable<bigint>): Uint8Array => new Uint8Array(BigUint64Array.from(inodes).buffer);

function sharedBy(tree: string): Set<bigint> {
  try {
    return new Set(new BigUint64Array(new Uint8Array(readFileSync(recordOf(tree))).buffer));
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return new Set();
    throw error;
  }
}
