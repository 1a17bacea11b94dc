/** Paths of a tree that a pattern of COPY or rm matches: Go's filepath.Match on each component (https://pkg.go.dev/path/filepath#Match). */
import { readdirSync } from 'node:fs';
import { join } from 'node:path/posix';
import { hasWildcard, matchGlob } from '../../core/patterns.ts';
import { bytesOf, fsPath, textOf } from '../snapshot/tree/names.ts';
import { resolveInRoot } from '../worker/root-path.ts';
import { pathError } from './go-error.ts';
import { lstat } from './target-tree.ts';

/**
 * Matches as absolute paths of text inside `root`, in byte order; the pattern itself when it holds no wildcard. Symlinks among the
 * components before the first wildcard are followed (the last of them only with `followLinks`), those after it are not.
 * @throws BuildError `not-found` when the directory before the first wildcard does not exist.
 */
export function expandWildcards(root: string, pattern: string, followLinks: boolean): string[] {
  const components = join('/', pattern).split('/').filter(Boolean);
  const first = components.findIndex(hasWildcard);
  if (first === -1) return [pattern];
  const fixed = `/${components.slice(0, first).join('/')}`;
  const base = resolveInRoot(root, fixed, { followLast: followLinks });
  const stat = lstat(bytesOf(base));
  if (stat === undefined) throw pathError('lstat', fixed, 'ENOENT');
  const prefix = base.slice(root.length);
  const found = stat.isDirectory() ? below(bytesOf(base), '', components.slice(first)) : [];
  return found.map((path) => `${prefix}/${textOf(path)}`);
}

function below(dir: string, inner: string, globs: readonly string[]): string[] {
  const [glob, ...rest] = globs;
  if (glob === undefined) return [];
  const found: string[] = [];
  for (const name of readdirSync(fsPath(dir), { encoding: 'latin1' }).sort()) {
    if (!matches(glob, textOf(name))) continue;
    const path = inner === '' ? name : `${inner}/${name}`;
    if (rest.length === 0) found.push(path);
    else if (lstat(`${dir}/${name}`)?.isDirectory() === true) found.push(...below(`${dir}/${name}`, path, rest));
  }
  return found;
}

/** A malformed pattern matches nothing. */
function matches(glob: string, name: string): boolean {
  try {
    return matchGlob(glob, name);
  } catch {
    return false;
  }
}
