/** Turns the paths that a build names into include patterns: themselves, and whatever the symlinks on the way to them point to. */
import { lstatSync, readdirSync, readlinkSync } from 'node:fs';
import { posix } from 'node:path';
import { hasWildcard, matchGlob } from '../../../core/patterns.ts';

/**
 * Sorted, without those that lie below another one; `['.']` when one of them is the root. Paths may hold wildcards, which stay as they
 * are. Absolute paths and links start at `root`, and `..` does not leave it. What does not exist is no error: the pattern matches nothing.
 */
export function followPaths(root: string, paths: readonly string[]): string[] {
  const resolver = new Resolver(root);
  for (const path of paths) resolver.add(path);
  const sorted = [...resolver.found].sort();
  if (sorted.includes('.')) return ['.'];
  const outermost: string[] = [];
  for (const path of sorted) if (!path.startsWith(`${outermost.at(-1)}/`)) outermost.push(path);
  return outermost;
}

class Resolver {
  readonly found = new Set<string>();
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }

  /** Goes down component by component; at a symlink it goes on behind each of its targets instead. Met again, a path ends the search. */
  add(path: string): void {
    const parts = posix
      .join('/', path)
      .split('/')
      .filter((part) => part !== '');
    let current = '.';
    for (const [at, part] of parts.entries()) {
      current = posix.join(current, part);
      const targets = this.#targetsOf(current);
      if (targets.length === 0) continue;
      if (this.found.has(current)) return;
      this.found.add(current);
      for (const target of targets) this.add(posix.join(target, ...parts.slice(at + 1)));
      return;
    }
    this.found.add(current);
  }

  /** Targets of the symlink at `path`, or of all symlinks that a wildcard in its last component names; from the root. */
  #targetsOf(path: string): string[] {
    const { dir, base } = posix.parse(path);
    if (!hasWildcard(base)) return this.#linkAt(path);
    return this.#namesIn(dir)
      .filter((name) => matchGlob(base, name))
      .flatMap((name) => this.#linkAt(posix.join(dir, name)));
  }

  #linkAt(path: string): string[] {
    try {
      const absolute = posix.join(this.#root, path);
      if (!lstatSync(absolute).isSymbolicLink()) return [];
      const target = readlinkSync(absolute);
      return [posix.isAbsolute(target) ? target : posix.join('/', posix.dirname(path), target)];
    } catch {
      return [];
    }
  }

  #namesIn(dir: string): string[] {
    try {
      return readdirSync(posix.join(this.#root, dir));
    } catch {
      return [];
    }
  }
}
