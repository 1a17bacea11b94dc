/** Digest of the paths one selector names (buildkit-wire.md 7.4). */
import { createHash, hash } from 'node:crypto';
import { posix } from 'node:path';
import { BuildError } from '../../../core/errors.ts';
import { compilePatterns, hasWildcard, matchGlob, type PatternSet, type PatternState } from '../../../core/patterns.ts';
import type { Selector } from '../ports.ts';
import { bytesOf, textOf } from '../tree/names.ts';
import type { ContentTree, TreeNode } from './content-tree.ts';

/** `sha256:<hex>`. @throws BuildError `not-found` when a path that must exist does not. */
export function selectorDigest(tree: ContentTree, selector: Selector): string {
  const path = posix.join('/', bytesOf(selector.path));
  const filtered = selector.includePatterns.length > 0 || selector.excludePatterns.length > 0;
  if (!selector.wildcard && !filtered) return `sha256:${exactDigest(tree, path, selector.followLinks)}`;
  const { prefix, found } = new Selection(tree, selector, path).run();
  for (const required of selector.requiredPaths) {
    if (!found.some((entry) => entry.path.startsWith(bytesOf(required)))) throw notFound(required);
  }
  const digests = found.map((entry) => digestOf(tree, entry, selector.followLinks));
  const [only] = found;
  if (only === undefined) return `sha256:${hash('sha256', '', 'hex')}`;
  if (found.length === 1 && goBase(path) === goBase(only.path)) return `sha256:${digests[0]}`;
  const list = createHash('sha256');
  for (const [index, entry] of found.entries()) {
    const below = (entry.path.startsWith(prefix) ? entry.path.slice(prefix.length) : entry.path).replaceAll('/', '\0');
    list.update(Buffer.from(`${below === '' ? '\0' : below}sha256:${digests[index]}`, 'latin1'));
  }
  return `sha256:${list.digest('hex')}`;
}

/**
 * What a selector selects, as files: hex digest of each entry by its path in the tree. Needs only what `selectorDigest` made known, so a
 * tree without its files will do. @throws for a part of the tree that was never listed.
 */
export function selectedEntries(tree: ContentTree, selector: Selector, entries: Map<string, string>): void {
  const path = posix.join('/', bytesOf(selector.path));
  const filtered = selector.includePatterns.length > 0 || selector.excludePatterns.length > 0;
  if (selector.wildcard || filtered) {
    for (const { node, realPath } of new Selection(tree, selector, path).run().found)
      if (node.entry !== undefined) entries.set(realPath, node.entry);
    return;
  }
  const at = tree.resolve(path, selector.followLinks);
  const open = at === undefined ? [] : [at];
  for (let top = open.pop(); top !== undefined; top = open.pop()) {
    if (top.node.entry !== undefined) entries.set(top.path, top.node.entry);
    for (const [name, node] of tree.childrenOf(top.node, top.path)) open.push({ path: `${top.path}/${name}`, node });
  }
}

const notFound = (path: string): BuildError => new BuildError('not-found', `${JSON.stringify(path)}: not found`);
/** Go's path.Base: of nothing it is `.`. */
const goBase = (path: string): string => (path === '' ? '.' : path === '/' ? '/' : posix.basename(path));

function exactDigest(tree: ContentTree, path: string, followLinks: boolean): string {
  const at = tree.resolve(path, followLinks);
  if (at === undefined) throw notFound(textOf(path));
  return tree.digestOf(at.node, at.path);
}

interface Found {
  /** As the selector would write it: symlinks of its prefix not resolved. */
  readonly path: string;
  /** The same entry's place in the tree. */
  readonly realPath: string;
  readonly node: TreeNode;
  readonly follow: boolean;
}

/** A selected symlink that is to be followed counts as what it points to. */
function digestOf(tree: ContentTree, entry: Found, followLinks: boolean): string {
  if (entry.follow && entry.node.kind === 'link') return exactDigest(tree, entry.path, followLinks);
  return tree.entryOf(entry.node, entry.realPath);
}

/** A directory on the way down: its header is part of the selection once something below it is. */
interface OpenDirectory {
  readonly entry: Found;
  included: boolean;
  readonly include: PatternState | undefined;
  readonly exclude: PatternState | undefined;
}

class Selection {
  readonly #tree: ContentTree;
  readonly #selector: Selector;
  /** '' for the root, else `/a/b`. */
  readonly #path: string;
  readonly #skipOwnHeader: boolean;
  readonly #include: PatternSet | undefined;
  readonly #exclude: PatternSet | undefined;
  readonly #found: Found[] = [];
  readonly #open: OpenDirectory[] = [];
  /** The last path the wildcard matched: everything below it is selected without matching again. */
  #matched = '';

  constructor(tree: ContentTree, selector: Selector, path: string) {
    this.#tree = tree;
    this.#selector = selector;
    this.#path = path === '/' ? '' : path;
    this.#skipOwnHeader = path === '/';
    this.#include = selector.includePatterns.length === 0 ? undefined : compilePatterns(selector.includePatterns.map(bytesOf));
    this.#exclude = selector.excludePatterns.length === 0 ? undefined : compilePatterns(selector.excludePatterns.map(bytesOf));
  }

  run(): { readonly prefix: string; readonly found: readonly Found[] } {
    const [prefix, follow] = this.#selector.wildcard ? splitWildcard(this.#path) : [this.#path, false];
    const start = prefix === '' ? { path: '', node: this.#tree.root } : this.#tree.resolve(prefix, follow);
    if (start !== undefined) this.#visit(start.node, prefix, start.path);
    return { prefix, found: this.#found };
  }

  /** Depth first in byte order. Headers of directories that are on the way are remembered, and taken when something below is. */
  #visit(node: TreeNode, path: string, realPath: string): void {
    const candidate = this.#candidate(path);
    let opened: OpenDirectory | undefined;
    if (candidate !== undefined) {
      const { selected, state } = this.#isSelected(candidate);
      const entry: Found = { path, realPath, node, follow: this.#selector.followLinks && this.#open.length === 0 };
      const header = node.kind === 'dir';
      const skipped = header && this.#skipOwnHeader && path === this.#path;
      if (selected && !skipped) this.#take(entry);
      if (header && !skipped) {
        opened = { entry, included: selected, ...state };
        this.#open.push(opened);
      }
    }
    if (node.kind === 'dir') {
      for (const [name, child] of this.#tree.childrenOf(node, realPath)) {
        this.#visit(child, `${path}/${name}`, `${realPath}/${name}`);
      }
    }
    if (opened !== undefined) this.#open.pop();
  }

  /** The path that patterns are tried on, or undefined when the wildcard leaves the entry out. */
  #candidate(path: string): string | undefined {
    if (!this.#selector.wildcard) return relative(path, this.#path);
    if (this.#path !== '' && (this.#matched === '' || !path.startsWith(`${this.#matched}/`))) {
      if (!matchGlob(this.#path, path)) return undefined;
      this.#matched = path;
    }
    return relative(path, this.#matched);
  }

  #isSelected(candidate: string): { readonly selected: boolean; readonly state: Pick<OpenDirectory, 'include' | 'exclude'> } {
    const parent = this.#open.at(-1);
    const include = this.#include?.visit(candidate, parent?.include);
    if (include !== undefined && !include.matched)
      return { selected: false, state: { include: include.state, exclude: undefined } };
    const exclude = this.#exclude?.visit(candidate, parent?.exclude);
    return { selected: exclude === undefined || !exclude.matched, state: { include: include?.state, exclude: exclude?.state } };
  }

  #take(entry: Found): void {
    for (const directory of this.#open) {
      if (!directory.included) this.#found.push(directory.entry);
      directory.included = true;
    }
    this.#found.push(entry);
  }
}

/** `path` below `base`, without slashes at its ends. */
function relative(path: string, base: string): string {
  const slashed = `${path}/`;
  const below = slashed.startsWith(`${base}/`) ? slashed.slice(base.length + 1) : slashed;
  return below.endsWith('/') ? below.slice(0, -1) : below;
}

/** The components before the first one with a wildcard, and whether a symlink at their end is to be followed. */
function splitWildcard(path: string): [prefix: string, follow: boolean] {
  const parts = path.split('/');
  const first = parts.findIndex((part) => hasWildcard(part));
  return first === -1 ? [path, false] : [parts.slice(0, first).join('/'), true];
}
